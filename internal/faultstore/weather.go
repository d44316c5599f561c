package faultstore

import (
	"slices"
	"sync"
)

// Weather is what keeps calls from the store: all of them, heartbeats only, writes only,
// or commits. A call that is held waits until the weather has cleared.
type Weather struct {
	mu      sync.Mutex
	now     Front
	cleared chan struct{} // closed when the weather clears; nil: nothing is held
}

// Front is one kind of weather.
type Front int

const (
	Outage   Front = iota // nothing reaches the store
	Deaf                  // no heartbeat reaches the store
	Mute                  // no other write reaches the store
	Stalling              // writes reach the store, which commits them later
	Fronts                // their number
)

// Change brings weather, unless there is some.
func (w *Weather) Change(to Front) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cleared == nil {
		w.now, w.cleared = to, make(chan struct{})
	}
}

// Clear ends the weather.
func (w *Weather) Clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cleared != nil {
		close(w.cleared)
		w.cleared = nil
	}
}

// Held returns what a call waits for, or nil, and whether the store commits the call
// even if its caller has left by then.
func (w *Weather) Held(k Kind) (until <-chan struct{}, commits bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cleared == nil {
		return nil, false
	}
	switch w.now {
	case Deaf:
		if k != Heartbeat {
			return nil, false
		}
	case Mute:
		if k != Write {
			return nil, false
		}
	case Stalling:
		if k == Read {
			return nil, false
		}
		return w.cleared, true
	}
	return w.cleared, false
}

// Kind is what a call of the store does.
type Kind int

const (
	Read      Kind = iota
	Write          //  a write whose outcome matters to its caller
	Heartbeat      // a heartbeat
)

// KindOf returns what a method does.
func KindOf(method string) Kind {
	switch {
	case method == "RenewProcess":
		return Heartbeat
	case slices.Contains(Writes, method):
		return Write
	}
	return Read
}
