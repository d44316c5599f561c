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

// The console is served by a process that executes nothing; another one does.
func TestConsoleOnPostgres(t *testing.T) {
	t.Parallel()
	flags := []string{"-db", pgtest.Database(t)}
	serve(t, append(flags, oneWorker...)...)
	v := visit(t, serve(t, append(flags, "-workers", "0")...))
	v.signIn()
	v.enableChannel()
	line := v.createKey()
	v.watch(line, 1)
	v.cancel()
	v.revokeKey(line, v.rotateKey(line))
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
		const spaces = (text) => text.replaceAll(/\s/g, " "), format = new Intl.DateTimeFormat(undefined, {dateStyle: "medium", timeStyle: "medium"});
		return spaces(time.textContent) === spaces(format.format(new Date(time.dateTime))) && time.textContent.split(" ").length === 2; // a line breaks between the two only
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
