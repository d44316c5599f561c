package steptest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
)

// modelFunc answers by the number of earlier answers in the conversation, so it has no
// state.
type modelFunc func(ctx context.Context, answers int, req *llm.Request, stream func(llm.Chunk) error) (*llm.Response, error)

func (f modelFunc) Generate(ctx context.Context, req *llm.Request, stream func(llm.Chunk) error) (*llm.Response, error) {
	n := 0
	for _, m := range req.Messages {
		if m.Role == webtrigger.RoleAssistant {
			n++
		}
	}
	return f(ctx, n, req, stream)
}

func toolCall(id, name, arguments string) llm.ToolCall {
	return llm.ToolCall{ID: id, Name: name, Arguments: json.RawMessage(arguments)}
}

// runs returns an attempt of an agent.
func runs(t *testing.T, model llm.LLM, tools ...llm.Tool) attempt {
	return runsCounting(t, new(webtrigger.Usage), model, tools...)
}

// runsCounting is runs, and sets the usage that the agent reports.
func runsCounting(t *testing.T, usage *webtrigger.Usage, model llm.LLM, tools ...llm.Tool) attempt {
	t.Helper()
	agent, err := llm.NewAgent(model, &llm.AgentOptions{Tools: tools, ParallelTools: 1})
	require.NoError(t, err)
	return func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (string, error) {
		result, err := agent.Run(ctx, task, emit)
		if result.Usage != nil {
			*usage = *result.Usage
		}
		return result.Text, err
	}
}

// payloads returns the events of a type.
func (r *rig) payloads(typ webtrigger.EventType) (payloads []string) {
	page, err := r.store.Store.Events(r.t.Context(), webtrigger.EventQuery{ConversationID: r.run.ConversationID, Limit: 10_000})
	r.NoError(err)
	for _, e := range page.Events {
		if e.Type == typ {
			payloads = append(payloads, string(e.Payload))
		}
	}
	return payloads
}

// The model has answered twice and a tool was called when the attempt ends. The next one
// continues with the third answer.
func TestAgent_laterAttempt_reusesAnswersAndResults(t *testing.T) {
	t.Parallel()
	var r *rig
	var asked []int
	var last []llm.Message
	calls := 0
	usage := webtrigger.Usage{InputTokens: 10, OutputTokens: 1}
	interrupts := true
	model := modelFunc(func(ctx context.Context, answers int, req *llm.Request, stream func(llm.Chunk) error) (*llm.Response, error) {
		asked = append(asked, answers)
		last = slices.Clone(req.Messages)
		switch answers {
		case 0:
			_ = stream(llm.Chunk{Text: "Let me "})
			return &llm.Response{Text: "Let me look.", Usage: usage, Native: json.RawMessage(`{"signed":"a\u0000<"}`),
				ToolCalls: []llm.ToolCall{toolCall("c1", "look", `{"n": 1}`), toolCall("", "nothing", `{"broken`), toolCall("c3", "look", `[]`)}}, nil
		case 1:
			return &llm.Response{Usage: usage, ToolCalls: []llm.ToolCall{toolCall("c4", "look", `{}`)}}, nil
		}
		if interrupts {
			interrupts = false
			return nil, r.interrupt(ctx)
		}
		return &llm.Response{Text: "Done.", Usage: usage}, nil
	})
	var total webtrigger.Usage
	attempt := runsCounting(t, &total, model, llm.Tool{Name: "look", Call: func(context.Context, json.RawMessage) (string, error) {
		calls++
		if calls == 2 {
			return "", errors.New("nothing to see")
		}
		return fmt.Sprintf("seen %d", calls), nil
	}})
	r = newRig(t, attempt, attempt)
	r.execute()
	seen := last
	run := r.execute()
	r.Equal(webtrigger.RunCompleted, run.Status, run.ErrorMessage)
	r.Equal("Done.", run.Result)
	r.Equal([]int{0, 1, 2, 2}, asked)
	r.Equal(2, calls)
	r.Equal(seen, last, "the model sees the same conversation, native forms included")
	r.Equal(webtrigger.Usage{InputTokens: 30, OutputTokens: 3}, total, "each answer counts once")
	r.Equal([]string{
		"run_started", "message_delta", "message_delta", "model_completed", "message_completed",
		"tool_started", "tool_completed", "tool_started", "tool_failed", "tool_started", "tool_failed", "model_completed", "tool_started", "tool_failed",
		"run_requeued", "run_started", "message_delta", "model_completed", "message_completed", "run_completed",
	}, r.events())
}

// A call was under way when the attempt ended.
func TestAgent_interruptedCall_isRepeatedOnlyIfDeclared(t *testing.T) {
	t.Parallel()
	for _, repeatable := range []bool{false, true} {
		t.Run(fmt.Sprintf("repeatable %v", repeatable), func(t *testing.T) {
			t.Parallel()
			var r *rig
			var ids []string
			var read string
			asks := 0
			model := modelFunc(func(ctx context.Context, answers int, req *llm.Request, _ func(llm.Chunk) error) (*llm.Response, error) {
				if answers == 0 {
					return &llm.Response{ToolCalls: []llm.ToolCall{toolCall("c1", "charge", `{}`)}}, nil
				}
				if asks++; asks == 1 {
					return nil, r.interrupt(ctx)
				}
				read = req.Messages[len(req.Messages)-1].Content
				return &llm.Response{Text: "Done."}, nil
			})
			attempt := runs(t, model, llm.Tool{Name: "charge", Repeatable: repeatable, Call: func(ctx context.Context, _ json.RawMessage) (string, error) {
				call, _ := llm.CallFrom(ctx)
				if ids = append(ids, call.ID); len(ids) == 1 {
					return "", r.interrupt(ctx)
				}
				return "charged", nil
			}})
			r = newRig(t, attempt, attempt, attempt)
			r.execute()
			r.execute()
			run := r.execute()
			r.Equal(webtrigger.RunCompleted, run.Status, run.ErrorMessage)
			outcome := "tool_failed"
			if repeatable {
				outcome = "tool_completed"
				r.Equal([]string{"c1", "c1"}, ids)
				r.Equal("charged", read)
			} else {
				r.Equal([]string{"c1"}, ids)
				r.Contains(read, "the outcome of the call is unknown")
			}
			r.Equal([]string{"run_started", "model_completed", "tool_started", "run_requeued", "run_started", outcome, "run_requeued", "run_started",
				"message_delta", "model_completed", "message_completed", "run_completed"}, r.events())
		})
	}
}

// A message that continues over several answers: readers drop its pieces when another
// attempt starts, so the attempt emits them again.
func TestAgent_continuedMessage_isEmittedAgain(t *testing.T) {
	t.Parallel()
	var r *rig
	interrupts := true
	model := modelFunc(func(ctx context.Context, answers int, _ *llm.Request, stream func(llm.Chunk) error) (*llm.Response, error) {
		if answers == 0 {
			_ = stream(llm.Chunk{Text: "one "})
			return &llm.Response{ToolCalls: []llm.ToolCall{toolCall("c1", "look", `{}`)}}, nil
		}
		if interrupts {
			interrupts = false
			return nil, r.interrupt(ctx)
		}
		_ = stream(llm.Chunk{Text: "two"})
		return &llm.Response{Finish: llm.FinishStop}, nil
	})
	attempt := runs(t, model, llm.Tool{Name: "look", Call: func(context.Context, json.RawMessage) (string, error) { return "", nil }})
	r = newRig(t, attempt, attempt)
	r.execute()
	r.Equal("one two", r.execute().Result)
	r.Equal([]string{`{"text":"one "}`, `{"text":"one "}`, `{"text":"two"}`}, r.payloads(webtrigger.EventMessageDelta))
	r.Equal([]string{`{"text":"one two"}`}, r.payloads(webtrigger.EventMessageCompleted))
}

// What does not fit into a record is not recorded, and the run continues.
func TestAgent_largeAnswer_completes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", webtrigger.MaxResultBytes)
	r := newRig(t, runs(t, modelFunc(func(context.Context, int, *llm.Request, func(llm.Chunk) error) (*llm.Response, error) {
		return &llm.Response{Text: long}, nil
	})))
	run := r.execute()
	r.Equal(webtrigger.RunCompleted, run.Status, run.ErrorMessage)
	r.Equal(long, run.Result)
	r.Empty(r.steps())
}

// Another version of an agent asks for another tool call under the same id.
func TestAgent_changedCode_failsTheRun(t *testing.T) {
	t.Parallel()
	var r *rig
	attempt := func(interrupts bool) attempt {
		return runs(t, modelFunc(func(ctx context.Context, answers int, _ *llm.Request, _ func(llm.Chunk) error) (*llm.Response, error) {
			if interrupts && answers > 0 {
				return nil, r.interrupt(ctx)
			}
			return &llm.Response{ToolCalls: []llm.ToolCall{toolCall("c1", "look", `{}`)}}, nil
		}), llm.Tool{Name: "look", Call: func(context.Context, json.RawMessage) (string, error) { return "seen", nil }})
	}
	r = newRig(t, attempt(true), func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (string, error) {
		_, err := webtrigger.StepWith(ctx, task, "model", func(context.Context) (string, error) { return "", nil }, &webtrigger.StepOptions{Input: "other"})
		return "", err
	})
	r.execute()
	run := r.execute()
	r.Equal(webtrigger.RunFailed, run.Status)
	r.Equal(misfit, run.ErrorMessage)
}
