package console_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// TestPages_operatorsAtWork_staySteady checks what disturbs an operator: lost focus,
// confirmations off screen, rows that move, texts that are read out again and again.
func TestPages_operatorsAtWork_staySteady(t *testing.T) {
	t.Parallel()
	r := receive(t)
	v := visit(t, serve(t, r.flags()...))
	v.signIn()
	v.do(chromedp.EmulateViewport(1280, 700))
	v.openTask()
	v.revokeKeepsFocus()
	v.cancelKeepsFocus()
	v.refusedConnection()
	v.redeliverKeepsFocus(r)
	v.feedKeepsAllEvents()
	v.timelineShowsWork()
	v.filterRow()
	v.listWaits()
	v.tasksOfAll()
	v.lostUpdate()
	v.manyTasks()
}

// focused is an expression about the element that has the focus.
func (v *visitor) focused(expression string) {
	v.t.Helper()
	v.until("((e) => e !== document.body && (" + expression + "))(document.activeElement)")
}

// toast asserts that a confirmation is in the window, wherever the page is scrolled.
func (v *visitor) toast(text string) {
	v.t.Helper()
	v.shows("#notices", text)
	v.until(`((box) => box.top >= 0 && box.bottom <= innerHeight)(document.querySelector("#notices .notice").getBoundingClientRect())`)
}

func (v *visitor) openTask() {
	v.open("/admin/assistants/1/tasks/new")
	require.Equal(v.t, 100, eval[int](v, `document.querySelector("input[name=name]").maxLength`))
	require.Equal(v.t, "auto", eval[string](v, `document.querySelector("textarea[name=instructions]").dir`))
}

func (v *visitor) revokeKeepsFocus() {
	api(v.t, v.site, "POST /assistants/1/keys", map[string]any{"name": "مفتاح Zapier"})
	v.do(chromedp.EmulateViewport(360, 700))
	v.open("/admin/assistants/1/keys")
	require.Equal(v.t, 1, eval[int](v, `document.querySelector("[data-label=Prefix] code").getClientRects().length`), "a prefix stays on one line")
	require.Equal(v.t, "auto", eval[string](v, `document.querySelector("[data-label=Name] strong").dir`))
	v.do(chromedp.EmulateViewport(1280, 700))
	v.click("#list .danger")
	v.confirm()
	v.toast("is revoked")
	v.focused(`e.closest("tr")?.textContent.includes("revoked")`)
}

func (v *visitor) cancelKeepsFocus() {
	v.open(fmt.Sprintf("/admin/runs/%d", v.trigger("/hang")))
	v.shows("#status", "running")
	v.click("#cancel")
	v.confirm()
	v.toast("cancelled")
	v.until(`document.querySelector("#cancel").hidden`)
	v.focused(`e.id === "title"`)
}

func (v *visitor) refusedConnection() {
	run := api(v.t, v.site, "POST /assistants/1/test-trigger", map[string]any{"message": "/say hello", "callback_url": "https://127.0.0.1:65535/"})
	v.open(fmt.Sprintf("/admin/runs/%v", run["run_id"]))
	v.shows("#deliveries .badge", "failed")
	v.shows("#deliveries", "no connection: nothing was sent")
	require.NotContains(v.t, v.text("#deliveries"), "never")
}

func (v *visitor) redeliverKeepsFocus(r *receiver) {
	run := api(v.t, v.site, "POST /assistants/1/test-trigger", map[string]any{"message": "/say hello", "callback_url": r.url})
	v.open(fmt.Sprintf("/admin/runs/%v", run["run_id"]))
	v.shows("#deliveries .badge", "failed")
	v.part("callback")
	v.click("#deliveries summary")
	v.until(`document.querySelector("#deliveries li").same = document.querySelector("#deliveries pre").same = true`)
	require.True(v.t, eval[bool](v, fmt.Sprintf(`import("/admin/static/deliveries.js").then(({showDeliveries}) => showDeliveries(%v)).then(() => true)`, run["run_id"])))
	v.until(`document.querySelector("#deliveries li").same`)
	v.click("#deliveries button")
	v.confirm()
	v.toast("Redelivery scheduled")
	v.focused(`e.closest("#deliveries li")`)
	v.shows("#deliveries .badge", "delivered")
	v.focused(`e.closest("#deliveries li")`)
	v.until(`document.querySelector("#deliveries details").open`) // of the first delivery, which has no button any more
}

// feedKeepsAllEvents holds 10,000 events. Few rows are on the page, and each event can be
// reached, by scrolling and by the keyboard.
func (v *visitor) feedKeepsAllEvents() {
	v.part("events")
	require.True(v.t, eval[bool](v, `import("/admin/static/feed.js").then(({Feed}) => {
		const old = document.querySelector("#feed-view"), fresh = old.cloneNode(true); // the page's own feed keeps the old one
		fresh.firstElementChild.replaceChildren();
		old.replaceWith(fresh);
		const feed = window.feed = new Feed(fresh.firstElementChild);
		for (let n = 1; n <= 10000; n++) feed.add({id: n, sequence: n, event_type: n % 100 ? "x_step" : "x_rare", payload: {n}, created_at: "2026-04-15T10:00:00Z"});
		return true;
	})`))
	v.shows("#feed-count", "10,000 events")
	const first, last = `Number(document.querySelector("#feed .sequence").textContent)`, `Number(document.querySelector("#feed li:last-child .sequence").textContent)`
	v.until(first + " === 1")
	require.Less(v.t, eval[int](v, `document.querySelectorAll("#feed > li").length`), 100)
	seen := eval[int](v, `(async () => {
		const view = document.querySelector("#feed-view"), seen = new Set();
		for (let y = 0; y < view.scrollHeight; y += view.clientHeight) {
			view.scrollTop = y;
			feed.draw();
			for (const e of document.querySelectorAll("#feed .sequence")) seen.add(e.textContent);
		}
		return seen.size;
	})()`)
	require.Equal(v.t, 10_000, seen, "each event can be scrolled to")
	v.do(chromedp.Focus(chromedp.CSS("#feed-type")))
	v.key("Tab")
	v.focused(`e.matches("#feed .line")`)
	v.key("End")
	v.focused(`e.querySelector(".sequence")?.textContent === "10000"`)
	v.key("Enter")
	v.shows("#feed pre", `"n": 10000`)
	v.focused(`e.getAttribute("aria-expanded") === "true"`)
	v.key("Home")
	v.focused(`e.querySelector(".sequence")?.textContent === "1"`)
	v.key("ArrowDown")
	v.focused(`e.querySelector(".sequence")?.textContent === "2"`)
	eval[bool](v, `((view) => (view.scrollTop = view.scrollHeight, true))(document.querySelector("#feed-view"))`)
	v.until(last + " === 10000")
	v.focused(`e.querySelector(".sequence")?.textContent === "2"`) // the focus stays
	eval[bool](v, `(window.feed.filter("x_rare"), true)`)
	v.shows("#feed-count", "100 rows of 10,000 events")
	v.until(first + " === 100")
}

// part opens a part of the page of a run.
func (v *visitor) part(name string) {
	v.t.Helper()
	v.click("#tab-" + name)
	v.until(fmt.Sprintf("document.getElementById(%s)?.checkVisibility()", quote(name+"-panel")))
}

// key presses a key.
func (v *visitor) key(name string) {
	v.t.Helper()
	require.Contains(v.t, keys, name)
	v.do(chromedp.KeyEvent(keys[name]))
	v.presses++
}

var keys = map[string]string{
	"Tab": kb.Tab, "Enter": kb.Enter, "Space": " ", "Home": kb.Home, "End": kb.End, "ArrowDown": kb.ArrowDown, "ArrowLeft": kb.ArrowLeft, "ArrowRight": kb.ArrowRight,
}

// timelineShowsWork holds the time line to show what no event has reported, and to
// stop while the connection is lost.
func (v *visitor) timelineShowsWork() {
	require.True(v.t, eval[bool](v, `import("/admin/static/timeline.js").then(({Timeline}) => {
		const timeline = window.timeline = new Timeline(document.querySelector("#timeline"));
		const at = (type) => timeline.add({event_type: type, payload: {}, created_at: new Date().toISOString()});
		at("run_queued");
		at("run_started");
		return true;
	})`))
	v.shows("#timeline", "In progress")
	eval[bool](v, `(window.timeline.connected(false), true)`)
	v.shows("#timeline", "when the connection was lost")
	total := v.text("#timeline .totals")
	time.Sleep(1100 * time.Millisecond) // longer than its clock ticks
	require.Equal(v.t, total, v.text("#timeline .totals"))
	eval[bool](v, `(window.timeline.connected(true), true)`)
	v.shows("#timeline", "so far")
}

// filterRow asserts that the filter of the runs is one row on common screens. On narrow
// ones the times have a row with the buttons, so that they are shown whole.
func (v *visitor) filterRow() {
	v.open("/admin/runs")
	for width, rows := range map[int64][]string{
		1280: {"#filter > label > *", "#filter :is(.range input, button, .button)"},
		1440: {"#filter :is(input, select, button, .button)"},
		1920: {"#filter :is(input, select, button, .button)"},
	} {
		v.do(chromedp.EmulateViewport(width, 900))
		for _, row := range rows {
			bottoms := eval[[]int](v, `[...document.querySelectorAll("`+row+`")].map((e) => Math.round(e.getBoundingClientRect().bottom))`)
			require.Greater(v.t, len(bottoms), 3)
			for _, bottom := range bottoms {
				require.InDelta(v.t, bottoms[0], bottom, 4, "%d px: %v", width, bottoms)
			}
		}
	}
	v.do(chromedp.EmulateViewport(1280, 700))
}

// listWaits holds the live list to stay as it is under the pointer, and its status to
// be read out once.
func (v *visitor) listWaits() {
	v.open("/admin/runs")
	v.shows("#live", "Live")
	v.until(`(window.changes = 0, new MutationObserver((all) => window.changes += all.length)
		.observe(document.querySelector("#live"), {childList: true, characterData: true, subtree: true, attributes: true}), true)`)
	first := v.text("#list tbody tr:nth-child(2) a")
	at := eval[[]float64](v, `((box) => [box.left + 5, box.top + 5])(document.querySelector("#list tbody tr:nth-child(2)").getBoundingClientRect())`)
	_, err := chromedp.Call(v.tab, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: "mouseMoved", X: at[0], Y: at[1]})
	require.NoError(v.t, err)
	run := v.trigger("/say hello")
	v.shows("#waiting", "Show 1 new run")
	require.Equal(v.t, first, v.text("#list tbody tr:nth-child(2) a"))
	v.click("#waiting")
	v.shows("#list tbody tr:first-child", fmt.Sprintf("Run %d", run))
	require.Zero(v.t, eval[int](v, "window.changes"))

	v.click("#pause")
	v.shows("#live", "Paused")
	run = v.trigger("/say hello")
	v.shows("#waiting", "Show 1 new run")
	v.click("#pause")
	v.shows("#list tbody tr:first-child", fmt.Sprintf("Run %d", run))
}
