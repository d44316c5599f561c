// Package inflight bounds how many calls of one API key are under way in a process.
package inflight

import "sync"

// Calls counts the calls under way by API key. It is safe for concurrent use.
type Calls struct {
	limit int

	mu    sync.Mutex
	under map[int64]int // by API key
}

// New returns a count with at most limit calls of one key at a time.
func New(limit int) *Calls { return &Calls{limit: limit, under: make(map[int64]int)} }

// Begin counts one more call, until End. It reports false if the key has as many
// calls under way as it may have. Key 0 stands for callers without a key, who have
// no bound.
func (c *Calls) Begin(keyID int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if keyID != 0 && c.under[keyID] >= c.limit {
		return false
	}
	c.under[keyID]++
	return true
}

// End ends what Begin began.
func (c *Calls) End(keyID int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.under[keyID]--; c.under[keyID] == 0 {
		delete(c.under, keyID)
	}
}
