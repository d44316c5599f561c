package webtrigger_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/webtrigger-go/webtrigger"
)

func TestAnInterruptedRunKeepsWhatItConsumed(t *testing.T) {
	runner := func(ctx context.Context, _ *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		<-ctx.Done()
		return &webtrigger.Result{
			Text: "too late", Usage: &webtrigger.Usage{InputTokens: 7},
			Messages: []webtrigger.NewMessage{{Role: webtrigger.RoleTool, Content: "found it"}},
		}, ctx.Err()
	}
	bubble(t, runner, webtrigger.Options{}, func(b *bundle) {
		stop := b.work()
		run := b.trigger("go")
		_, err := b.svc.CancelRun(b.ctx, run.ID, "by hand")
		require.NoError(t, err)
		synctest.Wait()
		ended := b.run(run.ID)
		require.Equal(t, webtrigger.RunCancelled, ended.Status)
		require.Equal(t, "by hand", ended.StatusDetail)
		require.Empty(t, ended.Result)
		require.Equal(t, &webtrigger.Usage{InputTokens: 7}, ended.Usage)
		messages, err := b.svc.Messages(b.ctx, webtrigger.MessageQuery{ConversationID: run.ConversationID})
		require.NoError(t, err)
		require.Len(t, messages, 2, "the transcript is kept, the late result is not")
		stop()
	})
}

func TestOutcomesOfARunner(t *testing.T) {
	t.Parallel()
	type result = webtrigger.Result
	tests := map[string]struct {
		runner  webtrigger.RunnerFunc
		status  webtrigger.RunStatus
		message string
		result  string
	}{
		"no result is an empty one": {
			func(context.Context, *webtrigger.Task, webtrigger.Emit) (*result, error) { return nil, nil },
			webtrigger.RunCompleted, "", ""},
		"text is made valid": {
			func(context.Context, *webtrigger.Task, webtrigger.Emit) (*result, error) {
				return &result{Text: "a\x00b\xffc"}, nil
			}, webtrigger.RunCompleted, "", "a\uFFFDb\uFFFDc"},
		"1 MiB is not too large": {
			func(context.Context, *webtrigger.Task, webtrigger.Emit) (*result, error) {
				return &result{Text: strings.Repeat("x", webtrigger.MaxResultBytes)}, nil
			}, webtrigger.RunCompleted, "", strings.Repeat("x", webtrigger.MaxResultBytes)},
		"more is": {
			func(context.Context, *webtrigger.Task, webtrigger.Emit) (*result, error) {
				return &result{Text: strings.Repeat("x", webtrigger.MaxResultBytes+1)}, nil
			}, webtrigger.RunFailed, "The result is larger than 1 MiB.", ""},
		"a transcript of 1,000 messages and 4 MiB is not too long": {
			func(context.Context, *webtrigger.Task, webtrigger.Emit) (*result, error) {
				return &result{Text: "x", Messages: messagesOf(webtrigger.MaxResultMessages, webtrigger.MaxResultMessagesBytes)}, nil
			}, webtrigger.RunCompleted, "", "x"},
		"one more message is": {
			func(context.Context, *webtrigger.Task, webtrigger.Emit) (*result, error) {
				return &result{Text: "x", Messages: messagesOf(webtrigger.MaxResultMessages+1, 0)}, nil
			}, webtrigger.RunFailed, "The transcript has more than 1,000 messages.", ""},
		"one more byte is, counted as stored": {
			func(context.Context, *webtrigger.Task, webtrigger.Emit) (*result, error) {
				messages := messagesOf(2, webtrigger.MaxResultMessagesBytes-2)
				messages[1].Content += "\x00"
				return &result{Text: "x", Messages: messages}, nil
			}, webtrigger.RunFailed, "The transcript is larger than 4 MiB.", ""},
		"the Runner's own error is kept": {
			func(context.Context, *webtrigger.Task, webtrigger.Emit) (*result, error) {
				return &result{Messages: messagesOf(webtrigger.MaxResultMessages+1, 0)}, errors.New("Broken.")
			}, webtrigger.RunFailed, "Broken.", ""},
		"an error without words gets some": {
			func(context.Context, *webtrigger.Task, webtrigger.Emit) (*result, error) { return nil, errors.New(" ") },
			webtrigger.RunFailed, "The assistant failed without saying why.", ""},
		"an error's text is made valid": {
			func(context.Context, *webtrigger.Task, webtrigger.Emit) (*result, error) {
				return nil, errors.New("a\x00b")
			},
			webtrigger.RunFailed, "a\uFFFDb", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, test.runner, webtrigger.Options{}, func(b *bundle) {
				run := b.trigger("go")
				require.NoError(t, b.svc.Execute(b.ctx, run.ID))
				ended := b.run(run.ID)
				messages, err := b.svc.Messages(b.ctx, webtrigger.MessageQuery{ConversationID: run.ConversationID, Limit: webtrigger.MaxPageSize})
				require.NoError(t, err)
				if test.status == webtrigger.RunFailed {
					require.Len(t, messages, 1, "no transcript that is too long")
				}
				require.Equal(t, test.status, ended.Status)
				require.Equal(t, test.message, ended.ErrorMessage)
				require.Equal(t, test.result, ended.Result)
			})
		})
	}
}

func TestJSONOutputIsChecked(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ schema, message, failure string }{
		"valid JSON passes":       {"", `say {"n": 1}`, ""},
		"other text fails":        {"", "say hello", "not valid JSON"},
		"a met schema passes":     {`{"type": "object"}`, `say {"n": 1}`, ""},
		"a violated schema fails": {`{"type": "object"}`, `say [1]`, "does not meet the task definition's schema: not an object"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			opts := webtrigger.Options{CompileSchema: objectsOnly}
			bubble(t, nil, opts, func(b *bundle) {
				task, err := b.svc.CreateTaskDefinition(b.ctx, webtrigger.TaskDefinition{
					AssistantID: "1", Name: "Report", Instructions: "Report.", OutputType: webtrigger.OutputJSON,
					OutputSchema: []byte(test.schema), Active: true,
				})
				require.NoError(t, err)
				run, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: test.message, TaskDefinitionID: task.ID})
				require.NoError(t, err)
				// An edit after the accept changes nothing that is under way.
				task.OutputType, task.OutputSchema = webtrigger.OutputText, nil
				_, err = b.svc.UpdateTaskDefinition(b.ctx, task)
				require.NoError(t, err)
				require.NoError(t, b.svc.Execute(b.ctx, run.ID))
				if test.failure == "" {
					require.Equal(t, webtrigger.RunCompleted, b.run(run.ID).Status)
					return
				}
				require.Equal(t, webtrigger.RunFailed, b.run(run.ID).Status)
				require.Contains(t, b.run(run.ID).ErrorMessage, test.failure)
			})
		})
	}
}

// Execute returns when the grace is over, as Work gives a Runner up.
func TestExecute_runnerIgnoresItsContext_isAbandoned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, nil, nil)
		run := b.trigger("ignore")
		ctx, cancel := context.WithTimeout(b.ctx, time.Second)
		defer cancel()
		start := time.Now()
		require.NoError(t, b.svc.Execute(ctx, run.ID))
		require.Equal(t, 6*time.Second, time.Since(start), "one second, and the CancelGrace")
		require.Equal(t, webtrigger.RunFailed, b.run(run.ID).Status)
		time.Sleep(time.Minute) // the Runner returns

		b = setup(t, nil, &webtrigger.Options{BaseURL: "https://app.example.com", RunTimeout: 2 * time.Second})
		run = b.trigger("ignore")
		start = time.Now()
		require.NoError(t, b.svc.Execute(b.ctx, run.ID))
		require.Equal(t, 7*time.Second, time.Since(start), "the RunTimeout, and the CancelGrace")
		require.Equal(t, webtrigger.RunTimedOut, b.run(run.ID).Status)
		time.Sleep(time.Minute)
	})
}

// messagesOf returns n messages with so many bytes in total.
func messagesOf(n, bytes int) []webtrigger.NewMessage {
	messages := make([]webtrigger.NewMessage, n)
	for i := range messages {
		messages[i] = webtrigger.NewMessage{Role: webtrigger.RoleTool, Content: strings.Repeat("x", bytes/n)}
	}
	messages[0].Content += strings.Repeat("x", bytes%n)
	return messages
}

// errNilPointer is an error whose Error panics if the pointer is nil.
type errNilPointer struct{ text string }

func (e *errNilPointer) Error() string { return e.text }

// What the Runner and the host's check return may panic too. That ends the run, and not
// the process.
func TestRunner_panicsAfterItsReturn_failsOnlyItsRun(t *testing.T) {
	t.Parallel()
	b := setup(t, webtrigger.RunnerFunc(func(_ context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		if task.Definition == nil {
			var none *errNilPointer
			return nil, none
		}
		return &webtrigger.Result{Text: `{}`}, nil
	}), &webtrigger.Options{BaseURL: "https://app.example.com", CompileSchema: func(json.RawMessage) (func(json.RawMessage) error, error) {
		return func(json.RawMessage) error { panic("check") }, nil
	}})
	task, err := b.svc.CreateTaskDefinition(b.ctx, webtrigger.TaskDefinition{
		AssistantID: "1", Name: "n", Instructions: "i", Active: true, OutputType: webtrigger.OutputJSON, OutputSchema: json.RawMessage(`{}`),
	})
	require.NoError(t, err)
	for _, c := range []struct {
		taskID  int64
		message string
	}{
		{0, "The assistant crashed."},
		{task.ID, "The result cannot be checked: the schema compiler crashed."},
	} {
		run, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "x", TaskDefinitionID: c.taskID})
		require.NoError(t, err)
		require.NoError(t, b.svc.Execute(b.ctx, run.ID))
		require.Equal(t, webtrigger.RunFailed, b.run(run.ID).Status)
		require.Equal(t, c.message, b.run(run.ID).ErrorMessage)
	}
}
