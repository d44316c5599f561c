package steptest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
)

// Another version of a Runner has more steps, fewer, or another order. Records belong to
// names, so it uses those that it has, and executes the others.
func TestStep_otherVersion_usesTheRecordsThatFit(t *testing.T) {
	t.Parallel()
	var called []string
	step := func(ctx context.Context, task *webtrigger.Task, name string) error {
		got, err := webtrigger.StepWith(ctx, task, name, func(context.Context) (string, error) {
			called = append(called, name)
			return "of " + name, nil
		}, &webtrigger.StepOptions{Input: "for " + name})
		if err == nil && got != "of "+name {
			err = fmt.Errorf("step %s: %s", name, got)
		}
		return err
	}
	var r *rig
	r = newRig(t, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (string, error) {
		return "", errors.Join(step(ctx, task, "a"), step(ctx, task, "b"), step(ctx, task, "c"), r.interrupt(ctx))
	}, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (string, error) {
		return "done", errors.Join(step(ctx, task, "new"), step(ctx, task, "c"), step(ctx, task, "a"))
	})
	r.execute()
	run := r.execute()
	r.Equal(webtrigger.RunCompleted, run.Status, run.ErrorMessage)
	r.Equal([]string{"a", "b", "c", "new"}, called)
}

// Steps of one name in another order do not fit: their inputs differ.
func TestStep_otherVersionReordersOneName_failsTheRun(t *testing.T) {
	t.Parallel()
	calls := 0
	items := func(ctx context.Context, task *webtrigger.Task, items ...string) error {
		for _, item := range items {
			if _, err := webtrigger.StepWith(ctx, task, "item", counting(&calls), &webtrigger.StepOptions{Input: item}); err != nil {
				return err
			}
		}
		return nil
	}
	var r *rig
	r = newRig(t, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (string, error) {
		return "", errors.Join(items(ctx, task, "x", "y"), r.interrupt(ctx))
	}, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (string, error) {
		return "done", items(ctx, task, "y", "x")
	})
	r.execute()
	run := r.execute()
	r.Equal(webtrigger.RunFailed, run.Status)
	r.Equal(misfit, run.ErrorMessage)
	r.Equal(2, calls)
}

// Another version asks more, and in another order: the answer to a question of another name
// is used when its question comes.
func TestAskInput_otherVersionAsksMore_usesTheAnswer(t *testing.T) {
	t.Parallel()
	asks := func(names ...string) attempt {
		return func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (text string, _ error) {
			for _, name := range names {
				answer, err := webtrigger.AskInput(ctx, task, webtrigger.InputRequest{Name: name, Question: name + "?"})
				if err != nil {
					return "", err
				}
				text += answer.Text()
			}
			return text, nil
		}
	}
	r := newRig(t, asks("a", "b"), asks("b", "a"), asks("b", "a"))
	answer := func(question, text string) {
		t.Helper()
		open, err := r.svc.OpenInputs(t.Context(), []int64{r.run.ID})
		r.NoError(err)
		input := open[r.run.ID]
		r.Equal(question, input.Request.Question)
		_, err = r.svc.AnswerInput(t.Context(), r.run.ID, input.ID, webtrigger.InputAnswer{Answer: json.RawMessage(`"` + text + `"`)})
		r.NoError(err)
	}
	r.Equal(webtrigger.RunWaiting, r.execute().Status)
	answer("a?", "first ")
	r.Equal(webtrigger.RunWaiting, r.execute().Status)
	answer("b?", "second ")
	run := r.execute()
	r.Equal(webtrigger.RunCompleted, run.Status, run.ErrorMessage)
	r.Equal("second first ", run.Result)
}

// versions returns attempts of two versions of an agent. The first one interrupts itself in
// its second model call, or in a tool call; the second one has other instructions and tools.
func versions(t *testing.T, r **rig, old []llm.Tool, options llm.AgentOptions, calls []llm.ToolCall, read *[]llm.Message) (first, second attempt) {
	t.Helper()
	model := func(version int) modelFunc {
		return func(ctx context.Context, _ int, req *llm.Request, _ func(llm.Chunk) error) (*llm.Response, error) {
			first := req.Messages[len(req.Messages)-1].Role == webtrigger.RoleUser
			switch {
			case first && version == 1:
				return &llm.Response{ToolCalls: calls}, nil
			case first:
				return nil, errors.New("the first answer is recorded")
			case version == 1:
				return nil, (*r).interrupt(ctx)
			}
			*read = req.Messages
			return &llm.Response{Text: "done"}, nil
		}
	}
	agent, err := llm.NewAgent(model(2), &options)
	require.NoError(t, err)
	return runs(t, model(1), old...), func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (string, error) {
		result, err := agent.Run(ctx, task, emit)
		return result.Text, err
	}
}

// A later version of an agent has other instructions and other tools. The recorded answers
// and results stay, those of removed tools too.
func TestAgent_otherVersion_usesRecordedResults(t *testing.T) {
	t.Parallel()
	looks := 0
	look := llm.Tool{Name: "look", Call: func(context.Context, json.RawMessage) (string, error) { looks++; return "seen", nil }}
	find := llm.Tool{Name: "find", Call: func(context.Context, json.RawMessage) (string, error) { return "", errors.New("not called") }}
	var r *rig
	var read []llm.Message
	first, second := versions(t, &r, []llm.Tool{look}, llm.AgentOptions{
		Tools:        []llm.Tool{find},
		Instructions: func(context.Context, string) (string, error) { return "Be brief.", nil },
	}, []llm.ToolCall{toolCall("c1", "look", `{}`)}, &read)
	r = newRig(t, first, second)
	r.execute()
	run := r.execute()
	r.Equal(webtrigger.RunCompleted, run.Status, run.ErrorMessage)
	r.Equal("done", run.Result)
	r.Equal(1, looks)
	r.Equal("seen", read[len(read)-1].Content)
}

// A later version of an agent has removed a tool, or changed its parameters, while a call
// of it was under way: the model reads that the outcome is unknown, not that there was no call.
func TestAgent_otherVersionDuringACall_outcomeIsUnknown(t *testing.T) {
	t.Parallel()
	for name, tools := range map[string][]llm.Tool{
		"without the tool": nil,
		"with other parameters": {{Name: "charge", Parameters: json.RawMessage(`{"type":"object","required":["currency"]}`),
			Call: func(context.Context, json.RawMessage) (string, error) { return "", errors.New("not called") }}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var r *rig
			var read []llm.Message
			charge := llm.Tool{Name: "charge", Call: func(ctx context.Context, _ json.RawMessage) (string, error) { return "", r.interrupt(ctx) }}
			first, second := versions(t, &r, []llm.Tool{charge}, llm.AgentOptions{Tools: tools}, []llm.ToolCall{toolCall("c1", "charge", `{}`)}, &read)
			r = newRig(t, first, second)
			r.execute()
			run := r.execute()
			r.Equal(webtrigger.RunCompleted, run.Status, run.ErrorMessage)
			r.Contains(read[len(read)-1].Content, "the outcome of the call is unknown")
		})
	}
}

// A later version of an agent lets a call wait for approval that an earlier attempt has
// executed: whatever the person decides, the recorded result counts. The white space of the
// arguments, which the person does not see, makes no difference.
func TestAgent_otherVersionAddsApproval_usesRecordedResult(t *testing.T) {
	t.Parallel()
	for _, decision := range []webtrigger.Decision{webtrigger.DecisionApprove, webtrigger.DecisionDeny} {
		t.Run(string(decision), func(t *testing.T) {
			t.Parallel()
			charges := 0
			charge := llm.Tool{Name: "charge", Call: func(context.Context, json.RawMessage) (string, error) { charges++; return "charged", nil }}
			later := charge
			later.NeedsApproval = true
			var r *rig
			var read []llm.Message
			first, second := versions(t, &r, []llm.Tool{charge}, llm.AgentOptions{Tools: []llm.Tool{later}}, []llm.ToolCall{toolCall("c1", "charge", `{ "n": 1 }`)}, &read)
			r = newRig(t, first, second, second)
			r.execute()
			r.Equal(webtrigger.RunWaiting, r.execute().Status)
			open, err := r.svc.OpenInputs(t.Context(), []int64{r.run.ID})
			r.NoError(err)
			_, err = r.svc.AnswerInput(t.Context(), r.run.ID, open[r.run.ID].ID, webtrigger.InputAnswer{Decision: decision})
			r.NoError(err)
			run := r.execute()
			r.Equal(webtrigger.RunCompleted, run.Status, run.ErrorMessage)
			r.Equal(1, charges)
			r.Equal("charged", read[len(read)-1].Content)
		})
	}
}

// An agent replaces another Runner whose step has the same name: the record does not fit.
func TestAgent_replacesOtherRunner_failsTheRun(t *testing.T) {
	t.Parallel()
	var r *rig
	agent := runs(t, modelFunc(func(context.Context, int, *llm.Request, func(llm.Chunk) error) (*llm.Response, error) {
		return &llm.Response{Text: "done"}, nil
	}))
	r = newRig(t, func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (string, error) {
		_, err := webtrigger.Step(ctx, task, "model", counting(new(int)))
		return "", errors.Join(err, r.interrupt(ctx))
	}, agent)
	r.execute()
	run := r.execute()
	r.Equal(webtrigger.RunFailed, run.Status)
	r.Equal(misfit, run.ErrorMessage)
}
