package webtrigger_test

import (
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// weather is what keeps calls from the store: all of them, heartbeats only, writes only,
// or commits. A call that is held waits until the weather has cleared.
type weather struct {
	mu      sync.Mutex
	now     front
	cleared chan struct{} // closed when the weather clears; nil: nothing is held
}

// front is one kind of weather.
type front int

const (
	outage   front = iota // nothing reaches the store
	deaf                  // no heartbeat reaches the store
	mute                  // no other write reaches the store
	stalling              // writes reach the store, which commits them later
	fronts
)

// change brings weather, unless there is some.
func (w *weather) change(to front) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cleared == nil {
		w.now, w.cleared = to, make(chan struct{})
	}
}

// clear ends the weather.
func (w *weather) clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cleared != nil {
		close(w.cleared)
		w.cleared = nil
	}
}

// held returns what a call waits for, or nil, and whether the store commits the call
// even if its caller has left by then.
func (w *weather) held(k kind) (until <-chan struct{}, commits bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cleared == nil {
		return nil, false
	}
	switch w.now {
	case deaf:
		if k != beats {
			return nil, false
		}
	case mute:
		if k != writes {
			return nil, false
		}
	case stalling:
		if k == reads {
			return nil, false
		}
		return w.cleared, true
	}
	return w.cleared, false
}

// disturb cuts a process off from the store for a while, or drains and replaces it.
func (w *world) disturb() {
	w.pause(10 * time.Second)
	i := w.n(len(w.processes))
	w.mu.Lock()
	p := w.processes[i]
	w.apart = true
	w.mu.Unlock()
	if w.n(2) == 0 {
		p.weather.change(front(w.n(int(fronts))))
		w.pause(12 * time.Second)
		p.weather.clear()
		return
	}
	p.stop()
	next := w.spawn()
	w.mu.Lock()
	w.processes[i] = next
	w.mu.Unlock()
}

// part records that something happened to a process alone, so that others may sweep it:
// with a lost heartbeat, a shorter pause of the store ends its lease than theirs.
func (w *world) part() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.apart = true
}

// storm lets the store pause, or stall its commits, for up to several leases.
func (w *world) storm() {
	w.pause(10 * time.Second)
	if w.n(2) == 0 {
		w.weather.change(outage)
	} else {
		w.weather.change(stalling)
	}
	w.pause(40 * time.Second)
	w.weather.clear()
}

// claimed records a claim that the store has made.
func (w *world) claimed(lease webtrigger.Lease) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.claims[lease] {
		w.t.Errorf("seed %d: run %d was claimed twice under one token", w.seed, lease.RunID)
	}
	w.claims[lease] = true
}
