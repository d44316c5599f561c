package inputtest

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// asker asks once and returns the answer.
func asker(expiry time.Duration, calls *atomic.Int64) webtrigger.RunnerFunc {
	return func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		calls.Add(1)
		answer, err := webtrigger.AskInput(ctx, task, webtrigger.InputRequest{Question: "Which?", ExpiresIn: expiry})
		return &webtrigger.Result{Text: answer.Text()}, err
	}
}

func newService(t *testing.T, store webtrigger.Store, runner webtrigger.Runner, opts webtrigger.Options) *webtrigger.Service {
	t.Helper()
	opts.BaseURL = "https://app.example.com"
	svc, err := webtrigger.New(store, runner, &opts)
	require.NoError(t, err)
	return svc
}

func trigger(t *testing.T, svc *webtrigger.Service) int64 {
	t.Helper()
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
	run, err := svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "hello"})
	require.NoError(t, err)
	return run.ID
}

// text is an answer to a question.
func text(s string) webtrigger.InputAnswer {
	raw, _ := json.Marshal(s)
	return webtrigger.InputAnswer{Answer: raw, By: "Ada"}
}

func open(t *testing.T, svc *webtrigger.Service, runID int64) webtrigger.Input {
	t.Helper()
	inputs, err := svc.OpenInputs(t.Context(), []int64{runID})
	require.NoError(t, err)
	require.Contains(t, inputs, runID)
	return inputs[runID]
}

// working calls Work until the test ends it.
func working(t *testing.T, svc *webtrigger.Service) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- svc.Work(ctx) }()
	return func() {
		cancel()
		require.NoError(t, <-done)
	}
}

// A run waits for 30 days, and RunTimeout does not count the time.
func TestAskInput_thirtyDays_continues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		svc := newService(t, memstore.New(nil), asker(webtrigger.MaxInputExpiry, &calls), webtrigger.Options{RunTimeout: time.Minute, Lease: 24 * time.Hour})
		id := trigger(t, svc)
		require.NoError(t, svc.Execute(t.Context(), id))
		input := open(t, svc, id)
		time.Sleep(webtrigger.MaxInputExpiry - time.Second)
		require.ErrorIs(t, svc.Execute(t.Context(), id), webtrigger.ErrNotReady)
		_, err := svc.AnswerInput(t.Context(), id, input.ID, text("main"))
		require.NoError(t, err)
		require.NoError(t, svc.Execute(t.Context(), id))
		run, err := svc.RunByID(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, "main", run.Result)
		require.Equal(t, 1, run.Attempts)
		require.EqualValues(t, 2, calls.Load())
		time.Sleep(24 * time.Hour) // the process leaves
	})
}

// Without an answer, a sweep ends the run at its expiry.
func TestAskInput_expired_timesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		svc := newService(t, memstore.New(nil), asker(time.Hour, &calls), webtrigger.Options{})
		stop := working(t, svc)
		defer stop()
		id := trigger(t, svc)
		time.Sleep(time.Hour + time.Minute)
		run, err := svc.RunByID(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, webtrigger.RunTimedOut, run.Status)
		require.Equal(t, "input timeout", run.StatusDetail)
		require.EqualValues(t, 1, calls.Load())
	})
}

// A drain interrupts a Runner that has asked. It returns ErrWaiting, so the run waits: it has not
// failed, also if it has no attempts left.
func TestAskInput_drainInterruptsTheRunner_runWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		svc := newService(t, memstore.New(nil), webtrigger.RunnerFunc(func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
			answer, err := webtrigger.AskInput(ctx, task, webtrigger.InputRequest{Question: "Which?"})
			if err != nil {
				<-ctx.Done()
			}
			return &webtrigger.Result{Text: answer.Text()}, err
		}), webtrigger.Options{DrainTimeout: -1})
		stop := working(t, svc)
		id := trigger(t, svc)
		synctest.Wait()
		stop()
		_, err := svc.AnswerInput(t.Context(), id, open(t, svc, id).ID, text("main"))
		require.NoError(t, err)
		require.NoError(t, svc.Execute(t.Context(), id))
		run, err := svc.RunByID(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, "main", run.Result)
		time.Sleep(time.Hour) // the process leaves
	})
}

// RunTimeout counts executing time: after the answer, the rest applies.
func TestAskInput_executingTime_isBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := webtrigger.RunnerFunc(func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
			select {
			case <-time.After(40 * time.Second):
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			_, err := webtrigger.AskInput(ctx, task, webtrigger.InputRequest{Question: "Which?"})
			return &webtrigger.Result{Text: "too late"}, err
		})
		svc := newService(t, memstore.New(nil), slow, webtrigger.Options{RunTimeout: time.Minute})
		id := trigger(t, svc)
		require.NoError(t, svc.Execute(t.Context(), id))
		_, err := svc.AnswerInput(t.Context(), id, open(t, svc, id).ID, text("main"))
		require.NoError(t, err)
		began := time.Now()
		require.NoError(t, svc.Execute(t.Context(), id))
		require.Less(t, time.Since(began), 21*time.Second)
		run, err := svc.RunByID(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, "deadline exceeded", run.StatusDetail)
		time.Sleep(time.Minute)
	})
}

// 1,000 waiting runs hold neither a slot nor a goroutine. One answer of many simultaneous
// ones continues its run.
func TestAskInput_manyWait_holdNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		svc := newService(t, memstore.New(nil), asker(time.Hour, &calls), webtrigger.Options{Workers: 2})
		stop := working(t, svc)
		defer stop()
		first := trigger(t, svc)
		time.Sleep(10 * time.Second)
		before := runtime.NumGoroutine()
		const runs = 1000
		for range runs - 1 {
			_, err := svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "hello"})
			require.NoError(t, err)
		}
		time.Sleep(10 * time.Second)
		state, err := svc.QueueState(t.Context())
		require.NoError(t, err)
		require.Equal(t, webtrigger.QueueState{Waiting: runs}, state)
		require.Less(t, runtime.NumGoroutine()-before, 200, "other tests may run, but no run has a goroutine")

		input := open(t, svc, first)
		var stored, rejected atomic.Int64
		var all sync.WaitGroup
		for i := range 1000 {
			all.Go(func() {
				switch _, err := svc.AnswerInput(t.Context(), first, input.ID, text(fmt.Sprint(i))); {
				case err == nil:
					stored.Add(1)
				default:
					rejected.Add(1)
				}
			})
		}
		all.Wait()
		time.Sleep(10 * time.Second)
		require.EqualValues(t, 1, stored.Load())
		require.EqualValues(t, 999, rejected.Load())
		run, err := svc.RunByID(t.Context(), first)
		require.NoError(t, err)
		read, err := svc.Input(t.Context(), input.ID)
		require.NoError(t, err)
		require.Equal(t, read.Answer.Text(), run.Result)
		require.EqualValues(t, runs+1, calls.Load())
	})
}

// Another request at the place of an answered one fails the run.
func TestAskInput_otherRequest_failsTheRun(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	runner := webtrigger.RunnerFunc(func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		_, err := webtrigger.AskInput(ctx, task, webtrigger.InputRequest{Question: fmt.Sprint("Which? ", calls.Add(1))})
		_ = err // the run fails, whatever the Runner returns
		if calls.Load() == 1 {
			return nil, err
		}
		return &webtrigger.Result{Text: "done"}, nil
	})
	svc := newService(t, memstore.New(nil), runner, webtrigger.Options{})
	id := trigger(t, svc)
	require.NoError(t, svc.Execute(t.Context(), id))
	_, err := svc.AnswerInput(t.Context(), id, open(t, svc, id).ID, text("main"))
	require.NoError(t, err)
	require.NoError(t, svc.Execute(t.Context(), id))
	run, err := svc.RunByID(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, webtrigger.RunFailed, run.Status)
	require.Equal(t, "The assistant made another request for input than the one that was answered.", run.ErrorMessage)
}

// A Runner that returns a result discards its request.
func TestAskInput_runnerDoesNotWait_requestIsDiscarded(t *testing.T) {
	t.Parallel()
	runner := webtrigger.RunnerFunc(func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		_, err := webtrigger.AskInput(ctx, task, webtrigger.InputRequest{Question: "Which?"})
		require.ErrorIs(t, err, webtrigger.ErrWaiting)
		return &webtrigger.Result{Text: "done"}, nil
	})
	svc := newService(t, memstore.New(nil), runner, webtrigger.Options{})
	id := trigger(t, svc)
	require.NoError(t, svc.Execute(t.Context(), id))
	run, err := svc.RunByID(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, "done", run.Result)
	inputs, err := svc.Inputs(t.Context(), id)
	require.NoError(t, err)
	require.Empty(t, inputs)
}
