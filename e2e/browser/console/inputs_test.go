package console_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// Runs wait for a person, who answers them.
func TestInputs_waitingRuns_areAnswered(t *testing.T) {
	t.Parallel()
	v := visit(t, serve(t, "-db", "memory"))
	v.allowErrors = true // the 409 and the 410
	v.signIn()
	v.approveByKeyboard()
	v.denyWithReason()
	v.secondOperator()
	v.cancelledWhileWaiting()
	v.answerQuestion()
	v.answerForms()
	v.inputScope()
}

// waiting triggers a run and opens its page when it waits. It returns the id of the
// request.
func (v *visitor) waiting(message string) (run int64, request any) {
	v.t.Helper()
	run = v.trigger(message)
	v.open(fmt.Sprintf("/admin/runs/%d", run))
	v.shows("#ask-title", "Waiting for")
	v.shows("#status", "waiting")
	return run, api(v.t, v.site, fmt.Sprintf("GET /runs/%d", run), nil)["inputs"].([]any)[0].(map[string]any)["id"]
}

// approveByKeyboard finds a run in the list and approves its call, as it is stored.
func (v *visitor) approveByKeyboard() {
	run := v.trigger(`/approve calculator {"expression": "\u0036*7"}`)
	v.open("/admin/")
	v.click(`.side a[href$="waiting"]`)
	v.until(`location.pathname === "/admin/waiting"`)
	v.shows("#list tbody tr", "Approve the call of calculator?")
	v.shows("#list [data-label=Asked]", "< 1 min ago")
	v.shows("#list [data-label=Expires]", "in 23 h 59 min")
	v.click(fmt.Sprintf(`#list a[href$="runs/%d"]`, run))
	v.until(fmt.Sprintf(`location.pathname === "/admin/runs/%d"`, run))
	v.shows("#ask-arguments", `"expression": "\u0036*7"`)
	v.shows("#result", "waits for the answer")
	v.do(chromedp.Focus(chromedp.CSS("#ask-arguments")))
	v.key("Tab")
	v.focused(`e.name === "reason" && e.labels[0].textContent.startsWith("Reason")`)
	v.key("Tab")
	v.focused(`e.value === "approve"`)
	v.key("Enter")
	v.toast("The answer is sent. The run continues.")
	v.focused(`e.id === "title"`)
	v.shows("#status", "completed")
	v.shows("#answers", "Approved by admin")
	v.open("/admin/waiting")
	v.shows("#list", "No run waits for input.")
}

func (v *visitor) denyWithReason() {
	v.waiting("/approve calculator {\"expression\": \"6*7 \u202e\"}\n/say " + evil)
	v.shows("#ask .notice", "change the order")
	v.fill("#reply textarea", "Too much "+evil)
	v.click("#reply button[value=deny]")
	v.toast("The answer is sent")
	v.shows("#answers", "Denied by admin, because: Too much "+evil)
	v.shows("#status", "completed")
	v.clean()
}

// secondOperator answers after another one, before and after the page shows it.
func (v *visitor) secondOperator() {
	const first = `{"request_id": %v, "decision": "deny", "reason": "Too much."}`
	run, request := v.waiting(`/approve calculator {"expression": "6*7"}`)
	require.Equal(v.t, 202, eval[int](v, fmt.Sprintf(`(() => {
		const other = new XMLHttpRequest(); // the page does nothing before it has returned
		other.open("POST", "/admin/api/runs/%d/input", false);
		other.setRequestHeader("Content-Type", "application/json");
		other.send(%s);
		document.querySelector("#reply button[value=approve]").click();
		return other.status;
	})()`, run, quote(fmt.Sprintf(first, request)))))
	v.shows("#notices .bad", "Another answer came first. Denied by admin, because: Too much.")
	v.until(`document.querySelector("#ask").hidden`)

	run, request = v.waiting(`/approve calculator {"expression": "6*7"}`)
	v.do(chromedp.Focus(chromedp.CSS("#reply textarea")))
	api(v.t, v.site, fmt.Sprintf("POST /runs/%d/input", run), map[string]any{"request_id": request, "decision": "deny"})
	v.toast("This request has an answer. Denied by admin")
	v.focused(`e.id === "title"`)
}

// cancelledWhileWaiting answers a request that has been closed.
func (v *visitor) cancelledWhileWaiting() {
	run, _ := v.waiting("/ask Which?")
	v.fill("#reply textarea", "main")
	eval[bool](v, fmt.Sprintf(`(() => {
		const other = new XMLHttpRequest();
		other.open("POST", "/admin/api/runs/%d/cancel", false);
		other.send();
		document.querySelector("#reply button").click();
		return true;
	})()`, run))
	v.shows("#notices .bad", "This request is closed.")
	v.shows("#status", "cancelled")
}

func (v *visitor) answerQuestion() {
	v.waiting("/ask Which account?")
	v.shows("#ask", "Which account?")
	v.click("#reply button")
	v.shows("#reply .fault", "An answer is required.")
	v.fill("#reply textarea", strings.Repeat("x", 70_000))
	v.click("#reply button")
	v.shows("#reply .fault", "must have at most 65,536 bytes")
	v.focused(`e.name === "answer"`)
	v.fill("#reply textarea", "main")
	v.click("#reply button")
	v.shows("#answers", `Answered by admin with "main"`)
	v.shows("#status", "completed")
}

// answerForms fills in the forms of questions with choices and with a schema.
func (v *visitor) answerForms() {
	show := func(fields string) {
		eval[bool](v, fmt.Sprintf(`import("/admin/static/inputs.js").then(({showInputs}) => {
			window.fetch = (_, {body}) => (window.sent = body, Promise.resolve(Response.json({})));
			const ask = {kind: "question", question: "Which?", choices: null, schema: null, tool: null, answered_at: null, expires_at: "2100-01-01T00:00:00Z", %s};
			showInputs({status: "waiting", inputs: [ask]}, async () => undefined);
			return true;
		})`, fields))
	}
	show(`id: 1001, choices: ["main", "reserve"]`)
	v.click("#reply button")
	v.shows("#answer .fault", "Select an answer.")
	v.focused(`e.value === "main"`)
	v.click("#reply input[value=reserve]")
	v.click("#reply button")
	v.until(`window.sent === '{"request_id":1001,"answer":"reserve"}'`)

	show(`id: 1002, schema: {type: "integer"}`)
	v.fill("#reply textarea", "1e")
	v.click("#reply button")
	v.shows("#reply .fault", "Exponent part is missing")
	v.fill("#reply textarea", "10000000000000000001")
	v.click("#reply button")
	v.until(`window.sent === '{"request_id":1002,"answer":10000000000000000001}'`)
}

// inputScope creates a key that may answer runs, and nothing else.
func (v *visitor) inputScope() {
	v.open("/admin/assistants/3/keys")
	v.fill("#create input[name=name]", "Slack")
	for _, scope := range []string{"trigger", "read", "cancel"} {
		v.click(fmt.Sprintf("#scopes input[value=%s]", scope))
	}
	v.click("#create button")
	v.shows("#scopes .fault", "A key needs at least one scope.")
	v.click("#scopes input[value=input]")
	v.click("#create button")
	v.shows("#list [data-label=Scopes]", "input")
}
