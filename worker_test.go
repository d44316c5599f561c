package webtrigger_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// bubble runs f on a bundle in fake time.
func bubble(t *testing.T, runner webtrigger.RunnerFunc, opts webtrigger.Options, f func(b *bundle)) {
	t.Helper()
	bubbleOn(t, func(s webtrigger.Store) webtrigger.Store { return s }, runner, opts, f)
}

// bubbleOn is bubble with a wrapper between the service and the store.
func bubbleOn(t *testing.T, wrap func(webtrigger.Store) webtrigger.Store, runner webtrigger.RunnerFunc, opts webtrigger.Options, f func(b *bundle)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		opts.BaseURL = "https://app.example.com"
		if runner == nil {
			runner = obey
		}
		b := setupOn(t, wrap(memstore.New(nil)), runner, &opts)
		b.fake = true
		f(b)
	})
}

func TestTrigger_freeSlot_claimsRun(t *testing.T) {
	bubble(t, nil, webtrigger.Options{Workers: 1}, func(b *bundle) {
		stop := b.work()
		first, second := b.trigger("hang"), b.trigger("say two")
		require.Equal(t, webtrigger.RunRunning, first.Status, "accepted and taken in one transition")
		require.Equal(t, webtrigger.RunQueued, second.Status, "no slot is free")
		_, err := b.svc.CancelRun(b.ctx, first.ID, "")
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, webtrigger.RunCompleted, b.run(second.ID).Status)
		stop()
	})
}

// stuckStore hands out no runs while stuck is set.
type stuckStore struct {
	webtrigger.Store
	stuck *atomic.Bool
}

func (s stuckStore) ClaimRuns(ctx context.Context, c webtrigger.Claim) ([]webtrigger.ClaimedRun, error) {
	if s.stuck.Load() {
		return nil, webtrigger.ErrUnavailable
	}
	return s.Store.ClaimRuns(ctx, c)
}

func TestAcceptDoesNotOvertakeTheQueue(t *testing.T) {
	var stuck atomic.Bool
	stuck.Store(true)
	wrap := func(s webtrigger.Store) webtrigger.Store { return stuckStore{s, &stuck} }
	bubbleOn(t, wrap, nil, webtrigger.Options{Workers: 1}, func(b *bundle) {
		older := b.trigger("say older")
		stop := b.work()
		newer := b.trigger("say newer")
		require.Equal(t, webtrigger.RunQueued, newer.Status, "a slot is free, and an older run is known to wait")
		stuck.Store(false)
		time.Sleep(3 * time.Second)
		require.Equal(t, webtrigger.RunCompleted, b.run(newer.ID).Status)
		require.False(t, b.run(older.ID).StartedAt.After(b.run(newer.ID).StartedAt))
		require.Equal(t, webtrigger.RunRunning, b.trigger("say newest").Status, "nothing waits any more")
		synctest.Wait()
		stop()
	})
}

func TestTrigger_withoutWork_staysQueued(t *testing.T) {
	bubble(t, nil, webtrigger.Options{}, func(b *bundle) {
		run := b.trigger("say hi")
		time.Sleep(time.Hour)
		require.Equal(t, webtrigger.RunQueued, b.run(run.ID).Status)
		require.Equal(t, []string{"run_queued"}, b.events(run))
	})
}

func TestQueuedRunsAreExecutedOldestFirst(t *testing.T) {
	var order []string
	runner := func(_ context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		order = append(order, task.Prompt)
		return nil, nil
	}
	bubble(t, runner, webtrigger.Options{Workers: 1}, func(b *bundle) {
		for _, m := range []string{"a", "b", "c", "d"} {
			b.trigger(m)
		}
		stop := b.work()
		stop()
		require.Equal(t, []string{"a", "b", "c", "d"}, order)
	})
}

func TestHeartbeatsKeepALongRunAlive(t *testing.T) {
	runner := func(ctx context.Context, _ *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		select {
		case <-time.After(10 * time.Minute):
			return &webtrigger.Result{Text: "done"}, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	bubble(t, runner, webtrigger.Options{Lease: 3 * time.Second}, func(b *bundle) {
		stop := b.work()
		run := b.trigger("long")
		time.Sleep(11 * time.Minute)
		require.Equal(t, webtrigger.RunCompleted, b.run(run.ID).Status)
		require.Equal(t, []string{"run_queued", "run_started", "run_completed"}, b.events(run))
		stop()
	})
}

func TestSweep_expiredLeaseWithAttemptsLeft_requeuesRun(t *testing.T) {
	bubble(t, nil, webtrigger.Options{MaxAttempts: 2, Lease: 3 * time.Second}, func(b *bundle) {
		run := b.trigger("say hi")
		_, err := b.store.ClaimRuns(b.ctx, webtrigger.Claim{
			ProcessID: deadProcess(t, b.store, time.Second, 2), Token: webtrigger.NewToken(), Limit: 1,
		})
		require.NoError(t, err)
		stop := b.work()
		time.Sleep(5 * time.Second)
		require.Equal(t, webtrigger.RunCompleted, b.run(run.ID).Status)
		require.Equal(t, 2, b.run(run.ID).Attempts)
		require.Equal(t, []string{"run_queued", "run_started", "run_requeued", "run_started", "run_completed"}, b.events(run))
		stop()
	})
}

func TestDeadlineDecidesWhateverTheRunnerReturns(t *testing.T) {
	bubble(t, nil, webtrigger.Options{RunTimeout: 2 * time.Second}, func(b *bundle) {
		stop := b.work()
		run := b.trigger("shrug")
		time.Sleep(2*time.Second + time.Millisecond)
		synctest.Wait()
		ended := b.run(run.ID)
		require.Equal(t, webtrigger.RunTimedOut, ended.Status)
		require.Equal(t, "deadline exceeded", ended.StatusDetail)
		require.Equal(t, webtrigger.DeadlineStop().ErrorMessage, ended.ErrorMessage)
		require.Equal(t, 2*time.Second, ended.CompletedAt.Sub(ended.StartedAt))
		stop()
	})
}

func TestACancelAfterTheDeadlineChangesNothing(t *testing.T) {
	bubble(t, nil, webtrigger.Options{RunTimeout: 2 * time.Second}, func(b *bundle) {
		stop := b.work()
		run := b.trigger("ignore")
		time.Sleep(3 * time.Second) // the deadline is over, the grace is not
		_, err := b.svc.CancelRun(b.ctx, run.ID, "too late")
		require.NoError(t, err)
		time.Sleep(10 * time.Second)
		require.Equal(t, webtrigger.RunTimedOut, b.run(run.ID).Status)
		stop()
		time.Sleep(time.Minute) // the abandoned Runner returns
	})
}

func TestCancelRun_running_endsContextAndDecidesOutcome(t *testing.T) {
	bubble(t, nil, webtrigger.Options{}, func(b *bundle) {
		stop := b.work()
		run := b.trigger("shrug")
		synctest.Wait()
		began := time.Now()
		running, err := b.svc.CancelRun(b.ctx, run.ID, "by hand")
		require.NoError(t, err)
		require.Equal(t, webtrigger.RunRunning, running.Status)
		synctest.Wait()
		require.Zero(t, time.Since(began), "it is woken, not polled")
		ended := b.run(run.ID)
		require.Equal(t, webtrigger.RunCancelled, ended.Status)
		require.Equal(t, "by hand", ended.StatusDetail)
		require.Empty(t, ended.ErrorMessage)
		require.Empty(t, ended.Result)
		require.Equal(t, []string{"run_queued", "run_started", "cancel_requested", "run_cancelled"}, b.events(run))
		stop()
	})
}

// muteStore never gives a hint.
type muteStore struct{ webtrigger.Store }

func (s muteStore) Watch(ctx context.Context, _ func(webtrigger.Hint)) error {
	<-ctx.Done()
	return nil
}

func TestEverythingWorksAtPollSpeedWithoutHints(t *testing.T) {
	wrap := func(s webtrigger.Store) webtrigger.Store { return muteStore{s} }
	bubbleOn(t, wrap, nil, webtrigger.Options{Workers: 1}, func(b *bundle) {
		stop := b.work()
		hanging, queued := b.trigger("hang"), b.trigger("say hi")
		_, err := b.svc.CancelRun(b.ctx, hanging.ID, "")
		require.NoError(t, err)
		time.Sleep(2*time.Second + time.Millisecond)
		synctest.Wait()
		require.Equal(t, webtrigger.RunCancelled, b.run(hanging.ID).Status)
		time.Sleep(2 * time.Second)
		require.Equal(t, webtrigger.RunCompleted, b.run(queued.ID).Status)
		stop()
	})
}

func TestQueueTimeout(t *testing.T) {
	bubble(t, nil, webtrigger.Options{Workers: 1, MaxQueueTime: time.Minute}, func(b *bundle) {
		stop := b.work()
		hanging, queued := b.trigger("hang"), b.trigger("say hi")
		time.Sleep(70 * time.Second)
		ended := b.run(queued.ID)
		require.Equal(t, webtrigger.RunTimedOut, ended.Status)
		require.Equal(t, "queue timeout", ended.StatusDetail)
		require.Equal(t, webtrigger.QueueTimeout().ErrorMessage, ended.ErrorMessage)
		require.Equal(t, []string{"run_queued", "run_timed_out"}, b.events(queued))
		_, err := b.svc.CancelRun(b.ctx, hanging.ID, "")
		require.NoError(t, err)
		stop()
	})
}

func TestDrain_runningRuns_finish(t *testing.T) {
	runner := func(context.Context, *webtrigger.Task, webtrigger.Emit) (*webtrigger.Result, error) {
		time.Sleep(10 * time.Second) // several leases
		return &webtrigger.Result{Text: "done"}, nil
	}
	bubble(t, runner, webtrigger.Options{Lease: 2 * time.Second}, func(b *bundle) {
		stop := b.work()
		run := b.trigger("work")
		synctest.Wait()
		began := time.Now()
		stop()
		require.Equal(t, 10*time.Second, time.Since(began))
		require.Equal(t, webtrigger.RunCompleted, b.run(run.ID).Status, "heartbeats must continue during the drain")
		late := b.trigger("late")
		time.Sleep(time.Minute)
		require.Equal(t, webtrigger.RunQueued, b.run(late.ID).Status, "nothing is taken after it")
	})
}

func TestDrainInterruptsWhatTakesTooLong(t *testing.T) {
	bubble(t, nil, webtrigger.Options{DrainTimeout: 3 * time.Second}, func(b *bundle) {
		stop := b.work()
		run := b.trigger("shrug")
		synctest.Wait()
		began := time.Now()
		stop()
		require.Equal(t, 3*time.Second, time.Since(began))
		ended := b.run(run.ID)
		require.Equal(t, webtrigger.RunFailed, ended.Status)
		require.Equal(t, "interrupted by shutdown", ended.StatusDetail)
		require.NotEmpty(t, ended.ErrorMessage)
	})
}

// slowStore answers an accept late.
type slowStore struct{ webtrigger.Store }

func (s slowStore) CreateTrigger(ctx context.Context, t webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	accepted, err := s.Store.CreateTrigger(ctx, t)
	time.Sleep(5 * time.Second)
	return accepted, err
}

func TestDrainWaitsForAnAcceptThatTakesARun(t *testing.T) {
	for name, drain := range map[string]time.Duration{"in its time": 20 * time.Second, "after it": time.Second} {
		t.Run(name, func(t *testing.T) {
			wrap := func(s webtrigger.Store) webtrigger.Store { return slowStore{s} }
			bubbleOn(t, wrap, nil, webtrigger.Options{DrainTimeout: drain}, func(b *bundle) {
				stop := b.work()
				accepted := make(chan webtrigger.Run)
				go func() { accepted <- b.trigger("hang") }()
				synctest.Wait()
				go func() {
					run := <-accepted
					require.Equal(t, webtrigger.RunRunning, run.Status)
					accepted <- run
				}()
				stop()
				require.Equal(t, "interrupted by shutdown", b.run((<-accepted).ID).StatusDetail)
			})
		})
	}
}

func TestDrainRequeuesWhereAttemptsRemain(t *testing.T) {
	bubble(t, nil, webtrigger.Options{DrainTimeout: -1, MaxAttempts: 2}, func(b *bundle) {
		stop := b.work()
		run := b.trigger("hang")
		synctest.Wait()
		stop()
		requeued := b.run(run.ID)
		require.Equal(t, webtrigger.RunQueued, requeued.Status)
		require.Zero(t, requeued.Attempts, "the interrupted attempt is not counted")
		require.Equal(t, []string{"run_queued", "run_started", "run_requeued"}, b.events(run))
	})
}

func TestWorkRunsOnceAtATime(t *testing.T) {
	bubble(t, nil, webtrigger.Options{}, func(b *bundle) {
		stop := b.work()
		require.ErrorIs(t, b.svc.Work(b.ctx), webtrigger.ErrConflict)
		stop()
		stop = b.work() // and again after it has ended
		synctest.Wait()
		stop()
	})
}

func TestExecute(t *testing.T) {
	bubble(t, nil, webtrigger.Options{NoWorkers: true}, func(b *bundle) {
		run := b.trigger("say hi")
		require.NoError(t, b.svc.Execute(b.ctx, run.ID))
		require.Equal(t, webtrigger.RunCompleted, b.run(run.ID).Status)
		require.NoError(t, b.svc.Execute(b.ctx, run.ID), "a run that has ended needs nothing")
		require.ErrorIs(t, b.svc.Execute(b.ctx, 4711), webtrigger.ErrNotFound)

		over, end := context.WithCancel(b.ctx)
		end()
		untouched := b.trigger("say hi")
		require.ErrorIs(t, b.svc.Execute(over, untouched.ID), context.Canceled)
		require.Equal(t, webtrigger.RunQueued, b.run(untouched.ID).Status)

		ctx, cancel := context.WithCancel(b.ctx)
		hanging := b.trigger("hang")
		done := make(chan error, 1)
		go func() { done <- b.svc.Execute(ctx, hanging.ID) }()
		synctest.Wait()
		require.ErrorIs(t, b.svc.Execute(b.ctx, hanging.ID), webtrigger.ErrConflict)
		cancel()
		require.NoError(t, <-done)
		require.Equal(t, "interrupted by shutdown", b.run(hanging.ID).StatusDetail)
	})
}

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

// A Runner may ask with a context that does not end with its run. If the store is unavailable then,
// the run still ends, and so does the drain.
func TestDrain_runnerAsksDuringOutage_isBounded(t *testing.T) {
	var store *faultyStore
	runner := func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		if store.count("RequeueRun") == 0 {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		_, err := webtrigger.AskInput(context.WithoutCancel(ctx), task, webtrigger.InputRequest{Question: "Continue?"})
		return nil, err
	}
	wrap := func(s webtrigger.Store) webtrigger.Store { store = faulty(s); return store }
	bubbleOn(t, wrap, runner, webtrigger.Options{MaxAttempts: 2, DrainTimeout: -1}, func(b *bundle) {
		run := b.trigger("x")
		b.work()() // requeues the run
		store.set(unavailable, "Inputs")
		stop := b.work()
		began := time.Now()
		stop()
		require.Less(t, time.Since(began), time.Minute)
		require.Positive(t, store.count("Inputs"))
		require.Equal(t, webtrigger.RunQueued, b.run(run.ID).Status)
	})
}

// A poll that finds as many runs as there are slots is followed by further claims, also
// without hints: the queue may have more.
func TestWork_queueWithoutHints_isEmptiedByOnePoll(t *testing.T) {
	wrap := func(s webtrigger.Store) webtrigger.Store { return muteStore{s} }
	bubbleOn(t, wrap, nil, webtrigger.Options{Workers: 2}, func(b *bundle) {
		defer b.work()()
		synctest.Wait()
		runs := b.queue("1", 0, 20)
		time.Sleep(2*time.Second + time.Millisecond) // until the next poll
		for _, id := range runs {
			require.Equal(t, webtrigger.RunCompleted, b.run(id).Status)
		}
	})
}

// lockedStore creates no triggers with the subject "locked", and stores no ends of the
// assistant "locked", until it is unlocked.
type lockedStore struct {
	webtrigger.Store
	unlocked chan struct{}
}

func (s *lockedStore) lock(ctx context.Context, what string) error {
	if what != "locked" {
		return nil
	}
	select {
	case <-s.unlocked:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w: %w", webtrigger.ErrUnavailable, webtrigger.ErrNotStored, ctx.Err())
	}
}

func (s *lockedStore) CreateTrigger(ctx context.Context, t webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	if err := s.lock(ctx, t.Input.Subject); err != nil {
		return webtrigger.CreatedTrigger{}, err
	}
	return s.Store.CreateTrigger(ctx, t)
}

func (s *lockedStore) FinishRun(ctx context.Context, lease webtrigger.Lease, end webtrigger.Finish) (webtrigger.Run, error) {
	run, err := s.RunByID(ctx, lease.RunID)
	if err == nil {
		err = s.lock(ctx, run.AssistantID)
	}
	if err != nil {
		return run, err
	}
	return s.Store.FinishRun(ctx, lease, end)
}

// lockedBundle is bubble on a lockedStore.
func lockedBundle(t *testing.T, runner webtrigger.RunnerFunc, opts webtrigger.Options, f func(b *bundle, unlock func())) {
	var locked *lockedStore
	wrap := func(s webtrigger.Store) webtrigger.Store {
		locked = &lockedStore{s, make(chan struct{})}
		return locked
	}
	bubbleOn(t, wrap, runner, opts, func(b *bundle) {
		defer b.work()()
		unlock := sync.OnceFunc(func() { close(locked.unlocked) })
		defer unlock() // also if the test fails
		f(b, unlock)
	})
}

// Runs whose ends cannot be stored keep no slots, unless they are very many. No more
// Runners than there are slots work at a time.
func TestWork_endsOfOneAssistantLocked_runsOfOthersStart(t *testing.T) {
	var working, most atomic.Int32
	runner := func(context.Context, *webtrigger.Task, webtrigger.Emit) (*webtrigger.Result, error) {
		n := working.Add(1)
		defer working.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		time.Sleep(10 * time.Millisecond)
		return &webtrigger.Result{Text: "done"}, nil
	}
	lockedBundle(t, runner, webtrigger.Options{Workers: 2}, func(b *bundle, unlock func()) {
		held := b.queue("locked", 0, 2)
		time.Sleep(20 * time.Millisecond)
		other := b.queue("other", 0, 5)
		time.Sleep(time.Second)
		for _, id := range other {
			require.Equal(t, webtrigger.RunCompleted, b.run(id).Status)
		}

		held = append(held, b.queue("locked", 0, 3)...) // one more than may lend their slots, and one that waits
		time.Sleep(20 * time.Second)
		last := b.queue("other", 0, 1)[0]
		time.Sleep(20 * time.Second)
		require.Equal(t, webtrigger.RunQueued, b.run(last).Status, "no more ends than twice the slots wait")
		unlock()
		time.Sleep(3 * time.Second)
		for _, id := range append(held, last) {
			require.Equal(t, webtrigger.RunCompleted, b.run(id).Status)
		}
		require.EqualValues(t, 2, most.Load())
		for range 2 {
			require.Equal(t, webtrigger.RunRunning, b.trigger("x").Status, "all slots are free again")
		}
	})
}

// The end of a run whose slot was lent starts the next run within a limit.
func TestWork_lentSlotWithinLimit_nextRunStartsAtOnce(t *testing.T) {
	opts := webtrigger.Options{Workers: 2, Limits: webtrigger.Limits{RunningPerAssistant: 1}}
	lockedBundle(t, nil, opts, func(b *bundle, unlock func()) {
		runs := b.queue("locked", 0, 2)
		time.Sleep(time.Second + time.Millisecond) // between two polls
		require.Equal(t, webtrigger.RunQueued, b.run(runs[1]).Status)
		unlock()
		synctest.Wait()
		require.Equal(t, webtrigger.RunCompleted, b.run(runs[0]).Status)
		require.Equal(t, webtrigger.RunCompleted, b.run(runs[1]).Status)
	})
}

// Trigger creations of one assistant that wait for locks leave slots to the others.
func TestTrigger_creationsOfOneAssistantWait_runsOfOthersAreClaimed(t *testing.T) {
	lockedBundle(t, nil, webtrigger.Options{Workers: 4}, func(b *bundle, unlock func()) {
		b.setChannel(webtrigger.Channel{AssistantID: "2", Enabled: true})
		var creating sync.WaitGroup
		for range 10 {
			creating.Go(func() {
				if _, err := b.svc.Trigger(b.ctx, "2", webtrigger.TriggerRequest{Subject: "locked", Message: "say x"}); err != nil {
					b.t.Error(err)
				}
			})
		}
		synctest.Wait()
		require.Equal(t, webtrigger.RunRunning, b.trigger("hang").Status)
		require.Equal(t, webtrigger.RunRunning, b.trigger("hang").Status)
		unlock()
		creating.Wait()
		synctest.Wait()
		runs, err := b.svc.Runs(b.ctx, webtrigger.RunQuery{AssistantID: "2", Statuses: []webtrigger.RunStatus{webtrigger.RunCompleted}})
		require.NoError(t, err)
		require.Len(t, runs, 10)
		require.Equal(t, webtrigger.RunRunning, b.trigger("hang").Status, "the slots are free again")
		require.Equal(t, webtrigger.RunRunning, b.trigger("hang").Status)
	})
}

func TestAnAbandonedRunnerKeepsItsSlot(t *testing.T) {
	bubble(t, nil, webtrigger.Options{Workers: 1, CancelGrace: time.Second}, func(b *bundle) {
		stop := b.work()
		deaf := b.trigger("ignore")
		next := b.trigger("say next")
		_, err := b.svc.CancelRun(b.ctx, deaf.ID, "")
		require.NoError(t, err)
		time.Sleep(2 * time.Second)
		require.Equal(t, webtrigger.RunCancelled, b.run(deaf.ID).Status, "the run ends without its Runner")
		require.Equal(t, webtrigger.RunQueued, b.run(next.ID).Status, "the slot is taken until the Runner returns")
		time.Sleep(time.Minute)
		require.Equal(t, webtrigger.RunCompleted, b.run(next.ID).Status)
		stop()
	})
}
