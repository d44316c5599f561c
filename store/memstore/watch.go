package memstore

import (
	"context"
	"slices"

	"github.com/webtrigger-go/webtrigger"
)

// maxHint is how many ids wait for a slow watcher before it is told that
// anything may have happened.
const maxHint = 1024

// watcher is one call of Watch. What has happened since its last notify is
// gathered in hint, under the store's lock.
type watcher struct {
	wake chan struct{} // holds one
	hint webtrigger.Hint
	many bool // hint was given up: too much has happened
}

// Watch calls notify from the caller's goroutine, one call at a time; what
// happens during a call is merged into the next. When Watch has returned, notify
// is not called again.
func (s *Store) Watch(ctx context.Context, notify func(webtrigger.Hint)) error {
	w := &watcher{wake: make(chan struct{}, 1)}
	s.mu.Lock()
	s.watchers = append(slices.Clip(s.watchers), w)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.watchers = slices.DeleteFunc(slices.Clone(s.watchers), func(x *watcher) bool { return x == w })
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
			if h, some := s.takeHint(w); some {
				notify(h)
			}
		}
	}
}

// takeHint empties what w has gathered. There is nothing when the last notify
// has told it all already: an empty hint would say that anything may have
// happened.
func (s *Store) takeHint(w *watcher) (h webtrigger.Hint, some bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, some = w.hint, w.many || !empty(w.hint)
	w.hint, w.many = webtrigger.Hint{}, false
	return h, some
}

func empty(h webtrigger.Hint) bool {
	return !h.Queued && !h.Owed && len(h.Conversations) == 0 && len(h.Stopped) == 0
}

// shareHint hands the hint of the transition that ends to all watchers and
// returns them, or none where there is nothing to tell.
func (s *Store) shareHint() []*watcher {
	h := s.hint
	if empty(h) {
		return nil
	}
	for _, w := range s.watchers {
		w.add(h)
	}
	s.hint = webtrigger.Hint{Conversations: h.Conversations[:0], Stopped: h.Stopped[:0]}
	return s.watchers
}

// add merges h into what w has gathered.
func (w *watcher) add(h webtrigger.Hint) {
	if w.many {
		return
	}
	w.hint.Queued = w.hint.Queued || h.Queued
	w.hint.Owed = w.hint.Owed || h.Owed
	w.hint.Conversations = append(w.hint.Conversations, h.Conversations...)
	w.hint.Stopped = append(w.hint.Stopped, h.Stopped...)
	if len(w.hint.Conversations)+len(w.hint.Stopped) > maxHint {
		w.hint, w.many = webtrigger.Hint{}, true
	}
}

// wakeUp never blocks: a watcher that has not looked yet will.
func (w *watcher) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
