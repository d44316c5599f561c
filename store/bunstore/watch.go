package bunstore

import (
	"context"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/internal/watch"
)

// Watch implements [webtrigger.EventStore]. It reports this process's transitions.
// On Postgres it also reports those of other processes, over a connection of its own
// outside the pool, unless [Options.NoNotify] is set.
func (s *Store) Watch(ctx context.Context, notify func(webtrigger.Hint)) error {
	switch listen := s.listen(); {
	case !s.notifies():
	case listen == nil:
		s.noListener.Do(func() {
			s.log.WarnContext(ctx, "no notification listener for this driver", "remedy", "set Options.Listen "+
				"(package pgxlisten has one for pgx) or Options.NoNotify, and call Service.Wake after the host has created work; "+
				"until then, processes find each other's work within 2 s")
		})
	default:
		listening, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.receive(listening, listen)
		}()
		defer func() { stop(); <-done }()
	}
	s.watchers.Watch(ctx, notify)
	return nil
}

// share announces a transition that has become visible: to this process at once, to
// others by a notification.
func (s *Store) share(h webtrigger.Hint) { s.shareAs(h, watch.WithoutEvents(h)) }

// shareAs is share with another hint for other processes.
func (s *Store) shareAs(h, others webtrigger.Hint) {
	if !watch.IsZero(h) {
		s.watchers.Share(h)
	}
	if !watch.IsZero(others) && s.notifies() {
		s.notifier.send(others)
	}
}

// notifies reports whether other processes get notifications.
func (s *Store) notifies() bool { return s.postgres && !s.opts.NoNotify }

// channelName is the notification channel of these tables.
func (s *Store) channelName() string { return s.tablePrefix() + "hints" }

// received passes on a notification that is not an answer to a ping. The error is that of decoding it.
func (s *Store) received(n note, err error) {
	switch {
	case err != nil:
		s.watchers.ShareAnything()
	case n.Process != s.process:
		if n.Anything {
			s.watchers.ShareAnything()
		}
		s.watchers.Share(n.hint())
	}
}
