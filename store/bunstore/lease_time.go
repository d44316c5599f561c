package bunstore

import (
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Leases count in the server's time on Postgres. On SQLite they count in monotonic
// time: a step of the wall clock neither ends nor extends them. Stamps that readers
// see are in wall time.

// processStart is when the process started, with a monotonic reading. All stores of the
// process count from it, so their leases compare.
var processStart = time.Now()

// leaseClock returns the monotonic time of a store: the wall time of an instant, and
// what has elapsed since. So it compares, up to the steps of the wall clock, with what
// an earlier process has stored in the same file.
func leaseClock(clock webtrigger.Clock) func() time.Time {
	if clock == nil {
		return func() time.Time { return processStart.Add(time.Since(processStart)) }
	}
	base, since := clock.Now(), time.Now()
	if own, ok := clock.(interface{ Elapsed() time.Duration }); ok {
		first := own.Elapsed()
		return func() time.Time { return base.Add(own.Elapsed() - first) }
	}
	return func() time.Time { return base.Add(time.Since(since)) }
}

// leaseTime is the time of a store on SQLite in which leases count.
func (s *Store) leaseTime() time.Time { return s.elapsed().UTC().Truncate(time.Microsecond) }

// leaseTime is the time in which leases count.
func (t *tx) leaseTime() (time.Time, error) {
	if t.store.postgres {
		return t.now()
	}
	return t.store.leaseTime(), nil
}
