package console_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
)

// byKeyboard does three jobs with Tab, Enter, Space and the arrow keys alone.
func (v *visitor) byKeyboard(r *receiver) {
	v.keyboardJob("find a failed run, by keyboard", v.keyboardFind)
	v.redeliverByKeyboard(r)
	v.rotateByKeyboard()
}

// keyboardJob is a job from the Overview without the mouse.
func (v *visitor) keyboardJob(name string, work func()) {
	v.t.Helper()
	v.presses = 0
	v.job(name, 0, work)
	require.Zero(v.t, v.fields, "nothing is filled in from elsewhere")
	v.jobs[len(v.jobs)-1] = fmt.Sprintf("%s | %d keys | 0", name, v.presses)
}

// press presses a key that may move the focus.
func (v *visitor) press(name string) {
	v.t.Helper()
	eval[bool](v, "(window.stop = undefined, true)")
	v.key(name)
}

// tabTo presses Tab until a control has the focus, and returns the names of the controls on
// the way. Each follows the one before, is in the window, and shows that it has the focus.
// A field for a time is several stops; its parts show the focus by themselves.
func (v *visitor) tabTo(selector string) (names []string) {
	v.t.Helper()
	type stop struct {
		Name, Fault string
		There       bool
	}
	for range 200 {
		v.key("Tab")
		s := eval[stop](v, fmt.Sprintf(`(() => {
			const e = document.activeElement, last = window.stop, style = getComputedStyle(e), box = e.getBoundingClientRect();
			window.stop = e;
			const fault = e === document.body ? "the focus left the page"
				: last && last !== e && last.isConnected && !(last.compareDocumentPosition(e) & Node.DOCUMENT_POSITION_FOLLOWING) ? "it comes before " + last.outerHTML
				: box.right <= 0 || box.left >= innerWidth || box.bottom <= 0 || box.top >= innerHeight ? "it is out of the window"
				: style.outlineStyle === "none" && !e.matches("svg a, [type=datetime-local]") ? "it does not show the focus" : "";
			return {Name: e.ariaLabel ?? e.labels?.[0]?.innerText ?? e.innerText, Fault: fault && fault + ": " + e.outerHTML.slice(0, 200), There: e.matches(%s)};
		})()`, quote(selector)))
		require.Empty(v.t, s.Fault, "on the way to %s after %q", selector, names)
		names = append(names, strings.TrimSpace(s.Name))
		if s.There {
			return names
		}
	}
	require.FailNow(v.t, "it cannot be reached", "%s after %q", selector, names)
	return nil
}

// enter presses Enter on a link and waits until the page has loaded that it leads to.
func (v *visitor) enter(arrived string) {
	v.t.Helper()
	v.press("Enter")
	v.until(arrived)
	v.settled()
}

// skip skips the sidebar of a page that was loaded, by its first link.
func (v *visitor) skip() {
	v.t.Helper()
	require.Equal(v.t, []string{"Skip to the content"}, v.tabTo(".skip"))
	v.press("Enter")
	v.focused(`e.id === "main"`)
}

// goTo goes to a page by the sidebar, in whose order its links are.
func (v *visitor) goTo(page string) {
	v.t.Helper()
	names := v.tabTo(fmt.Sprintf(`.side nav a[href$="/%s"]`, page))
	menu := []string{"Skip to the content", "Web Trigger", "Overview", "Runs", "Conversations", "Waiting for input", "Callbacks", "Tasks", "Assistants", "API Keys"}
	require.Equal(v.t, menu[:len(names)], names)
	v.enter(fmt.Sprintf(`location.pathname === "/admin/%s"`, page))
	v.skip()
}

func (v *visitor) keyboardFind() {
	v.goTo("runs")
	names := v.tabTo(`#statuses a[href*="status=failed"]`)
	require.Equal(v.t, []string{"Search runs", "Pause", "Any time", "Last hour"}, names[:4])
	v.enter(`location.search === "?status=failed"`)
	v.skip()
	v.tabTo(`#list tbody tr:first-child a[href*="/runs/"]`)
	v.enter(`/\/admin\/runs\/\d+$/.test(location.pathname)`)
	run := api(v.t, v.site, "GET /runs/"+eval[string](v, "document.body.dataset.run"), nil)
	require.Equal(v.t, "failed", run["status"])
	v.shows("#result .bad", run["error_message"].(string))
	v.skip()
	v.until(`document.querySelector("#erase").checkVisibility()`)
	names = v.tabTo(`#tabs [role=tab]`)
	require.Equal(v.t, []string{"Runs", "Run again", "Copy as curl", "Erase", "Transcript"}, names)
	v.press("ArrowRight")
	v.focused(`e.id === "tab-timeline"`)
	v.press("ArrowRight")
	v.focused(`e.id === "tab-events"`)
	v.tabTo("#feed .line")
	v.press("Space")
	v.focused(`e.getAttribute("aria-expanded") === "true"`)
}

func (v *visitor) redeliverByKeyboard(r *receiver) {
	r.reject(1)
	run := api(v.t, v.site, "POST /assistants/1/test-trigger", map[string]any{"message": "/say done", "callback_url": r.url + "/keyboard"})
	has := func(states ...any) bool {
		var all []any
		for _, delivery := range v.items(fmt.Sprintf("/runs/%v/deliveries", run["run_id"])) {
			all = append(all, delivery["state"])
		}
		return slices.Equal(all, states)
	}
	require.Eventually(v.t, func() bool { return has("failed") }, patience, 20*time.Millisecond)
	host := strings.TrimPrefix(r.url, "https://")
	v.keyboardJob("redeliver a callback, by keyboard", func() {
		v.goTo("callbacks")
		v.tabTo(fmt.Sprintf(`#receivers button[aria-label="Redeliver 1 to %s"]`, host))
		v.press("Space")
		v.shows("#dialog-title", "Redeliver 1 callback?")
		v.focused(`e.id === "dialog-no"`)
		v.tabTo("#dialog-yes")
		v.press("Enter")
		v.toast("1 callback will be sent again.")
		v.focused(fmt.Sprintf(`e.closest("#receivers tr")?.dataset.id === %s`, quote(host)))
		v.shows(fmt.Sprintf(`#receivers tr[data-id=%s]`, quote(host)), "all delivered")
		v.focused(fmt.Sprintf(`e.closest("#receivers tr")?.dataset.id === %s`, quote(host)))
	})
	require.True(v.t, has("failed", "delivered"))
}

func (v *visitor) rotateByKeyboard() {
	v.keyboardJob("rotate a key, by keyboard", func() {
		v.goTo("keys")
		names := v.tabTo(`#list button[aria-label="Rotate Nightly job"]`)
		require.Equal(v.t, []string{"Second assistant", "Runs of Nightly job", "Rotate Nightly job"}, names[len(names)-3:])
		v.press("Space")
		v.shows("#dialog-title", "Rotate Nightly job?")
		v.focused(`e.id === "dialog-select"`)
		v.press("ArrowDown")
		v.until(`document.querySelector("#dialog-select").value === "3600"`)
		require.Equal(v.t, []string{"Go back", "Rotate key"}, v.tabTo("#dialog-yes"))
		v.press("Enter")
		v.toast("is rotated")
		v.focused(`e.id === "created-title"`)
		require.Equal(v.t, "Copy the API key", v.tabTo("#secret button")[0])
		v.until(`document.querySelectorAll('#list button[aria-label="Rotate Nightly job"]').length === 2`)
	})
	var active int
	for _, key := range v.items("/assistants/2/keys") {
		if key["name"] == "Nightly job" && key["revoked_at"] == nil {
			active++
		}
	}
	require.Equal(v.t, 2, active, "the old key is valid for another hour")
}
