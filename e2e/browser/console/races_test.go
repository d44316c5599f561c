package console_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// before puts a handler before the server, which may pass requests on.
func (g *gate) before(handle http.HandlerFunc) { g.answer.Store(&handle) }

// onNewPage runs a script on each page that is opened from now on, before its own scripts.
func (v *visitor) onNewPage(script string) {
	v.t.Helper()
	_, err := chromedp.Call(v.tab, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
	require.NoError(v.t, err)
}

// TestPages_slowServer_staySteady does what an operator does while responses are under way.
func TestPages_slowServer_staySteady(t *testing.T) {
	t.Parallel()
	v, g := visitGate(t)
	for _, part := range []struct {
		name string
		do   func(*gate)
	}{
		{"switches change in turn", v.switchesInTurn},
		{"late messages stay unseen", v.lateMessages},
		{"a second press starts nothing", v.pressedTwice},
		{"a hidden page polls once", v.pollsOnce},
		{"a pasted key stays out of addresses", v.keyStaysOut},
		{"a bulk change that stops reports what it did", v.halfOfMany},
		{"a misspelled filter is rejected", v.misspelledFilter},
		{"numbers are right", v.numbers},
		{"a page shows the current attempt", v.nextAttempt},
	} {
		t.Run(part.name, func(t *testing.T) {
			v.t = t
			defer g.open()
			part.do(g)
		})
	}
	v.t = t
}

// switchesInTurn holds two changes of a channel, one while the other is under way, to
// apply both and to keep a change that was made elsewhere.
func (v *visitor) switchesInTurn(g *gate) {
	const path = "/assistants/7/channel"
	stored := func() string {
		c := api(v.t, v.site, "GET "+path, nil)
		return fmt.Sprint(c["enabled"], c["allow_callback_urls"])
	}
	api(v.t, v.site, "PUT "+path, map[string]any{"enabled": true, "allow_callback_urls": false})
	v.open("/admin/assistants/7")
	g.before(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			time.Sleep(200 * time.Millisecond)
		}
		g.through.ServeHTTP(w, r)
	})
	eval[bool](v, `(document.querySelectorAll("#channel input").forEach((box) => box.click()), true)`)
	v.until(`[...document.querySelectorAll("#channel input")].map((box) => box.checked).join() === "false,true"`)
	v.until(`!document.querySelector("#channel [aria-busy], #channel :disabled")`)
	require.Equal(v.t, "false true", stored())
	g.open()
	v.open("/admin/assistants/7")
	api(v.t, v.site, "PUT "+path, map[string]any{"enabled": false, "allow_callback_urls": false})
	v.click("#channel input")
	v.shows("#notices", "Accepts triggers: on")
	require.Equal(v.t, "true false", stored(), "a switch leaves the other one as it is stored")
	v.until(`!document.querySelectorAll("#channel input")[1].checked`)
}

// lateMessages holds the messages of a run that were loaded before its end, and arrive after
// those that were loaded at its end, to stay unseen.
func (v *visitor) lateMessages(g *gate) {
	run := v.trigger("/ask How long?\n/say Two days.")
	v.ends(run, "waiting")
	var asked atomic.Int32
	late := make(chan struct{})
	g.before(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/messages") || asked.Add(1) > 1 {
			g.through.ServeHTTP(w, r)
			return
		}
		hold(g, w, r, late)
	})
	v.do(chromedp.Navigate(fmt.Sprintf("%s/admin/runs/%d", v.site, run)))
	require.Eventually(v.t, func() bool { return asked.Load() == 1 }, patience, time.Millisecond)
	input := api(v.t, v.site, fmt.Sprintf("GET /runs/%d", run), nil)["inputs"].([]any)[0].(map[string]any)
	api(v.t, v.site, fmt.Sprintf("POST /runs/%d/input", run), map[string]any{"request_id": input["id"], "answer": "two"})
	v.shows("#status", "completed")
	v.shows("#transcript .assistant", "Two days.")
	eval[bool](v, `(window.late = performance.getEntriesByType("resource").length, true)`)
	close(late)
	v.until(`performance.getEntriesByType("resource").length > window.late`)
	time.Sleep(100 * time.Millisecond) // for the page to handle it
	v.shows("#transcript .assistant", "Two days.")
}

// hold passes a request on, and its response once until is closed.
func hold(g *gate, w http.ResponseWriter, r *http.Request, until <-chan struct{}) {
	slow := &slowWriter{ResponseWriter: w, until: until, done: r.Context().Done()}
	g.through.ServeHTTP(slow, r)
}

type slowWriter struct {
	http.ResponseWriter
	until, done <-chan struct{}
}

func (w *slowWriter) WriteHeader(status int) {
	select {
	case <-w.until:
	case <-w.done:
	}
	w.ResponseWriter.WriteHeader(status)
}

// pressedTwice holds a button that starts a run to do that once, although the page of the
// run takes its time.
func (v *visitor) pressedTwice(g *gate) {
	v.open("/admin/assistants/1/test")
	v.fill("#trigger textarea[name=message]", "/say once")
	var started atomic.Int32
	shown := make(chan struct{})
	g.before(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/test-trigger") {
			started.Add(1)
		}
		if strings.HasPrefix(r.URL.Path, "/admin/runs/") {
			hold(g, w, r, shown)
			return
		}
		g.through.ServeHTTP(w, r)
	})
	// The page presses by itself: the driver waits for a page that is being loaded.
	eval[bool](v, `((button) => {
		button.click();
		const again = setInterval(() => button.click(), 50);
		setTimeout(() => clearInterval(again), 600);
		return true;
	})(document.querySelector("#trigger button"))`)
	require.Eventually(v.t, func() bool { return started.Load() == 1 }, patience, time.Millisecond)
	time.Sleep(700 * time.Millisecond) // all presses, of which many come after the response
	require.EqualValues(v.t, 1, started.Load(), "a second press starts nothing")
	close(shown)
	v.until(`location.pathname.startsWith("/admin/runs/")`)
	v.settled()
}

// pollsOnce holds a page to poll in one series, however often it was hidden.
func (v *visitor) pollsOnce(g *gate) {
	v.open("/admin/overview")
	v.shows("#live", "Live")
	require.Less(v.t, eval[int](v, `(async () => {
		const real = window.fetch, pause = window.setTimeout;
		let n = 0;
		window.setTimeout = (work, ms) => pause(work, ms / 50);
		window.fetch = (address, options) => (n += String(address).includes("queue"), real(address, options));
		for (let i = 0; i < 8; i++) document.dispatchEvent(new Event("visibilitychange"));
		await new Promise((done) => pause(done, 300));
		n = 0;
		await new Promise((done) => pause(done, 1000));
		return n;
	})()`), 20, "polls in a second that has room for 10")
	g.fail(http.StatusInternalServerError, "It broke.")
	v.shows("#now [role=alert]", "It broke.")
	require.NotContains(v.t, v.text("#live"), "Retrying")
	g.open()
	eval[bool](v, `(document.querySelector("#now [role=alert] button").click(), true)`)
	v.shows("#live", "Live")
}

// keyStaysOut holds a pasted key to stay out of addresses, even if the script of the page is
// not there.
func (v *visitor) keyStaysOut(g *gate) {
	var leaked atomic.Bool
	key := strings.Repeat("0123456789abcdef", 4)
	g.before(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.RawQuery, key) {
			leaked.Store(true)
		}
		if strings.HasSuffix(r.URL.Path, "/static/keys.js") {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		g.through.ServeHTTP(w, r)
	})
	v.do(chromedp.Navigate(v.site + "/admin/keys"))
	v.fill("#filter input", key)
	v.click("#filter button")
	v.until(`location.search !== "" && document.readyState === "complete"`)
	require.False(v.t, leaked.Load())
}

// halfOfMany holds a bulk change whose second call fails to report what the first one did.
func (v *visitor) halfOfMany(g *gate) {
	run := v.trigger("/hang")
	v.open("/admin/runs")
	v.shows("#list", fmt.Sprintf("Run %d", run))
	g.before(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/runs/cancel") {
			g.through.ServeHTTP(w, r)
			return
		}
		var body map[string]any
		content, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(content, &body)
		w.Header().Set("Content-Type", "application/json")
		switch {
		case body["dry_run"] == true:
			_, _ = io.WriteString(w, `{"count": 2, "more": false}`)
		case body["cursor"] == nil:
			fmt.Fprintf(w, `{"items": [{"id": %d, "result": "done"}], "next": "more"}`, run)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	v.click("#cancel-many")
	v.confirm()
	v.shows("#notices .bad", "1 run cancelled.")
	g.open()
	api(v.t, v.site, fmt.Sprintf("POST /runs/%d/cancel", run), map[string]any{})
}

// misspelledFilter holds lists to reject a parameter of their address that they do not have,
// instead of listing everything.
func (v *visitor) misspelledFilter(*gate) {
	for _, address := range []string{"runs?stat=failed", "runs?range=2h", "callbacks?range=2h", "keys?assistant=1", "audit?who=admin"} {
		v.open("/admin/" + address)
		v.shows("#list [role=alert]", "parameter")
	}
	v.open("/admin/runs?stat=failed")
	v.click("#cancel-many")
	v.shows("#notices .bad", "invalid")
}

// numbers holds durations, plurals and large ids to be right.
func (v *visitor) numbers(*gate) {
	v.open("/admin/runs")
	require.Equal(v.t, []string{"1.00 s", "10.0 s", "1 min 0 s", "1 min 59 s"}, eval[[]string](v,
		`import("/admin/static/dom.js").then(({duration}) => [999.7, 9999, 59999, 119700].map(duration))`))
	require.Equal(v.t, `1 checked: [9007199254740993]`, eval[string](v, `Promise.all([import("/admin/static/bulk.js"), import("/admin/static/api.js")]).then(([{Selection}, {parse}]) => {
		const item = () => parse('{"id": 9007199254740993}'), selection = new Selection(() => {});
		const box = selection.column(() => "").cell(item());
		document.body.append(box);
		box.click();
		const again = selection.column(() => "").cell(item()).checked;
		return selection.ids.size + (again ? " checked: " : " not checked: ") + JSON.stringify([...selection.ids.values()]);
	})`))
}

// nextAttempt holds the page of a run to show the text of the current attempt, every event
// although ids are large, and to leave the focus and the tab where they are.
func (v *visitor) nextAttempt(*gate) {
	run := v.trigger("/hang")
	v.onNewPage(`window.EventSource = class extends EventTarget {
		constructor() { super(); window.stream = this; this.readyState = 1; }
		close() {}
		emit(n, event_type, payload = {}) {
			const id = 9007199254740992n + BigInt(n);
			this.onmessage({data: '{"id":' + id + ',' + JSON.stringify({sequence: n, event_type, payload, created_at: "2026-04-15T10:00:00Z"}).slice(1)});
		}
	}`)
	v.open(fmt.Sprintf("/admin/runs/%d#events", run))
	v.shows("#status", "running")
	eval[bool](v, `(document.querySelector("#facts a").focus(), window.stream.emit(1, "run_started", {attempt: 1}), true)`)
	v.until(`performance.getEntriesByType("resource").filter((e) => /api\/runs\/\d+$/.test(e.name)).length > 1`)
	eval[bool](v, `(window.stream.emit(2, "message_delta", {text: "All but d"}), true)`)
	v.shows("#result", "All but d")
	v.focused(`e.matches("#facts a")`)
	eval[bool](v, `(window.stream.emit(3, "run_requeued", {reason: "lease expired"}), window.stream.emit(4, "run_started", {attempt: 2}), window.stream.emit(5, "message_delta", {text: "All done"}), true)`)
	v.until(`document.querySelector("#result").textContent === "All done"`)
	v.shows("#feed-count", "5 events")
	v.fill("#feed-type", "run_requeued")
	v.shows("#feed-count", "1 row of 5 events")
	eval[bool](v, `(document.querySelector(".skip").click(), true)`)
	v.until(`location.hash === "#main"`)
	time.Sleep(50 * time.Millisecond) // the event of the address comes later
	v.until(`document.querySelector("#tab-events").ariaSelected === "true"`)
}
