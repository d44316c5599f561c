// Package ratelimit limits how often the API keys of one process may act.
package ratelimit

import (
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// Buckets is a token bucket for each API key of a process. A bucket is one time: when
// it will be full again. Each token that is taken makes that later by the time in
// which one token comes back, and there are none left when it is a whole window
// away. Buckets that are full again are forgotten.
type Buckets struct {
	limit  int // tokens in a full bucket; 0: there are no buckets
	window time.Duration
	token  time.Duration // in which one comes back

	mu     sync.Mutex
	full   map[int64]time.Time // by API key
	forget int                 // look for full buckets when there are so many
}

// New returns buckets of limit tokens that fill in window. If limit is zero, there
// is no limit.
func New(limit int, window time.Duration) *Buckets {
	b := &Buckets{limit: limit, window: window}
	if limit > 0 {
		b.token = max(window/time.Duration(limit), 1)
		b.full = make(map[int64]time.Time)
	}
	return b
}

// Limits reports whether the triggers of a key are counted.
func (b *Buckets) Limits(keyID int64) bool { return b.limit > 0 && keyID != 0 }

// Take takes a token. Without one it reports false; what it then tells is how long
// the caller has to wait.
func (b *Buckets) Take(keyID int64) (wire.Quota, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	full := b.full[keyID]
	if full.Before(now) {
		full = now
	}
	after := full.Add(b.token)
	if after.Sub(now) > b.size() {
		return b.quota(full.Sub(now)), false
	}
	b.full[keyID] = after
	b.forgetFull(now)
	return b.quota(after.Sub(now)), true
}

// Return puts a token back that nothing came of.
func (b *Buckets) Return(keyID int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if full, ok := b.full[keyID]; ok {
		b.full[keyID] = full.Add(-b.token)
	}
}

// Len returns how many buckets are in memory.
func (b *Buckets) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.full)
}

// size is the time in which an empty bucket fills.
func (b *Buckets) size() time.Duration { return b.token * time.Duration(b.limit) }

// quota is what is left of a bucket that is full in a time from now.
func (b *Buckets) quota(full time.Duration) wire.Quota {
	left := int((b.size() - full) / b.token)
	return wire.Quota{Policy: "key", Limit: b.limit, Window: b.window, Remaining: left, Reset: full - b.token*time.Duration(b.limit-left-1)}
}

// forgetFull forgets the buckets that are full again, once there are twice as many
// buckets as were left the last time; mu is held.
func (b *Buckets) forgetFull(now time.Time) {
	if len(b.full) < b.forget {
		return
	}
	for id, full := range b.full {
		if !full.After(now) {
			delete(b.full, id)
		}
	}
	b.forget = 2*len(b.full) + 64
}
