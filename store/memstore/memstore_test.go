package memstore_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
	"github.com/webtrigger-go/webtrigger/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(*testing.T) webtrigger.Store { return memstore.New(nil) })
}

// clock is a clock that stands still until it is moved. It belongs to one
// goroutine.
type clock struct{ t time.Time }

func (c *clock) Now() time.Time { return c.t }

// monotonic is a clock whose monotonic time is that which it shows.
type monotonic struct {
	clock
	since time.Time
}

func (c *monotonic) Elapsed() time.Duration { return c.t.Sub(c.since) }

func newMonotonic() *monotonic {
	c := newClock()
	return &monotonic{*c, c.t}
}

// register registers a process without attempts to spare.
func register(tb testing.TB, s *memstore.Store, id string, lease time.Duration) {
	tb.Helper()
	require.NoError(tb, s.RegisterProcess(tb.Context(), webtrigger.Process{ID: id, Lease: lease, MaxAttempts: 1}))
}

func newClock() *clock {
	return &clock{time.Date(2026, 4, 15, 12, 1, 23, 456789_999, time.FixedZone("CEST", 2*60*60))}
}

func trigger(n int64) webtrigger.NewTrigger {
	return webtrigger.NewTrigger{
		RunKey:      fmt.Sprintf("00000000-0000-4000-8000-%012d", n),
		AssistantID: "1",
		Input:       webtrigger.RunInput{Subject: "s", Message: "m"},
		BaseURL:     "https://app.example.com",
	}
}

func TestClock(t *testing.T) {
	t.Parallel()

	t.Run("stamps are UTC, cut to microseconds", func(t *testing.T) {
		s := memstore.New(&memstore.Options{Clock: newClock()})
		accepted, err := s.CreateTrigger(t.Context(), trigger(1))
		require.NoError(t, err)
		require.Equal(t, time.Date(2026, 4, 15, 10, 1, 23, 456789_000, time.UTC), accepted.Run.CreatedAt)

		expiry := time.Date(2027, 1, 1, 1, 0, 0, 1999, time.FixedZone("CET", 60*60))
		key, err := s.CreateKey(t.Context(), webtrigger.NewKey{AssistantID: "1", ExpiresAt: expiry})
		require.NoError(t, err)
		require.Equal(t, time.Date(2027, 1, 1, 0, 0, 0, 1000, time.UTC), key.ExpiresAt)
		require.True(t, key.RevokedAt.IsZero())
	})

	t.Run("a lease ends at its instant", func(t *testing.T) {
		c := newMonotonic()
		s := memstore.New(&memstore.Options{Clock: c})
		register(t, s, "sweeper", time.Hour)
		register(t, s, "w", time.Minute)
		tr := trigger(1)
		tr.Claim = &webtrigger.Claimant{ProcessID: "w", Token: 1}
		_, err := s.CreateTrigger(t.Context(), tr)
		require.NoError(t, err)
		sweep := webtrigger.Sweep{ProcessID: "sweeper", Limit: 1}

		c.t = c.t.Add(time.Minute - time.Nanosecond)
		swept, err := s.SweepRuns(t.Context(), sweep)
		require.NoError(t, err)
		require.Empty(t, swept)

		c.t = c.t.Add(time.Nanosecond)
		swept, err = s.SweepRuns(t.Context(), sweep)
		require.NoError(t, err)
		require.Len(t, swept, 1)
		require.Equal(t, "heartbeat timeout", swept[0].StatusDetail)
	})

	t.Run("the process that expired first is swept first, then the queue", func(t *testing.T) {
		c := newMonotonic()
		s := memstore.New(&memstore.Options{Clock: c})
		register(t, s, "sweeper", time.Hour)
		for n, lease := range []time.Duration{0, 3 * time.Second, time.Second} {
			tr := trigger(int64(n) + 1)
			if lease > 0 {
				register(t, s, lease.String(), lease)
				tr.Claim = &webtrigger.Claimant{ProcessID: lease.String(), Token: 1}
			}
			_, err := s.CreateTrigger(t.Context(), tr)
			require.NoError(t, err)
		}
		sweep := webtrigger.Sweep{ProcessID: "sweeper", MaxQueueTime: 2 * time.Second, Limit: 10}
		sweeps := func(want ...int64) {
			t.Helper()
			swept, err := s.SweepRuns(t.Context(), sweep)
			require.NoError(t, err)
			var ids []int64
			for _, run := range swept {
				ids = append(ids, run.ID)
			}
			require.Equal(t, want, ids)
		}
		c.t = c.t.Add(2 * time.Second) // waits as long as it may, not longer
		sweeps(3)
		c.t = c.t.Add(time.Minute)
		sweeps(2, 1)
	})

	t.Run("a claim of a delivery may be repeated for 10 s", func(t *testing.T) {
		c := newMonotonic()
		s := memstore.New(&memstore.Options{Clock: c})
		register(t, s, "w", time.Minute)
		tr := trigger(1)
		tr.CallbackURL, tr.Claim = "https://receiver.example/", &webtrigger.Claimant{ProcessID: "w", Token: 1}
		accepted, err := s.CreateTrigger(t.Context(), tr)
		require.NoError(t, err)
		_, err = s.FinishRun(t.Context(), *accepted.Lease, webtrigger.Finish{Outcome: webtrigger.Outcome{Status: webtrigger.RunCompleted}})
		require.NoError(t, err)
		leased, err := s.LeaseDeliveries(t.Context(), webtrigger.DeliveryQuery{Token: 1, Lease: 15 * time.Second, Limit: 1})
		require.NoError(t, err)
		for range 2 {
			require.NoError(t, s.ClaimDelivery(t.Context(), leased[0].Lease))
			c.t = c.t.Add(5*time.Second - time.Nanosecond)
		}
		require.NoError(t, s.ClaimDelivery(t.Context(), leased[0].Lease))
		c.t = c.t.Add(2)
		require.ErrorIs(t, s.ClaimDelivery(t.Context(), leased[0].Lease), webtrigger.ErrLeaseLost)
		require.NoError(t, s.ReturnDelivery(t.Context(), leased[0].Lease))
	})

	t.Run("a step of the wall clock ends no lease and no wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newClock()
			s := memstore.New(&memstore.Options{Clock: c})
			register(t, s, "sweeper", time.Minute)
			register(t, s, "w", time.Second)
			running, queued := trigger(1), trigger(2)
			running.Claim = &webtrigger.Claimant{ProcessID: "w", Token: 1}
			for _, tr := range []webtrigger.NewTrigger{running, queued} {
				_, err := s.CreateTrigger(t.Context(), tr)
				require.NoError(t, err)
			}
			sweep := webtrigger.Sweep{ProcessID: "sweeper", MaxQueueTime: time.Second, Limit: 10}
			for _, step := range []time.Duration{time.Hour, -3 * time.Hour} {
				c.t = c.t.Add(step)
				swept, err := s.SweepRuns(t.Context(), sweep)
				require.NoError(t, err)
				require.Empty(t, swept)
				state, err := s.QueueState(t.Context())
				require.NoError(t, err)
				require.Zero(t, state.OldestAge)
			}
			time.Sleep(time.Second + 1)
			swept, err := s.SweepRuns(t.Context(), sweep)
			require.NoError(t, err)
			require.Len(t, swept, 2)
		})
	})

	t.Run("a key and an idempotency record end at their instant", func(t *testing.T) {
		c := newClock()
		s := memstore.New(&memstore.Options{Clock: c})
		_, err := s.CreateKey(t.Context(), webtrigger.NewKey{AssistantID: "1", ExpiresAt: c.t.Add(time.Hour)})
		require.NoError(t, err)
		use := webtrigger.Idempotency{Key: "k", TTL: time.Hour}
		tr := trigger(1)
		tr.Idempotency = &use
		_, err = s.CreateTrigger(t.Context(), tr)
		require.NoError(t, err)

		c.t = c.t.Add(time.Hour - time.Microsecond)
		_, err = s.Authenticate(t.Context(), webtrigger.KeyHash{}, 0, 0)
		require.NoError(t, err)
		_, err = s.Replay(t.Context(), "1", use)
		require.NoError(t, err)

		c.t = c.t.Add(time.Microsecond)
		_, err = s.Authenticate(t.Context(), webtrigger.KeyHash{}, 0, 0)
		require.ErrorIs(t, err, webtrigger.ErrNotFound)
		_, err = s.Replay(t.Context(), "1", use)
		require.ErrorIs(t, err, webtrigger.ErrNotFound)

		tr.RunKey = trigger(2).RunKey
		accepted, err := s.CreateTrigger(t.Context(), tr)
		require.NoError(t, err)
		require.False(t, accepted.Replayed)
		require.EqualValues(t, 2, accepted.Run.ID)
	})
}

// Expired idempotency records leave as new ones come, whichever of them is used
// again in between.
func TestIdempotencyRecordsExpire(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := memstore.New(&memstore.Options{Clock: c})
	var n int64
	create := func(key string) bool {
		n++
		tr := trigger(n)
		tr.Idempotency = &webtrigger.Idempotency{Key: key, TTL: time.Duration(1+n%3) * time.Hour}
		accepted, err := s.CreateTrigger(t.Context(), tr)
		require.NoError(t, err)
		return accepted.Replayed
	}
	for day := range 5 {
		for i := range 50 {
			require.False(t, create(fmt.Sprint("every day ", i)))
			require.False(t, create(fmt.Sprint("day ", day, ": ", i)))
		}
		for i := range 50 {
			require.True(t, create(fmt.Sprint("every day ", i)))
			require.True(t, create(fmt.Sprint("day ", day, ": ", i)))
		}
		c.t = c.t.Add(24 * time.Hour)
	}
}

func TestDefaultClockIsTheBubbles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(nil)
		before, err := s.CreateTrigger(t.Context(), trigger(1))
		require.NoError(t, err)
		time.Sleep(time.Hour)
		after, err := s.CreateTrigger(t.Context(), trigger(2))
		require.NoError(t, err)
		require.Equal(t, time.Hour, after.Run.CreatedAt.Sub(before.Run.CreatedAt))
	})
}

// A watcher that is busy during many changes delays no call, and gets the hint that
// anything may have changed. It receives no hint after Watch has returned.
func TestWatch_slowWatcher_delaysNoCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(nil)
		ctx, cancel := context.WithCancel(t.Context())
		hints, resume, done := make(chan webtrigger.Hint, 2), make(chan struct{}), make(chan error)
		go func() {
			done <- s.Watch(ctx, func(h webtrigger.Hint) {
				hints <- h
				<-resume
			})
		}()
		synctest.Wait()

		accept := func(n int64) {
			_, err := s.CreateTrigger(t.Context(), trigger(n))
			require.NoError(t, err)
		}
		accept(1)
		require.Equal(t, webtrigger.Hint{Queued: true, Conversations: []int64{1}}, <-hints)
		for n := range int64(5000) {
			accept(n + 2)
		}
		resume <- struct{}{}
		require.Equal(t, webtrigger.Hint{}, <-hints)
		resume <- struct{}{}
		accept(5002)
		require.Equal(t, webtrigger.Hint{Queued: true, Conversations: []int64{5002}}, <-hints)
		resume <- struct{}{}

		cancel()
		require.NoError(t, <-done)
		accept(5003)
		synctest.Wait()
		require.Empty(t, hints)
	})
}

// BenchmarkCreateTrigger accepts runs that wait in the queue.
func BenchmarkCreateTrigger(b *testing.B) {
	s := memstore.New(nil)
	var n atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.CreateTrigger(b.Context(), trigger(n.Add(1))); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkTakeAndFinish accepts runs that are taken at once, and ends them.
func BenchmarkTakeAndFinish(b *testing.B) {
	s := memstore.New(nil)
	register(b, s, "w", time.Hour)
	var n atomic.Int64
	end := webtrigger.Finish{Outcome: webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: "done"}}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			id := n.Add(1)
			tr := trigger(id)
			tr.Claim = &webtrigger.Claimant{ProcessID: "w", Token: id}
			tr.Idempotency = &webtrigger.Idempotency{Key: tr.RunKey, TTL: time.Minute}
			accepted, err := s.CreateTrigger(b.Context(), tr)
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := s.FinishRun(b.Context(), *accepted.Lease, end); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkClaimFromLongQueue takes and finishes runs out of a queue that stays
// at 100,000.
func BenchmarkClaimFromLongQueue(b *testing.B) {
	s := memstore.New(nil)
	register(b, s, "w", time.Hour)
	var n int64
	for n < 100_000 {
		n++
		if _, err := s.CreateTrigger(b.Context(), trigger(n)); err != nil {
			b.Fatal(err)
		}
	}
	end := webtrigger.Finish{Outcome: webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: "done"}}
	b.ReportAllocs()
	for b.Loop() {
		n++
		if _, err := s.CreateTrigger(b.Context(), trigger(n)); err != nil {
			b.Fatal(err)
		}
		claimed, err := s.ClaimRuns(b.Context(), webtrigger.Claim{ProcessID: "w", Token: n, Limit: 1})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.FinishRun(b.Context(), claimed[0].Lease, end); err != nil {
			b.Fatal(err)
		}
	}
}
