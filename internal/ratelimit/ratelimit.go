// Package ratelimit limits how often the API keys of one process may act. Each key
// has a token bucket.
package ratelimit

import (
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// Buckets is a token bucket for each API key. A bucket is one time: when it will
// be full again. Each used token moves that time later by the time in which one token
// is refilled. If that time is a whole window ahead, the bucket is empty. Full buckets
// are deleted.
//
// It is safe for concurrent use.
type Buckets struct {
	limit  int           // tokens in a full bucket
	window time.Duration // in which an empty bucket fills
	token  time.Duration // in which one token is refilled

	mu    sync.Mutex
	full  map[int64]time.Time // by API key
	prune int                 // delete full buckets when there are this many
}

// New returns buckets of limit tokens that fill in window. If limit is zero,
// there is no limit.
func New(limit int, window time.Duration) *Buckets {
	b := &Buckets{limit: limit, window: window}
	if limit > 0 {
		b.token = max(window/time.Duration(limit), 1)
		b.full = make(map[int64]time.Time)
	}
	return b
}

// Limits reports whether there is a limit for the key. Key 0 stands for callers
// without a key; they have none.
func (b *Buckets) Limits(keyID int64) bool { return b.limit > 0 && keyID != 0 }

// Take takes a token. If there is none, it reports false, and the quota's Reset is
// how long the caller must wait.
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
	b.deleteFull(now)
	return b.quota(after.Sub(now)), true
}

// Return puts back a token that was not used.
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

// quota describes a bucket that is full in the given time from now.
func (b *Buckets) quota(full time.Duration) wire.Quota {
	left := int((b.size() - full) / b.token)
	return wire.Quota{Policy: "key", Limit: b.limit, Window: b.window, Remaining: left, Reset: full - b.token*time.Duration(b.limit-left-1)}
}

// deleteFull deletes the full buckets once there are twice as many buckets as the
// last time left; mu is held.
func (b *Buckets) deleteFull(now time.Time) {
	if len(b.full) < b.prune {
		return
	}
	for id, full := range b.full {
		if !full.After(now) {
			delete(b.full, id)
		}
	}
	b.prune = 2*len(b.full) + 64
}
