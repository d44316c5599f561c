package console_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/needs"
)

// axe returns the script of axe-core, which npm installs by the lock file.
// Without npm, or its registry, the test is skipped unless WEBTRIGGER_TEST_ALL is
// set.
func axe(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/node")))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := needs.NPM(ctx, dir); err != nil {
		needs.Missing(t, err)
	}
	script, err := os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
	require.NoError(t, err)
	return string(script)
}

// arabic is a text of others that is read from right to left.
const arabic = "طلب رقم ٥: متأخر!"

// Axe finds nothing on any page, wide and light, nor in the colours of the dark one. A
// screen reader can name each control. No page scrolls sideways on a phone or at 200 %,
// and nothing is cut. What others have written has its own direction, and is part of no page.
func TestAccessible(t *testing.T) {
	t.Parallel()
	script := axe(t)
	r := receive(t)
	site := serve(t, r.flags()...)
	pages := furnish(t, site, r, evil+" "+arabic)
	names := slices.Sorted(maps.Keys(pages))
	t.Run("spoken", func(t *testing.T) {
		t.Parallel()
		v := visit(t, site)
		v.signIn()
		v.allPages(pages)
		v.readsRightToLeft()
		v.readsAloud(pages)
	})
	half := len(names) / 2
	for part, names := range map[string][]string{"1": names[:half], "2": names[half:]} {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			v := visit(t, site)
			v.allowErrors = true
			v.signIn()
			for _, name := range names {
				v.look(1280, "light")
				v.open(pages[name])
				switch name {
				case "run":
					v.shows("#deliveries .badge", "failed") // by the receiver's first answer
				case "waiting-run", "question-run":
					v.shows("#ask-title", "Waiting for")
				}
				eval[bool](v, script+`; document.querySelector("#feed .line")?.click(); document.querySelectorAll("details").forEach((e) => e.open = true); true`)
				assert.Empty(t, v.violations(`{resultTypes: ["violations"]}`), name)
				assert.Empty(t, v.unnamed(), name)
				assert.Empty(t, v.undirected(), name)
				v.look(360, "dark")
				assert.Empty(t, v.violations(`{resultTypes: ["violations"], runOnly: ["color-contrast", "scrollable-region-focusable"]}`), "%s, dark", name)
				assert.Empty(t, v.cut(), "%s on a phone", name)
				v.do(chromedp.EmulateViewport(720, 450, chromedp.EmulateScale(2)))
				assert.Empty(t, v.cut(), "%s at 200 %%", name)
				v.clean()
			}
		})
	}
}

// violations are what axe finds on the page.
func (v *visitor) violations(options string) []string {
	v.t.Helper()
	return eval[[]string](v, "axe.run("+options+`).then((r) => r.violations
		.flatMap((f) => f.nodes.map((n) => f.id + ": " + n.html + " " + n.failureSummary)))`)
}

// unnamed are the controls that a screen reader has no name or no role for.
func (v *visitor) unnamed() (faults []string) {
	v.t.Helper()
	tree, err := chromedp.Call(v.tab, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	require.NoError(v.t, err)
	text := func(value *accessibility.Value) (text string) {
		if value != nil {
			_ = json.Unmarshal(value.Value, &text)
		}
		return strings.TrimSpace(text)
	}
	for _, node := range tree.Nodes {
		focusable := slices.ContainsFunc(node.Properties, func(p *accessibility.Property) bool { return p.Name == "focusable" })
		role, name := text(node.Role), text(node.Name)
		if node.Ignored || !focusable || role == "RootWebArea" || role == "main" {
			continue
		}
		if name == "" || role == "" || role == "generic" || role == "none" {
			faults = append(faults, fmt.Sprintf("%s %q, node %d", role, name, node.BackendDOMNodeID))
		}
	}
	return faults
}

// undirected are the elements with Arabic text whose direction is not that of their text.
func (v *visitor) undirected() []string {
	v.t.Helper()
	return eval[[]string](v, `(() => {
		const faults = [], texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
		while (texts.nextNode()) {
			const e = texts.currentNode.parentElement;
			if (texts.currentNode.data.includes("متأخر") && !e.closest("[dir=auto], pre")) faults.push(e.outerHTML.slice(0, 300));
		}
		for (const e of document.querySelectorAll("input:not([type=checkbox], [type=radio]), textarea")) {
			if (e.value.includes("متأخر") && e.dir !== "auto") faults.push(e.outerHTML.slice(0, 300));
		}
		return faults;
	})()`)
}

// cut are the elements that reach out of the window or hide a part of their text, and the
// fields that hide a part of their hint or choice.
func (v *visitor) cut() []string {
	v.t.Helper()
	return eval[[]string](v, `(() => {
		const faults = [], width = document.documentElement.clientWidth;
		if (document.documentElement.scrollWidth > width) faults.push("the page scrolls sideways");
		const scrolls = (e) => e && e !== document.body && (["auto", "scroll"].includes(getComputedStyle(e).overflowX) || e.clientWidth === 1 || e.matches(".skip") || scrolls(e.parentElement));
		for (const e of document.querySelectorAll("body *")) {
			const box = e.getBoundingClientRect(), style = getComputedStyle(e);
			if (!e.checkVisibility({visibilityProperty: true}) || box.width <= 1 || scrolls(e)) continue;
			if (box.left < -1 || box.right > width + 1) faults.push("out of the window: " + e.outerHTML.slice(0, 200));
			if (["hidden", "clip"].includes(style.overflowX) && e.scrollWidth > e.clientWidth + 1 && e.innerText && !e.matches(".feed .line, .feed .what")) faults.push("cut: " + e.outerHTML.slice(0, 200));
		}
		const pen = document.createElement("canvas").getContext("2d");
		for (const e of document.querySelectorAll("input[placeholder], select")) {
			const style = getComputedStyle(e), text = e.value === "" && e.placeholder || (e.selectedOptions?.[0]?.text ?? "");
			if (!e.checkVisibility()) continue;
			pen.font = style.font;
			const room = e.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight) - (e.matches("select") ? 16 : 0); // its arrow
			if (pen.measureText(text).width > room + 1) faults.push("cut text of a field: " + text + ": " + e.outerHTML.slice(0, 200));
		}
		for (const e of document.querySelectorAll("input[type=datetime-local]")) {
			if (e.checkVisibility() && e.clientWidth < 212) faults.push("cut time: " + e.outerHTML.slice(0, 200)); // "11/28/2026, 11:58 PM" and its icon
		}
		return faults;
	})()`)
}

// allPages holds pages to have all those of the sidebar.
func (v *visitor) allPages(pages map[string]string) {
	v.t.Helper()
	known := slices.Collect(maps.Values(pages))
	for _, path := range eval[[]string](v, `[...document.querySelectorAll(".side nav a")].map((a) => a.pathname)`) {
		require.Contains(v.t, known, path)
	}
}

// readsAloud holds live regions to be polite and not to be written again while nothing
// changes. The clocks of the pages are fast.
func (v *visitor) readsAloud(pages map[string]string) {
	v.t.Helper()
	_, err := chromedp.Call(v.tab, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
		Source: `((real) => window.setTimeout = (work, ms, ...args) => real(work, ms / 40, ...args))(window.setTimeout)`})
	require.NoError(v.t, err)
	for _, name := range []string{"overview", "runs", "waiting", "callbacks", "running-run", "waiting-run", "signing-secrets"} {
		v.open(pages[name])
		if eval[bool](v, `document.querySelector("#live") !== null`) {
			v.shows("#live", "Live")
		}
		const regions = `[...document.querySelectorAll("[role=status], [role=alert], [role=log], [aria-live]")]`
		require.Empty(v.t, eval[[]string](v, regions+`.filter((e) => e.ariaLive === "assertive" || e.role === "alert").map((e) => e.outerHTML)`), name)
		changes := eval[int](v, `new Promise((done) => {
			let changes = 0;
			const watch = new MutationObserver((all) => changes += all.length);
			for (const e of `+regions+`) watch.observe(e, {childList: true, characterData: true, subtree: true, attributes: true});
			setTimeout(() => done(changes), 400 * 40); // some of what pages repeat
		})`)
		require.Zero(v.t, changes, name)
	}
}

// readsRightToLeft holds Arabic text to begin at the right and to have its punctuation at
// its end, the left.
func (v *visitor) readsRightToLeft() {
	v.t.Helper()
	run := api(v.t, v.site, "POST /assistants/1/test-trigger", map[string]any{"subject": arabic, "message": "/say " + arabic, "conversation_key": arabic})
	v.ends(run["run_id"], "completed")
	for path, places := range map[string][]string{
		"/admin/runs":          {"#list small"},
		"/admin/conversations": {"#list td.wide span", "#list code"},
		fmt.Sprintf("/admin/runs/%v", run["run_id"]):              {"#result .text", "#transcript .assistant .text"},
		fmt.Sprintf("/admin/conversations/%v", run["trigger_id"]): {".facts dd", "#transcript .assistant .text"},
		fmt.Sprintf("/admin/runs/%v#request", run["run_id"]):      {"#request-panel .text"},
	} {
		v.open(path)
		for _, place := range places {
			v.until(fmt.Sprintf(`(() => {
				const e = [...document.querySelectorAll(%s)].find((e) => e.checkVisibility() && e.textContent === %s && e.firstChild?.nodeType === Node.TEXT_NODE);
				if (!e) return false;
				const range = document.createRange(), node = e.firstChild;
				const left = (i) => (range.setStart(node, i), range.setEnd(node, i + 1), range.getBoundingClientRect().left);
				return getComputedStyle(e).direction === "rtl" && left(node.length - 1) < left(0);
			})()`, quote(place), quote(arabic)))
		}
	}
}
