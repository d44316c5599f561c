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
		c := newClock()
		s := memstore.New(&memstore.Options{Clock: c})
		tr := trigger(1)
		tr.Claim = &webtrigger.Claimant{Worker: "w", Lease: time.Minute}
		accepted, err := s.CreateTrigger(t.Context(), tr)
		require.NoError(t, err)
		append1 := webtrigger.EventBatch{Number: 1, Events: []webtrigger.NewEvent{{Type: "x_1", Payload: []byte(`{}`)}}}
		sweep := webtrigger.Sweep{MaxAttempts: 1, Limit: 1}

		c.t = c.t.Add(time.Minute - time.Microsecond)
		require.NoError(t, s.AppendEvents(t.Context(), *accepted.Lease, append1))
		swept, err := s.SweepRuns(t.Context(), sweep)
		require.NoError(t, err)
		require.Empty(t, swept)

		c.t = c.t.Add(time.Microsecond)
		require.ErrorIs(t, s.AppendEvents(t.Context(), *accepted.Lease, append1), webtrigger.ErrLeaseLost)
		swept, err = s.SweepRuns(t.Context(), sweep)
		require.NoError(t, err)
		require.Len(t, swept, 1)
		require.Equal(t, "heartbeat timeout", swept[0].StatusDetail)
	})

	t.Run("the longest overdue is swept first", func(t *testing.T) {
		c := newClock()
		s := memstore.New(&memstore.Options{Clock: c})
		for n, lease := range []time.Duration{0, 3 * time.Second, time.Second} {
			tr := trigger(int64(n) + 1)
			if lease > 0 {
				tr.Claim = &webtrigger.Claimant{Lease: lease}
			}
			_, err := s.CreateTrigger(t.Context(), tr)
			require.NoError(t, err)
		}
		sweep := webtrigger.Sweep{MaxAttempts: 1, MaxQueueTime: 2 * time.Second, Limit: 2}

		c.t = c.t.Add(2 * time.Second) // waits as long as it may, not longer
		swept, err := s.SweepRuns(t.Context(), sweep)
		require.NoError(t, err)
		require.Len(t, swept, 1)
		require.EqualValues(t, 3, swept[0].ID)

		c.t = c.t.Add(time.Minute)
		swept, err = s.SweepRuns(t.Context(), sweep)
		require.NoError(t, err)
		require.Len(t, swept, 2)
		require.EqualValues(t, 1, swept[0].ID)
		require.Equal(t, "queue timeout", swept[0].StatusDetail)
		require.EqualValues(t, 2, swept[1].ID)
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
		_, err = s.Authenticate(t.Context(), webtrigger.KeyHash{}, 0)
		require.NoError(t, err)
		_, err = s.Replay(t.Context(), "1", use)
		require.NoError(t, err)

		c.t = c.t.Add(time.Microsecond)
		_, err = s.Authenticate(t.Context(), webtrigger.KeyHash{}, 0)
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

// A watcher that is busy while much happens delays no call and gets a hint that
// anything may have happened; after Watch has returned it is told nothing.
func TestSlowWatcher(t *testing.T) {
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
	var n atomic.Int64
	end := webtrigger.Finish{Outcome: webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: "done"}}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			id := n.Add(1)
			tr := trigger(id)
			tr.Claim = &webtrigger.Claimant{Worker: "w", Lease: time.Minute}
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
		claimed, err := s.ClaimRuns(b.Context(), webtrigger.Claim{Lease: time.Minute, Limit: 1})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.FinishRun(b.Context(), claimed[0].Lease, end); err != nil {
			b.Fatal(err)
		}
	}
}
