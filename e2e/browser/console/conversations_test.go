package console_test

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// An operator looks at a run of a conversation, runs it again, and erases the conversation.
func TestConversations_operator_readsAndErases(t *testing.T) {
	t.Parallel()
	v := visit(t, serve(t, "-db", "memory"))
	v.signIn()
	first := v.converse("ticket 4711", "/tool calculator {\"expression\": \"6*7\"}\n/say "+evil)
	v.converse("ticket 4711", "/history")
	v.open(fmt.Sprintf("/admin/conversations/%v", first["trigger_id"]))
	v.until(`document.querySelectorAll("#runs li").length === 2`)
	v.runTabs(first)
	v.runAgain(first)
	v.copyCurl(first)
	v.eraseConversation(first)
	v.rejectedAnswer()
}

// rejectedAnswer shows JSON that does not match the schema of its task.
func (v *visitor) rejectedAnswer() {
	task := api(v.t, v.site, "POST /assistants/1/tasks", map[string]any{"name": "Total", "instructions": "Answer in JSON.", "output_type": "json",
		"output_schema": map[string]any{"type": "object", "required": []string{"total"}}})
	run := api(v.t, v.site, "POST /assistants/1/test-trigger", map[string]any{"message": `/say {"sum": 42}`, "task_definition_id": task["id"]})
	v.open(fmt.Sprintf("/admin/runs/%v", run["run_id"]))
	v.shows("#status", "failed")
	v.shows("#result", "Rejected answer")
	v.shows("#result pre", `"sum": 42`)
	v.shows("#transcript .badge", "rejected")
}

// converse triggers a run of a conversation by its key and waits for its end.
func (v *visitor) converse(key, message string) map[string]any {
	v.t.Helper()
	return api(v.t, v.site, "POST /assistants/1/test-trigger", map[string]any{"conversation_key": key, "message": message, "context": map[string]any{"n": 1}})
}

// runTabs uses the tabs of a run by keyboard, and the address that names one.
func (v *visitor) runTabs(run map[string]any) {
	v.click(fmt.Sprintf(`#runs a[href$="runs/%v"]`, run["run_id"]))
	v.until(fmt.Sprintf(`location.pathname === "/admin/runs/%v"`, run["run_id"]))
	v.settled()
	v.shows("#status", "completed")
	v.shows("#transcript .call", "calculator")
	require.NotContains(v.t, v.text("#transcript"), "/history", "the transcript is that of the run alone")
	v.shows("#facts", fmt.Sprintf("Conversation %v", run["trigger_id"]))
	v.click("#tab-transcript")
	shown := `[...document.querySelectorAll("[role=tabpanel]")].filter((p) => p.checkVisibility()).map((p) => p.id).join()`
	for _, step := range []struct{ key, panel string }{
		{"ArrowRight", "timeline-panel"}, {"End", "request-panel"}, {"ArrowRight", "transcript-panel"}, {"ArrowLeft", "request-panel"}, {"Home", "transcript-panel"},
	} {
		v.key(step.key)
		v.until(fmt.Sprintf("%s === %s", shown, quote(step.panel)))
		v.focused(fmt.Sprintf(`e.getAttribute("aria-selected") === "true" && e.getAttribute("aria-controls") === %s && e.tabIndex === 0`, quote(step.panel)))
	}
	v.key("Tab")
	v.focused(`e.id === "transcript-panel"`)
	v.open(fmt.Sprintf("/admin/runs/%v#events", run["run_id"]))
	v.until("location.hash === '#events'")
	v.do(chromedp.Reload())
	v.settled()
	v.shows("#feed", "tool_completed")
	v.shows("#timeline", "Tools")
	require.Equal(v.t, "This trigger has no callback URL.", v.text("#deliveries"))
}

// runAgain starts a run with the same input, in a conversation of its own.
func (v *visitor) runAgain(run map[string]any) {
	v.click("#again")
	v.confirm()
	v.until(fmt.Sprintf(`/\/admin\/runs\/\d+$/.test(location.pathname) && !location.pathname.endsWith("/%v")`, run["run_id"]))
	v.shows("#status", "completed")
	again := api(v.t, v.site, "GET /runs/"+eval[string](v, "document.body.dataset.run"), nil)
	old := api(v.t, v.site, fmt.Sprintf("GET /runs/%v", run["run_id"]), nil)
	for _, field := range []string{"message", "subject", "context", "metadata"} {
		require.Equal(v.t, old[field], again[field], field)
	}
	require.Nil(v.t, again["conversation_key"])
	require.NotEqual(v.t, old["trigger_id"], again["trigger_id"])
}

// copyCurl executes the line that is copied, which has no key in it.
func (v *visitor) copyCurl(run map[string]any) {
	v.open(fmt.Sprintf("/admin/runs/%v", run["run_id"]))
	v.shows("#status", "completed")
	v.until(`navigator.clipboard.writeText = (text) => (window.copied = text, Promise.resolve())`)
	v.click("#curl")
	v.toast("WEBTRIGGER_KEY")
	line := eval[string](v, "window.copied")
	key := api(v.t, v.site, "POST /assistants/1/keys", map[string]any{"name": "CI"})["key"].(string)
	require.NotContains(v.t, line, key)
	require.Contains(v.t, shell(v.t, "WEBTRIGGER_KEY="+key+"; "+line), fmt.Sprintf(`"trigger_id":%v`, run["trigger_id"]), "the line continues the conversation")
}

func (v *visitor) eraseConversation(run map[string]any) {
	v.allowErrors = true
	hangs := v.converse("ticket 4711", "/hang")
	v.open(fmt.Sprintf("/admin/conversations/%v", run["trigger_id"]))
	v.shows("#runs", "running")
	v.click("#erase")
	v.confirm()
	v.toast("has not ended")
	api(v.t, v.site, fmt.Sprintf("POST /runs/%v/cancel", hangs["run_id"]), map[string]any{})
	v.open(fmt.Sprintf("/admin/runs/%v", hangs["run_id"]))
	v.shows("#status", "cancelled")
	v.click("#erase")
	v.shows("#dialog-title", fmt.Sprintf("Erase conversation %v?", run["trigger_id"]))
	v.confirm()
	v.until(`location.pathname === "/admin/runs"`)
	v.toast("is erased")
	v.open(fmt.Sprintf("/admin/conversations/%v", run["trigger_id"]))
	v.shows("h1", "Page not found")
}
