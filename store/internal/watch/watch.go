// Package watch hands the hints of a store's transitions to those who watch it
// within the process: Watch of [webtrigger.EventStore], for every store.
package watch

import (
	"context"
	"slices"
	"sync"

	"github.com/webtrigger-go/webtrigger"
)

// maxHint is how many ids wait for a slow watcher. Beyond it, its hint has Anything set
// instead.
const maxHint = 1024

// What events wait for a slow watcher before their conversations are named instead.
const (
	maxEvents     = 64
	maxEventBytes = 256 << 10 // of their payloads
)

// Hub is the meeting place. The zero value is ready.
type Hub struct {
	mu       sync.Mutex
	watchers []*watcher
}

// watcher is one call of Watch, with what has happened since its last notify.
type watcher struct {
	wake chan struct{} // holds one
	hint webtrigger.Hint
	many bool // hint was given up: too much has happened
}

// Watch calls notify from the caller's goroutine, one call at a time, until ctx
// ends; what happens during a call is merged into the next. When Watch has
// returned, notify is not called again.
func (hub *Hub) Watch(ctx context.Context, notify func(webtrigger.Hint)) {
	w := &watcher{wake: make(chan struct{}, 1)}
	hub.mu.Lock()
	hub.watchers = append(hub.watchers, w)
	hub.mu.Unlock()
	defer func() {
		hub.mu.Lock()
		defer hub.mu.Unlock()
		hub.watchers = slices.DeleteFunc(hub.watchers, func(x *watcher) bool { return x == w })
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
			if h, some := hub.take(w); some && ctx.Err() == nil {
				notify(h)
			}
		}
	}
}

// IsZero reports whether the hint is the zero hint.
func IsZero(h webtrigger.Hint) bool {
	return !h.Queued && !h.Pending && len(h.Conversations) == 0 && len(h.Stopped) == 0 && len(h.Events) == 0
}

// Share sends the hint of a transition to every watcher, after the transition has
// become visible. It ignores the zero hint and copies the ids.
func (hub *Hub) Share(h webtrigger.Hint) {
	if IsZero(h) {
		return
	}
	hub.each(func(w *watcher) { w.add(h) })
}

// ShareAnything sends every watcher the hint that anything may have changed.
func (hub *Hub) ShareAnything() {
	hub.each(func(w *watcher) { w.hint, w.many = webtrigger.Hint{}, true })
}

func (hub *Hub) each(change func(w *watcher)) {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	for _, w := range hub.watchers {
		change(w)
		select {
		case w.wake <- struct{}{}:
		default: // has not looked yet, and will
		}
	}
}

// take empties what w has gathered. There is nothing if the last notify has
// passed all of it on.
func (hub *Hub) take(w *watcher) (h webtrigger.Hint, some bool) {
	hub.mu.Lock()
	defer hub.mu.Unlock()
	h, some = w.hint, w.many || !IsZero(w.hint)
	w.hint, w.many = webtrigger.Hint{}, false
	return h, some
}

// add merges h into what w has gathered.
func (w *watcher) add(h webtrigger.Hint) {
	if w.many {
		return
	}
	Merge(&w.hint, h)
	if tooMany(w.hint.Events) {
		w.hint = WithoutEvents(w.hint)
	}
	if len(w.hint.Conversations)+len(w.hint.Stopped) > maxHint {
		w.hint, w.many = webtrigger.Hint{}, true
	}
}

func tooMany(events []webtrigger.Event) bool {
	size := 0
	for _, e := range events {
		size += len(e.Payload)
	}
	return len(events) > maxEvents || size > maxEventBytes
}

// Merge adds the contents of more to h.
func Merge(h *webtrigger.Hint, more webtrigger.Hint) {
	h.Queued = h.Queued || more.Queued
	h.Pending = h.Pending || more.Pending
	h.Conversations = append(h.Conversations, more.Conversations...)
	h.Stopped = append(h.Stopped, more.Stopped...)
	h.Events = append(h.Events, more.Events...)
}

// WithoutEvents names the conversations of a hint's events in their place.
func WithoutEvents(h webtrigger.Hint) webtrigger.Hint {
	h.Conversations = slices.Clip(h.Conversations)
	for i, e := range h.Events {
		if i == 0 || e.ConversationID != h.Events[i-1].ConversationID {
			h.Conversations = append(h.Conversations, e.ConversationID)
		}
	}
	h.Events = nil
	return h
}
