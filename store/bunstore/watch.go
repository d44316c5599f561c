package bunstore

import (
	"context"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/internal/watch"
)

// Watch implements [webtrigger.EventStore]. It tells of this process's
// transitions, and on Postgres of others' unless [Options.NoNotify] is set, over a
// connection of its own outside the pool.
func (s *Store) Watch(ctx context.Context, notify func(webtrigger.Hint)) error {
	if listen := s.listen(); listen != nil && s.notifies() {
		listening, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.hear(listening, listen)
		}()
		defer func() { stop(); <-done }()
	}
	s.watchers.Watch(ctx, notify)
	return nil
}

// share tells of a transition that has become visible: this process at once,
// others by a notification.
func (s *Store) share(h webtrigger.Hint) {
	if h.IsZero() {
		return
	}
	s.watchers.Share(h)
	if s.notifies() {
		s.notifier.send(watch.WithoutEvents(h))
	}
}

// notifies reports whether other processes are told.
func (s *Store) notifies() bool { return s.postgres && !s.opts.NoNotify }

// The pauses before a lost listener is tried again.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
)

// hear receives other processes' notifications until ctx ends. A listener that
// was lost is begun again; what was missed meanwhile may have been anything.
func (s *Store) hear(ctx context.Context, listen listenFunc) {
	pause := firstPause
	for ctx.Err() == nil {
		err := listen(ctx, s.channelName(), func() {
			pause = firstPause
			s.watchers.ShareAnything()
		}, s.heard)
		if ctx.Err() != nil {
			return
		}
		s.log.WarnContext(ctx, "notifications lost: polling until they are back", "error", err, "retry_in", pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// channelName is the notification channel of these tables.
func (s *Store) channelName() string { return s.tablePrefix() + "hints" }

// heard passes on what another process has done.
func (s *Store) heard(payload string) {
	note, err := decodeNote(payload)
	switch {
	case err != nil:
		s.watchers.ShareAnything()
	case note.Process != s.process:
		if note.Anything {
			s.watchers.ShareAnything()
		}
		s.watchers.Share(note.hint())
	}
}
