package webtrigger_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/webtrigger-go/webtrigger"
)

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
