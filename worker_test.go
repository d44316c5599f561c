package webtrigger_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
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

// ledger records the executions of a Runner.
type ledger struct {
	mu      sync.Mutex
	started map[string][]int64 // runs by assistant, in the order of their starts
	now     map[string]int     // running ones, by assistant and by key
	most    map[string]int
}

func newLedger() *ledger {
	return &ledger{started: make(map[string][]int64), now: make(map[string]int), most: make(map[string]int)}
}

// runner returns a Runner whose runs last for d.
func (l *ledger) runner(d time.Duration) webtrigger.RunnerFunc {
	return func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		places := []string{task.Run.AssistantID, fmt.Sprint("key ", task.Run.KeyID)}
		l.mu.Lock()
		l.started[task.Run.AssistantID] = append(l.started[task.Run.AssistantID], task.Run.ID)
		for _, p := range places {
			l.now[p]++
			l.most[p] = max(l.most[p], l.now[p])
		}
		l.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, p := range places {
			l.now[p]--
		}
		return &webtrigger.Result{Text: "done"}, context.Cause(ctx)
	}
}

func (l *ledger) starts(assistantID string) []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.started[assistantID])
}

func (l *ledger) highest(place string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.most[place]
}

// queue stores n queued runs of an assistant.
func (b *bundle) queue(assistantID string, keyID int64, n int) (ids []int64) {
	b.t.Helper()
	for range n {
		created, err := b.store.CreateTrigger(b.ctx, webtrigger.NewTrigger{
			RunKey: uuid.NewString(), AssistantID: assistantID, KeyID: keyID,
			Input: webtrigger.RunInput{Subject: "s", Message: "m"}, BaseURL: "https://app.example.com",
		})
		require.NoError(b.t, err)
		ids = append(ids, created.Run.ID)
	}
	return ids
}

func TestWork_backlogOfOneAssistant_anotherStartsWithTheNextSlot(t *testing.T) {
	l := newLedger()
	bubble(t, l.runner(time.Minute), webtrigger.Options{Workers: 2}, func(b *bundle) {
		b.queue("x", 0, 1000)
		stop := b.work()
		time.Sleep(30 * time.Second)
		late := b.queue("y", 0, 1)
		require.Empty(t, l.starts("y"), "no slot is free")
		time.Sleep(31 * time.Second)
		require.Equal(t, late, l.starts("y"))
		require.Len(t, l.starts("x"), 3)
		stop()
	})
}

func TestWork_unequalQueues_equalSharesOldestFirst(t *testing.T) {
	l := newLedger()
	bubble(t, l.runner(time.Second), webtrigger.Options{Workers: 4}, func(b *bundle) {
		queued := map[string][]int64{"x": b.queue("x", 0, 900), "y": b.queue("y", 0, 300), "z": b.queue("z", 0, 200)}
		stops := []func(){b.work(), workBeside(b, l.runner(time.Second), 4), workBeside(b, l.runner(time.Second), 4)}
		time.Sleep(40 * time.Second)
		for assistantID, ids := range queued {
			starts := l.starts(assistantID)
			require.InDelta(t, 160, len(starts), 8, "12 slots for 40 s: %s", assistantID)
			for at, id := range starts { // runs of one instant start in any order
				require.InDelta(t, slices.Index(ids, id), at, 12)
			}
		}
		for _, stop := range stops {
			stop()
		}
	})
}

// workBeside runs Work of another service on the store.
func workBeside(b *bundle, runner webtrigger.Runner, workers int, limits ...webtrigger.Limits) (stop func()) {
	opts := webtrigger.Options{Workers: workers}
	if len(limits) > 0 {
		opts.Limits = limits[0]
	}
	other := setupOn(b.t, b.store, runner, &opts)
	other.fake = b.fake
	return other.work()
}

func TestWork_runningPerAssistant_isReachedAndNotExceeded(t *testing.T) {
	l := newLedger()
	limits := webtrigger.Limits{RunningPerAssistant: 3}
	bubble(t, l.runner(time.Second), webtrigger.Options{Workers: 8, Limits: limits}, func(b *bundle) {
		b.queue("x", 0, 90)
		b.queue("y", 0, 30)
		stops := []func(){b.work(), workBeside(b, l.runner(time.Second), 8, limits)}
		time.Sleep(20 * time.Second)
		require.Equal(t, 3, l.highest("x"))
		require.Equal(t, 3, l.highest("y"))
		require.GreaterOrEqual(t, len(l.starts("x")), 3*18, "a run starts soon after another one has ended")
		require.Len(t, l.starts("y"), 30)
		for _, stop := range stops {
			stop()
		}
	})
}

func TestWork_runningPerKey_isReachedAndNotExceeded(t *testing.T) {
	l := newLedger()
	bubble(t, l.runner(time.Second), webtrigger.Options{Workers: 8, Limits: webtrigger.Limits{RunningPerKey: 2}}, func(b *bundle) {
		b.queue("x", 1, 90)
		b.queue("x", 2, 10)
		b.queue("x", 0, 10)
		stop := b.work()
		time.Sleep(20*time.Second + time.Millisecond)
		require.Equal(t, 2, l.highest("key 1"))
		require.Equal(t, 2, l.highest("key 2"))
		require.Greater(t, l.highest("key 0"), 2, "calls from Go have no key")
		require.InDelta(t, 2*20+10+10, len(l.starts("x")), 2)
		stop()
	})
}

func TestTrigger_runningLimit_doesNotClaim(t *testing.T) {
	bubble(t, nil, webtrigger.Options{Workers: 2, Limits: webtrigger.Limits{RunningPerAssistant: 1}}, func(b *bundle) {
		stop := b.work()
		first := b.trigger("hang")
		require.Equal(t, webtrigger.RunQueued, first.Status)
		synctest.Wait()
		second := b.trigger("say two")
		synctest.Wait()
		require.Equal(t, webtrigger.RunRunning, b.run(first.ID).Status)
		require.Equal(t, webtrigger.RunQueued, b.run(second.ID).Status)
		_, err := b.svc.CancelRun(b.ctx, first.ID, "")
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, webtrigger.RunCompleted, b.run(second.ID).Status, "it starts without a poll")
		stop()
	})
}

func TestExecute_runningLimit_returnsErrConflict(t *testing.T) {
	bubble(t, nil, webtrigger.Options{NoWorkers: true, Limits: webtrigger.Limits{RunningPerAssistant: 1}}, func(b *bundle) {
		first, second := b.trigger("hang"), b.trigger("say two")
		done := make(chan error, 1)
		go func() { done <- b.svc.Execute(b.ctx, first.ID) }()
		synctest.Wait()
		err := b.svc.Execute(b.ctx, second.ID)
		require.ErrorIs(t, err, webtrigger.ErrConflict)
		require.ErrorContains(t, err, "its assistant or API key has reached its limit of running runs")
		_, err = b.svc.CancelRun(b.ctx, first.ID, "")
		require.NoError(t, err)
		time.Sleep(time.Minute) // a heartbeat sees the cancellation
		require.NoError(t, <-done)
		require.NoError(t, b.svc.Execute(b.ctx, second.ID))
		require.Equal(t, webtrigger.RunCompleted, b.run(second.ID).Status)
	})
}

func TestNew_negativeRunningLimit_returnsError(t *testing.T) {
	t.Parallel()
	for _, limits := range []webtrigger.Limits{{RunningPerAssistant: -1}, {RunningPerKey: -1}} {
		_, err := webtrigger.New(memstore.New(nil), webtrigger.RunnerFunc(obey), &webtrigger.Options{Limits: limits})
		require.ErrorContains(t, err, "must not be negative")
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
