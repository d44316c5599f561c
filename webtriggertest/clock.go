package webtriggertest

import (
	"sync"
	"time"
)

// Clock is a webtrigger.Clock that stands still until a test advances it. It is the
// time of the store only. Timeouts and tickers use package time, which
// testing/synctest controls. Future times are validated against the wall clock, so
// start a Clock at time.Now(). A lease does not expire while the clock stands still.
type Clock struct {
	mu      sync.Mutex
	now     time.Time
	elapsed time.Duration
}

// NewClock returns a Clock that shows the time at.
func NewClock(at time.Time) *Clock { return &Clock{now: at} }

// Now returns the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Elapsed returns the total time that the clock was advanced by. A store counts leases
// in it, see [webtrigger.Clock].
func (c *Clock) Elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.elapsed
}

// Advance moves the clock forward by d.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.elapsed += d
}
