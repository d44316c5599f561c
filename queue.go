package webtrigger

import (
	"context"
	"time"
)

// QueueState is the unfinished runs of a store at one instant, whichever process
// accepted or executes them.
type QueueState struct {
	Queued  int // runs that wait to be taken, those of another engine included
	Running int // runs that are taken, those included whose worker has vanished until they are swept

	// OldestAge is how long the run has waited that was queued first, on the store's
	// clock. A run that was given back counts from then. 0: none waits.
	OldestAge time.Duration
}

// QueueState reads the state of the queue, for metrics and alarms: an age that
// grows means too few workers. Its cost grows with the number of unfinished runs,
// not with those that have ended; once every few seconds is fine.
func (s *Service) QueueState(ctx context.Context) (QueueState, error) {
	return s.store.QueueState(ctx)
}
