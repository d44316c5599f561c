package console_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// evil is what must be shown as text wherever it comes from.
const evil = `<script>window.pwned=1</script><img src=x onerror=window.pwned=1>`

// visitor uses the console of a server in a browser.
type visitor struct {
	t    *testing.T
	tab  context.Context
	site string // URL of the server

	allowErrors bool // the test provokes error responses

	clicks, fields, presses int  // of the job that is done
	working                 bool // a job is being done
	jobs                    []string

	mu         sync.Mutex
	complaints []string
}

// visit opens a browser on a server, not yet signed in. A console error, or a
// request to another origin, fails the test.
func visit(t *testing.T, site string) *visitor {
	t.Helper()
	v := &visitor{t: t, tab: chromium.New(t), site: site}
	require.NoError(t, chromedp.Listen(v.tab, v.listen))
	t.Cleanup(func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		assert.Empty(t, v.complaints)
	})
	return v
}

func (v *visitor) listen(event any) {
	complaint := ""
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		// A data URL is an icon of the browser's own form controls.
		if u := e.Request.URL; !strings.HasPrefix(u, v.site+"/") && !strings.HasPrefix(u, "data:image/svg+xml") {
			complaint = "a request to " + u
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			complaint = fmt.Sprintf("console.%s", e.Type)
			for _, arg := range e.Args {
				complaint += " " + string(arg.Value) + arg.Description
			}
		}
	case *cdplog.EventEntryAdded:
		// An error response that the test provokes is not a fault of the page.
		provoked := v.allowErrors && e.Entry.Source == cdplog.EntrySourceNetwork
		if e.Entry.Level == cdplog.EntryLevelError && !provoked && !strings.Contains(e.Entry.Text, "status of 422") {
			complaint = e.Entry.Text + " " + e.Entry.URL
		}
	}
	if complaint != "" {
		v.mu.Lock()
		v.complaints = append(v.complaints, complaint)
		v.mu.Unlock()
	}
}

func (v *visitor) do(steps ...chromedp.Action[chromedp.Void]) {
	v.t.Helper()
	require.NoError(v.t, chromedp.Do(v.tab, steps...))
}

// open goes to a page and waits until it has loaded what it shows.
func (v *visitor) open(path string) {
	v.t.Helper()
	require.False(v.t, v.working, "a job reaches pages by links")
	v.do(chromedp.Navigate(v.site + path))
	v.settled()
}

// settled waits until nothing is being loaded.
func (v *visitor) settled() {
	v.t.Helper()
	v.until(`document.readyState === "complete" && !document.querySelector("main .loading:not([hidden] *)")`)
}

// until waits until an expression is true, over navigations too.
func (v *visitor) until(expression string) {
	v.t.Helper()
	v.untilSays(expression, "")
}

func (v *visitor) untilSays(expression, why string) {
	v.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(v.tab, patience)
	defer cancel()
	for {
		if ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+expression+")")); err == nil && ok {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			text, _ := chromedp.Run(v.tab, chromedp.Evaluate[string]("location.href + '\\n' + document.body.innerText"))
			require.FailNow(v.t, "it never became true: "+expression, "%s\n%s", why, text)
		}
	}
}

// eval evaluates an expression, which may be asynchronous.
func eval[T any](v *visitor, expression string) T {
	v.t.Helper()
	value, err := chromedp.Run(v.tab, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	require.NoError(v.t, err, expression)
	return value
}

// shows waits until an element's text contains another.
func (v *visitor) shows(selector, text string) {
	v.t.Helper()
	v.untilSays(fmt.Sprintf("[...document.querySelectorAll(%s)].some((e) => e.innerText.includes(%s))", quote(selector), quote(text)), "")
}

func (v *visitor) text(selector string) string {
	v.t.Helper()
	return eval[string](v, fmt.Sprintf("document.querySelector(%s).innerText", quote(selector)))
}

// click clicks the first element that can be seen, once it is there.
func (v *visitor) click(selector string) {
	v.t.Helper()
	v.until(fmt.Sprintf("document.querySelector(%s)?.checkVisibility()", quote(selector)))
	v.do(chromedp.Click(chromedp.CSS(selector)))
	v.clicks++
}

// follow clicks a link and waits until the page has loaded that it leads to.
func (v *visitor) follow(selector, arrived string) {
	v.t.Helper()
	v.click(selector)
	v.until(arrived)
	v.settled()
}

// menu goes to a page by the sidebar.
func (v *visitor) menu(page string) {
	v.t.Helper()
	v.follow(fmt.Sprintf(`.side nav a[href$="/%s"]`, page), fmt.Sprintf(`location.pathname === "/admin/%s"`, page))
}

// fill types into a field in place of what it holds, or selects an option once it is there.
func (v *visitor) fill(selector, text string) {
	v.t.Helper()
	v.until(fmt.Sprintf(`((e) => e?.checkVisibility() && (!e.options || [...e.options].some((o) => o.value === %s)))(document.querySelector(%s))`, quote(text), quote(selector)))
	v.fields++
	eval[bool](v, fmt.Sprintf(`(() => {
		const field = document.querySelector(%s);
		field.value = %s;
		field.dispatchEvent(new Event("input", {bubbles: true}));
		field.dispatchEvent(new Event("change", {bubbles: true}));
		return true;
	})()`, quote(selector), quote(text)))
}

// confirm presses the button of the dialog that goes ahead.
func (v *visitor) confirm() {
	v.t.Helper()
	v.click("dialog[open] #dialog-yes")
}

// signIn signs in from wherever it is sent.
func (v *visitor) signIn() {
	v.t.Helper()
	v.do(chromedp.Navigate(v.site + "/admin/"))
	v.until(`location.pathname === "/login" && document.readyState === "complete"`)
	v.signInHere()
}

// signInHere fills in the page where one signs in.
func (v *visitor) signInHere() {
	v.t.Helper()
	v.fill("input[name=username]", "admin")
	v.fill("input[name=password]", password)
	v.click("form button")
	v.until(`location.pathname !== "/login" && document.readyState === "complete"`)
	v.settled()
}

// clean asserts that nothing that others have written became part of the page.
func (v *visitor) clean() {
	v.t.Helper()
	require.True(v.t, eval[bool](v, `window.pwned === undefined && document.querySelectorAll("body script, body img").length === 0`))
}

// quote is text as a JSON string, which is one of JavaScript too.
func quote(text string) string {
	var out strings.Builder
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text)
	return strings.TrimSpace(out.String())
}
