package llm_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/scripted"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// approving is a service with an agent whose calls are recorded.
type approving struct {
	t   *testing.T
	svc *webtrigger.Service

	mu    sync.Mutex
	calls []string
}

func newApproving(t *testing.T, opts llm.AgentOptions) *approving {
	t.Helper()
	a := &approving{t: t}
	tool := llm.Tool{Name: "refund", Description: "Refunds.", Call: func(_ context.Context, arguments json.RawMessage) (string, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.calls = append(a.calls, string(arguments))
		return "done", nil
	}}
	plain := tool
	plain.Name = "note"
	tool.NeedsApproval = true
	opts.Tools = []llm.Tool{tool, plain}
	agent, err := llm.NewAgent(scripted.New(), &opts)
	require.NoError(t, err)
	a.svc, err = webtrigger.New(memstore.New(nil), agent, &webtrigger.Options{BaseURL: "https://app.example.com"})
	require.NoError(t, err)
	require.NoError(t, a.svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
	return a
}

func (a *approving) trigger(message string, taskID int64) webtrigger.Run {
	a.t.Helper()
	created, err := a.svc.Trigger(a.t.Context(), "1", webtrigger.TriggerRequest{Message: message, TaskDefinitionID: taskID})
	require.NoError(a.t, err)
	return created
}

// execute executes one attempt and returns the run.
func (a *approving) execute(runID int64) webtrigger.Run {
	a.t.Helper()
	require.NoError(a.t, a.svc.Execute(a.t.Context(), runID))
	run, err := a.svc.RunByID(a.t.Context(), runID)
	require.NoError(a.t, err)
	return run
}

// open returns the request for which a run waits.
func (a *approving) open(runID int64) webtrigger.Input {
	a.t.Helper()
	open, err := a.svc.OpenInputs(a.t.Context(), []int64{runID})
	require.NoError(a.t, err)
	require.Len(a.t, open, 1)
	return open[runID]
}

func (a *approving) answer(runID int64, answer webtrigger.InputAnswer) {
	a.t.Helper()
	_, err := a.svc.AnswerInput(a.t.Context(), runID, a.open(runID).ID, answer)
	require.NoError(a.t, err)
}

// What a person approves is what the tool gets, byte for byte.
func TestAgent_toolNeedsApproval_callsWhatWasApproved(t *testing.T) {
	t.Parallel()
	a := newApproving(t, llm.AgentOptions{})
	run := a.trigger(`/tool note {"a": 1}`+"\n"+`/tool refund { "amount": 1e2, "to": "\u00e9<b>", "n": -0 }`, 0)
	require.Equal(t, webtrigger.RunWaiting, a.execute(run.ID).Status)
	require.Equal(t, []string{`{"a": 1}`}, a.calls)
	request := a.open(run.ID).Request
	require.Equal(t, "refund", request.Tool)
	require.Equal(t, `{"amount":1e2,"to":"\u00e9<b>","n":-0}`, string(request.Arguments))

	a.answer(run.ID, webtrigger.InputAnswer{Decision: webtrigger.DecisionApprove})
	run = a.execute(run.ID)
	require.Equal(t, "The tool said: done", run.Result)
	require.Equal(t, 1, run.Attempts)
	require.Equal(t, []string{`{"a": 1}`, string(request.Arguments)}, a.calls)
	require.NotNil(t, run.Usage)
}

func TestAgent_toolDenied_modelReadsReason(t *testing.T) {
	t.Parallel()
	a := newApproving(t, llm.AgentOptions{})
	run := a.trigger(`/tool refund {"amount": 100}`, 0)
	a.execute(run.ID)
	a.answer(run.ID, webtrigger.InputAnswer{Decision: webtrigger.DecisionDeny, Reason: "Too much"})
	run = a.execute(run.ID)
	require.Contains(t, run.Result, "Error: a person denied the call: Too much.")
	require.Empty(t, a.calls)
}

func TestAgent_taskApprovesTools_callWaits(t *testing.T) {
	t.Parallel()
	a := newApproving(t, llm.AgentOptions{})
	task, err := a.svc.CreateTaskDefinition(t.Context(), webtrigger.TaskDefinition{
		AssistantID: "1", Name: "n", Instructions: "i", Active: true, ApproveTools: []string{"note"}})
	require.NoError(t, err)
	run := a.trigger(`/tool note {}`, task.ID)
	require.Equal(t, webtrigger.RunWaiting, a.execute(run.ID).Status)
	require.Equal(t, webtrigger.RunCompleted, a.execute(a.trigger(`/tool note {}`, 0).ID).Status)
	require.Len(t, a.calls, 1)
}

func TestAgent_approveCall_callWaits(t *testing.T) {
	t.Parallel()
	a := newApproving(t, llm.AgentOptions{ApproveCall: scripted.Approves})
	run := a.trigger(`/approve note {"a":1}`, 0)
	require.Equal(t, webtrigger.RunWaiting, a.execute(run.ID).Status)
	require.Empty(t, a.calls)
	a.answer(run.ID, webtrigger.InputAnswer{Decision: webtrigger.DecisionApprove})
	require.Equal(t, webtrigger.RunCompleted, a.execute(run.ID).Status)
	require.Equal(t, []string{`{"a":1}`}, a.calls)
}

func TestAgent_askHuman_answerIsTheResult(t *testing.T) {
	t.Parallel()
	a := newApproving(t, llm.AgentOptions{AskHuman: true, InputExpiry: time.Hour})
	run := a.trigger("/ask Which account?\n/tool note {}\n/ask Really?", 0)
	require.Equal(t, webtrigger.RunWaiting, a.execute(run.ID).Status)
	input := a.open(run.ID)
	require.Equal(t, "Which account?", input.Request.Question)
	require.Equal(t, time.Hour, input.ExpiresAt.Sub(input.CreatedAt))
	a.answer(run.ID, webtrigger.InputAnswer{Answer: json.RawMessage(`"main"`)})
	require.Equal(t, webtrigger.RunWaiting, a.execute(run.ID).Status)
	require.Len(t, a.calls, 1)
	a.answer(run.ID, webtrigger.InputAnswer{Answer: json.RawMessage(`"yes <b>"`)})
	run = a.execute(run.ID)
	require.Equal(t, "The tool said: yes <b>", run.Result)
	require.Len(t, a.calls, 1, "a later attempt must not repeat the call")
}

func TestAgent_askHumanOff_toolIsUnknown(t *testing.T) {
	t.Parallel()
	a := newApproving(t, llm.AgentOptions{})
	run := a.execute(a.trigger("/ask Which?", 0).ID)
	require.Contains(t, run.Result, `the tool "ask_human" is not available`)
}

func TestAgent_argumentsCannotBeShown_modelReadsMistake(t *testing.T) {
	t.Parallel()
	a := newApproving(t, llm.AgentOptions{})
	run := a.execute(a.trigger(`/tool refund {"a":"\u0000"}`, 0).ID)
	require.Equal(t, webtrigger.RunCompleted, run.Status)
	require.Contains(t, run.Result, "cannot be shown to a person")
	require.Empty(t, a.calls)
}
