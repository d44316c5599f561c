package webtrigger_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

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
