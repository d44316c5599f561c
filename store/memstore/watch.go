package memstore

import (
	"context"

	"github.com/webtrigger-go/webtrigger"
)

// Watch implements [webtrigger.EventStore]. It calls notify from the caller's
// goroutine; what happens during a call is merged into the next.
func (s *Store) Watch(ctx context.Context, notify func(webtrigger.Hint)) error {
	s.watchers.Watch(ctx, notify)
	return nil
}
