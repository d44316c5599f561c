package webtriggertest

import (
	"sync"
	"time"
)

// Clock is a webtrigger.Clock that stands still until it is set. It is the time
// of the store alone: timeouts and tickers go by package time, which
// testing/synctest controls, and whether a time to come lies in the future is
// judged by the wall clock: begin with time.Now(). A lease does not expire while the clock stands.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a Clock that stands at a time.
func NewClock(at time.Time) *Clock { return &Clock{now: at} }

// Now returns the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance puts the clock forward.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
