package console_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

func TestConsole(t *testing.T) {
	t.Parallel()
	r := receive(t)
	v := visit(t, serve(t, append(r.flags(), oneWorker...)...))
	v.signIn()
	v.enableChannel()
	line := v.createKey()
	v.watch(line)
	v.revokeKey(line, v.rotateKey(line))
	v.runTask()
	v.cancel()
	v.redeliver(r)
	v.testCallback(r)
}

// The console is served by a process that executes nothing; another one does.
func TestConsoleOnPostgres(t *testing.T) {
	t.Parallel()
	flags := []string{"-db", pgtest.Database(t)}
	serve(t, append(flags, oneWorker...)...)
	v := visit(t, serve(t, append(flags, "-workers", "0")...))
	v.signIn()
	api(t, v.site, "PUT /assistants/e2e/channel", map[string]any{"enabled": true, "allow_callback_urls": false})
	v.watch(v.createKey())
	v.cancel()
}

// oneWorker has runs wait for each other.
var oneWorker = []string{"-workers", "1"}

const assistant = "/admin/assistants/e2e"

// enableChannel turns on what is off for an assistant that was never set up.
func (v *visitor) enableChannel() {
	v.open(assistant)
	for i, name := range []string{"Accepts triggers", "Allow Callback URLs"} {
		box := fmt.Sprintf("#channel label:nth-of-type(%d) input", i+1)
		v.until(fmt.Sprintf("document.querySelector(%s).checked === false", quote(box)))
		v.click(box)
		v.shows("#notices", name+": on.")
	}
	v.open(assistant)
	v.until(`[...document.querySelectorAll("#channel input")].every((box) => box.checked)`)
}

// createKey returns the curl line that the page shows.
func (v *visitor) createKey() string {
	v.open(assistant + "/keys")
	v.shows("#list", "No API keys yet")
	v.click("#create button")
	v.shows("#create .fault", "A key needs a name")
	v.fill("#create input[name=name]", "CI "+evil)
	v.click("#create button")
	v.shows("#list", "CI "+evil)
	secret := v.text("#secret code")
	require.Regexp(v.t, "^[0-9a-f]{64}$", secret)
	line := v.text("#curl code")
	require.Contains(v.t, line, secret)
	v.clean()
	v.open(assistant + "/keys")
	require.NotContains(v.t, eval[string](v, "document.documentElement.outerHTML"), secret, "shown once")
	v.shows("#list", secret[:8])
	require.Equal(v.t, "trigger, read, cancel", v.text("#list [data-label=Scopes]"))
	return line
}

// shell runs a line as it would be pasted.
func shell(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-c", line).CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}

type accepted struct {
	RunID int64 `json:"run_id"`
}

// send runs a curl line with another message and returns the run.
func (v *visitor) send(line, message string) (run accepted) {
	v.t.Helper()
	sent := strings.Replace(line, `"What can you do?"`, quote(message), 1)
	require.NotEqual(v.t, line, sent)
	require.NoError(v.t, json.Unmarshal([]byte(shell(v.t, sent)), &run))
	require.Positive(v.t, run.RunID)
	return run
}

// watch runs the curl line, finds the run in the live list and watches one from
// the queue to its end, without loading a page again.
func (v *visitor) watch(line string) {
	t := v.t
	v.open("/admin/runs?assistant_id=e2e")
	v.shows("#list", "No runs match this filter")
	v.until("window.same = true")
	var first accepted
	require.NoError(t, json.Unmarshal([]byte(shell(t, line)), &first))
	v.shows("#list", fmt.Sprintf("Run %d", first.RunID))
	v.shows("#list", "completed")
	v.until("window.same")

	blocks := v.send(line, "/hang")
	second := v.send(line, "/stream 5\n/tool calculator {\"expression\": \"6*7\"}\n/say The answer is 42")
	v.open(fmt.Sprintf("/admin/runs/%d", second.RunID))
	v.shows("#status", "queued")
	v.shows("#result", "waits for a free worker")
	v.shows("#live", "Live")
	v.part("events")
	v.until("window.same = true")
	api(t, v.site, fmt.Sprintf("POST /runs/%d/cancel", blocks.RunID), map[string]any{})
	v.shows("#status", "completed")
	v.shows("#result", "The answer is 42")
	v.shows("#feed", "tool_completed")
	v.shows("#feed", "run_completed")
	v.shows("#live", "Complete")
	v.shows("#timeline", "Tools")
	v.shows("#timeline", "Queue")
	v.shows("#facts", "Tokens")
	require.True(t, eval[bool](v, "window.same"), "the page was not loaded again")
	v.feedIsInOrder()
	v.times()
}

// feedIsInOrder asserts that the events on the page begin with the first, and that
// each stands there once.
func (v *visitor) feedIsInOrder() {
	v.t.Helper()
	sequences := eval[[]int](v, `[...document.querySelectorAll("#feed .sequence")].map((e) => Number(e.textContent))`)
	require.Equal(v.t, 1, sequences[0])
	require.IsIncreasing(v.t, sequences)
}

// times asserts that a time is the reader's, and exact in UTC on hover.
func (v *visitor) times() {
	require.Regexp(v.t, `^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? UTC$`, eval[string](v, `document.querySelector("#facts time").title`))
	require.True(v.t, eval[bool](v, `(() => {
		const time = document.querySelector("#facts time");
		return time.textContent === new Intl.DateTimeFormat(undefined, {dateStyle: "medium", timeStyle: "medium"}).format(new Date(time.dateTime));
	})()`))
}

// rotateKey returns the curl line with the new key. The old key stays valid.
func (v *visitor) rotateKey(line string) string {
	v.open(assistant + "/keys")
	v.click("#list button.small:not(.danger)")
	v.shows("#dialog-title", evil)
	v.fill("#dialog-select", "3600")
	v.confirm()
	v.shows("#notices", "is rotated")
	v.shows("#replaced", "expires: ")
	secret, next := v.text("#secret code"), v.text("#curl code")
	require.Regexp(v.t, "^[0-9a-f]{64}$", secret)
	require.NotContains(v.t, line, secret)
	v.until(`document.querySelectorAll("#list tbody tr").length === 2`)
	ends := eval[string](v, `document.querySelector("#replaced time").dateTime`)
	require.Equal(v.t, ends, eval[string](v, `document.querySelector("#list tr:last-child [data-label=Expires] time").dateTime`))
	for _, works := range []string{line, next} {
		require.Contains(v.t, shell(v.t, works), "accepted")
	}
	v.clean()
	v.open(assistant + "/keys")
	require.NotContains(v.t, eval[string](v, "document.documentElement.outerHTML"), secret, "shown once")
	return next
}

// revokeKey revokes the newest key. The old key stays valid.
func (v *visitor) revokeKey(old, newest string) {
	v.open(assistant + "/keys")
	v.click("#list .danger")
	v.click("#dialog-no")
	v.until(`document.querySelectorAll("#list .badge.good").length === 2`)
	eval[bool](v, `["#list .danger", "#dialog-no", "#list .danger"].every((e) => (document.querySelector(e).click(), true))`) // asked again at once
	v.shows("#dialog-title", evil)
	v.confirm()
	v.shows("#notices", "is revoked")
	v.shows("#list .badge", "revoked")
	require.Contains(v.t, shell(v.t, newest), `"status":401`)
	require.Contains(v.t, shell(v.t, old), "accepted")
}

// runTask creates a task whose result is JSON, and runs it.
func (v *visitor) runTask() {
	v.open(assistant + "/tasks/new")
	v.shows("#tools", "calculator")
	v.fill("input[name=name]", "Extract "+evil)
	v.fill("textarea[name=instructions]", "Answer in JSON. "+evil)
	require.False(v.t, eval[bool](v, `document.querySelector("#output_schema").checkVisibility()`))
	v.click("input[value=json]")
	v.fill("#output_schema", `{"type": "object",`)
	v.shows("#schema-state", "line 1")
	v.click("#task button.main")
	v.shows(".fault", "line 1")
	v.fill("#output_schema", `{"type": "no such type"}`)
	v.click("#task button.main")
	v.until(`document.querySelector("#output_schema[aria-invalid=true]")`) // by the server's word
	v.fill("#output_schema", `{"type": "object", "required": ["total"], "properties": {"total": {"type": "number"}}}`)
	v.click("#tools input[value=calculator]")
	v.until(`!document.querySelector("#approvals input[value=current_time]").checkVisibility()`) // the task cannot use it
	v.click("#approvals input[value=calculator]")
	v.click("#task button.main")
	v.until(`/\/admin\/tasks\/\d+$/.test(location.pathname)`)
	v.settled()
	v.shows("h2", "Extract "+evil)
	require.Contains(v.t, eval[string](v, `document.querySelector("#output_schema").value`), `"required": [`)
	require.True(v.t, eval[bool](v, `["#tools", "#approvals"].every((place) => document.querySelector(place + " input[value=calculator]").checked && !document.querySelector(place + " input[value=current_time]").checked)`))
	v.clean()

	v.click(`a[href*="/test?task="]`)
	v.until(`document.querySelector("select[name=task_definition_id]")?.value`)
	v.fill("textarea[name=message]", "/say {\"total\": 123456789012345678901, \"note\": "+quote(evil)+"}")
	v.click("#more summary")
	v.fill("input[name=subject]", evil)
	v.fill("textarea[name=context]", `{"ticket": 1e22, "x": `)
	v.click("#trigger button.main")
	v.shows("#trigger .fault", "JSON")
	v.fill("textarea[name=context]", `{"ticket": 1e22, "x": `+quote(evil)+`}`)
	v.fill("textarea[name=metadata]", `[`+quote(evil)+`]`)
	v.click("#trigger button.main")
	v.until(`/\/admin\/runs\/\d+$/.test(location.pathname)`)
	v.shows("#status", "completed")
	v.shows("#result pre", `"total": 123456789012345678901`)
	v.shows("#request-panel", `"ticket": 1e22`)
	for _, place := range []string{"#request-panel .text", "pre[aria-label=Context]", "pre[aria-label=Metadata]", "#result pre"} {
		v.until(fmt.Sprintf(`document.querySelector(%s).textContent.includes("<script>window.pwned=1")`, quote(place)))
	}
	v.part("events")
	v.shows("#feed", "run_completed")
	eval[bool](v, `(document.querySelectorAll("#feed .line").forEach((line) => line.click()), true)`)
	v.shows("#feed pre", "<script>")
	v.clean()
}

func (v *visitor) cancel() {
	v.open(assistant + "/test")
	v.fill("textarea[name=message]", `/tool calculator {"expression": `+quote(evil)+"}\n/hang")
	v.click("#trigger button.main")
	v.until(`/\/admin\/runs\/\d+$/.test(location.pathname)`)
	v.shows("#status", "running")
	v.part("events")
	v.shows("#feed", "tool_")
	v.click("#cancel")
	v.fill("#dialog-input", "no longer needed "+evil)
	v.confirm()
	v.shows("#status", "cancelled no longer needed "+evil)
	v.shows("#feed", "run_cancelled")
	v.until(`document.querySelector("#cancel").hidden`)
	v.clean()
}

// redeliver requests a redelivery of a callback that the receiver has rejected.
func (v *visitor) redeliver(r *receiver) {
	v.open(assistant + "/test")
	v.fill("textarea[name=message]", "/say "+evil)
	v.click("#more summary")
	v.fill("#trigger input[name=callback_url]", r.url+"/hook")
	v.click("#trigger button.main")
	v.until(`/\/admin\/runs\/\d+$/.test(location.pathname)`)
	v.shows("#deliveries .badge", "failed")
	v.shows("#deliveries", "500")
	v.shows("#result", evil)
	v.part("callback")
	v.click("#deliveries summary")
	v.shows("#deliveries pre", evil)
	v.clean()
	v.click("#deliveries button")
	v.shows("#dialog-text", r.url)
	v.confirm()
	v.shows("#deliveries .badge", "delivered")
	v.shows("#deliveries", "Delivery 2")
	require.Equal(v.t, 2, r.received())
}

func (v *visitor) testCallback(r *receiver) {
	v.open(assistant + "/test")
	v.fill("#callback input", "http://127.0.0.1/")
	v.click("#callback button")
	v.until(`document.querySelector("#callback .fault")`)
	v.fill("#callback input", r.url+"/test")
	v.click("#callback button")
	v.shows("#outcome", "delivered")
	v.shows("#outcome pre", evil)
	v.clean()
	require.Equal(v.t, 3, r.received())
}
