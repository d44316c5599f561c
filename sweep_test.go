package webtrigger_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// partialSweep returns an error together with the runs that it changed.
type partialSweep struct {
	webtrigger.Store
	failed atomic.Int32
}

func (s *partialSweep) SweepRuns(ctx context.Context, sweep webtrigger.Sweep) ([]webtrigger.Run, error) {
	runs, err := s.Store.SweepRuns(ctx, sweep)
	s.failed.Add(1)
	return runs, errors.Join(err, errors.New("run 17: bad row"))
}

func TestSweep_someRunsFailed_reportsTheOthers(t *testing.T) {
	var mu sync.Mutex
	var ended []int64
	opts := webtrigger.Options{Lease: 3 * time.Second, Hooks: webtrigger.Hooks{Ended: func(_ context.Context, i webtrigger.EndedInfo) {
		mu.Lock()
		defer mu.Unlock()
		ended = append(ended, i.Run.ID)
	}}}
	store := &partialSweep{}
	wrap := func(s webtrigger.Store) webtrigger.Store { store.Store = s; return store }
	bubbleOn(t, wrap, nil, opts, func(b *bundle) {
		for range 150 { // more than a batch
			b.trigger("say x")
		}
		_, err := b.store.ClaimRuns(b.ctx, webtrigger.Claim{
			ProcessID: deadProcess(t, b.store, time.Second, 1), Token: webtrigger.NewToken(), Limit: 150,
		})
		require.NoError(b.t, err)
		stop := b.work()
		time.Sleep(10 * time.Second)
		stop()
		mu.Lock()
		defer mu.Unlock()
		require.Len(b.t, ended, 150)
	})
}

func TestSweep_storeIsAway_pausesUpToALease(t *testing.T) {
	onFaulty(t, nil, webtrigger.Options{Lease: 4 * time.Second}, func(b *bundle, store *faultyStore, _ *atomic.Int32) {
		stop := b.work()
		time.Sleep(time.Minute)
		require.GreaterOrEqual(b.t, store.count("SweepRuns"), 60, "a quarter of the lease at most")
		store.set(away, "SweepRuns")
		before := store.count("SweepRuns")
		time.Sleep(time.Minute)
		require.LessOrEqual(b.t, store.count("SweepRuns")-before, 33)
		require.GreaterOrEqual(b.t, store.count("SweepRuns")-before, 14, "a lease at most")
		store.set(nil, "SweepRuns")
		time.Sleep(4 * time.Second)
		before = store.count("SweepRuns")
		time.Sleep(time.Minute)
		require.GreaterOrEqual(b.t, store.count("SweepRuns")-before, 60)
		stop()
	})
}

// sweepTimes records when a process sweeps.
type sweepTimes struct {
	webtrigger.Store
	mu    sync.Mutex
	times []time.Time
}

func (s *sweepTimes) SweepRuns(ctx context.Context, sweep webtrigger.Sweep) ([]webtrigger.Run, error) {
	s.mu.Lock()
	s.times = append(s.times, time.Now())
	s.mu.Unlock()
	return s.Store.SweepRuns(ctx, sweep)
}

func TestSweep_severalProcesses_notAtTheSameTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(nil)
		a, b := &sweepTimes{Store: store}, &sweepTimes{Store: store}
		var stops []func()
		for _, s := range []*sweepTimes{a, b} {
			process := setupOn(t, s, nil, nil)
			stops = append(stops, process.work())
		}
		time.Sleep(5 * time.Minute)
		for _, stop := range stops {
			stop()
		}
		same := 0
		for _, at := range a.times {
			for _, other := range b.times {
				if d := at.Sub(other).Abs(); d < time.Millisecond {
					same++
				}
			}
		}
		require.Greater(t, len(a.times), 60)
		require.Less(t, same, len(a.times)/10)
	})
}
