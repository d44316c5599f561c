package bunstore_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
	"github.com/webtrigger-go/webtrigger/webtriggertest"
)

// steppedClock is a wall clock that can be set.
type steppedClock struct{ off atomic.Int64 }

func (c *steppedClock) Now() time.Time       { return time.Now().Add(time.Duration(c.off.Load())) }
func (c *steppedClock) step(d time.Duration) { c.off.Add(int64(d)) }

// sweptBy is what a sweep of the process changes.
func sweptBy(t *testing.T, s webtrigger.Store, p webtrigger.Process) []webtrigger.Run {
	t.Helper()
	swept, err := s.SweepRuns(t.Context(), webtrigger.Sweep{ProcessID: p.ID, Limit: 10, Audit: true})
	require.NoError(t, err)
	return swept
}

// On SQLite, a step of the wall clock neither ends nor extends the lease of a process
// or of a delivery. Stamps are in wall time.
func TestSQLite_clockStep_endsNothing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, step := range []time.Duration{time.Minute, -time.Minute} {
		var clock steppedClock
		s := migrated(t, sqliteDB(t, ""), &bunstore.Options{Clock: &clock})
		holder, other := registered(t, s, 30*time.Second), registered(t, s, 30*time.Second)
		run := claimedBy(t, s, holder, 1, storeTrigger(t, s).ID)[0]
		var deliveries []webtrigger.LeasedDelivery
		for range 2 {
			accepted, err := s.CreateTrigger(ctx, callbackTrigger())
			require.NoError(t, err)
			finished(t, s, claimedBy(t, s, other, 1, accepted.Run.ID)[0].Lease)
			leased, err := s.LeaseDeliveries(ctx, webtrigger.DeliveryQuery{Token: webtrigger.NewToken(), Lease: 15 * time.Second, Limit: 1})
			require.NoError(t, err)
			require.Len(t, leased, 1)
			deliveries = append(deliveries, leased...)
		}
		require.NoError(t, s.ClaimDelivery(ctx, deliveries[0].Lease))
		clock.step(step)
		later := storeTrigger(t, s)
		require.WithinDuration(t, clock.Now(), later.CreatedAt, 10*time.Second)

		require.Empty(t, sweptBy(t, s, other))
		require.Empty(t, sweptBy(t, s, holder))
		unknown, err := s.SweepDeliveries(ctx, 30*time.Second, 10)
		require.NoError(t, err)
		require.Empty(t, unknown)
		leased, err := s.LeaseDeliveries(ctx, webtrigger.DeliveryQuery{Token: webtrigger.NewToken(), Lease: 15 * time.Second, Limit: 1})
		require.NoError(t, err)
		require.Empty(t, leased)
		for _, d := range deliveries {
			require.NoError(t, s.ClaimDelivery(ctx, d.Lease))
		}
		require.Equal(t, []webtrigger.HeldClaim{{Lease: run.Lease}}, renewed(t, s, holder).Claims)
		finished(t, s, run.Lease)
	}
}

// A lease on SQLite expires in the time of Clock.Elapsed.
func TestSQLite_elapsedClock_endsLease(t *testing.T) {
	t.Parallel()
	clock := webtriggertest.NewClock(time.Now())
	s := migrated(t, sqliteDB(t, ""), &bunstore.Options{Clock: clock})
	run := claimedBy(t, s, registered(t, s, time.Minute), 1, storeTrigger(t, s).ID)[0]
	sweeper := registered(t, s, time.Hour)
	clock.Advance(59 * time.Second)
	require.Empty(t, sweptBy(t, s, sweeper))
	clock.Advance(time.Second)
	require.Equal(t, []int64{run.Run.ID}, ids(t, sweptBy(t, s, sweeper)))
}

// While another connection holds the lock of the file for longer than a lease, no
// process can renew. None is lost when the lock is released.
func TestSQLite_foreignLockLongerThanLease_endsNothing(t *testing.T) {
	t.Parallel()
	file := memoryDir(t) + "/test.db"
	s := migrated(t, sqliteOpen(t, file), nil)
	holder, other := registered(t, s, 300*time.Millisecond), registered(t, s, 300*time.Millisecond)
	run := claimedBy(t, s, holder, 1, storeTrigger(t, s).ID)[0]
	unlock := lockSQLite(t, sqliteOpen(t, file))
	beats := make(chan error, 2)
	for _, p := range []webtrigger.Process{holder, other} {
		go func() {
			_, err := s.RenewProcess(t.Context(), p)
			for attempt := 0; err != nil && attempt < 10; attempt++ { // as heartbeats do, on a busy machine
				_, err = s.RenewProcess(t.Context(), p)
			}
			beats <- err
		}()
	}
	time.Sleep(600 * time.Millisecond)
	unlock()
	for range cap(beats) {
		require.NoError(t, <-beats)
	}
	require.Empty(t, sweptBy(t, s, other))
	require.Empty(t, sweptBy(t, s, holder))
	finished(t, s, run.Lease)
}

// A file whose last process had another wall clock is swept all the same.
func TestSQLite_reopenedUnderAnotherClock_sweepsTheFormerProcess(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{100 * 24 * time.Hour, -time.Hour} {
		file := memoryDir(t) + "/test.db"
		former := migrated(t, sqliteOpen(t, file), &bunstore.Options{Clock: wrongClock(off)})
		run := claimedBy(t, former, registered(t, former, 2*time.Second), 1, storeTrigger(t, former).ID)[0]
		s := opened(t, sqliteOpen(t, file), nil)
		accepted, err := s.CreateTrigger(t.Context(), callbackTrigger())
		require.NoError(t, err)
		p := registered(t, s, time.Minute)
		finished(t, s, claimedBy(t, s, p, 1, accepted.Run.ID)[0].Lease)
		lease := webtrigger.DeliveryQuery{Token: webtrigger.NewToken(), Lease: 2 * time.Second, Limit: 1}
		leased, err := former.LeaseDeliveries(t.Context(), lease)
		require.NoError(t, err)
		if off > 0 { // else it is not due there
			require.Len(t, leased, 1)
		}
		require.Empty(t, sweptBy(t, s, p), "the new process has been in contact for less than a lease")
		time.Sleep(2 * time.Second)
		require.Equal(t, []int64{run.Run.ID}, ids(t, sweptBy(t, s, p)))
		leased, err = s.LeaseDeliveries(t.Context(), lease)
		require.NoError(t, err)
		require.Len(t, leased, 1)
	}
}
