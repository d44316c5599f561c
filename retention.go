package webtrigger

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Retention says how long what has ended is kept, counted from the end of a run.
// Zero keeps forever.
type Retention struct {
	// Events is the age at which a run's events go. Its reader is told (410, or a
	// gap in the stream); status, result and messages stay.
	Events time.Duration

	// The age at which a trigger goes whole, by how its run ended; one with
	// several runs goes when each of them may. It is then unknown: 404.
	Completed, Failed, Cancelled, TimedOut time.Duration
}

func (r Retention) check() error {
	if min(r.Events, r.Completed, r.Failed, r.Cancelled, r.TimedOut) < 0 {
		return errors.New("the ages of Retention must not be negative")
	}
	return nil
}

// EraseTrigger forgets a trigger at once, whatever its age: the conversation with
// its runs, messages, events, deliveries and idempotency records. A callback that
// is still owed is not sent. ErrConflict while a run of it has not ended: cancel
// it first.
func (s *Service) EraseTrigger(ctx context.Context, triggerID int64) error {
	if err := s.store.EraseTrigger(ctx, triggerID); err != nil {
		return fmt.Errorf("erase trigger: %w", err)
	}
	s.log.InfoContext(ctx, "trigger erased", "trigger_id", triggerID)
	return nil
}

const (
	purgeInterval = 10 * time.Minute       // between two passes
	purgePause    = 100 * time.Millisecond // between two calls of a pass: it is nobody's hurry
	purgeBatch    = 500
)

// purgeLoop forgets what has become old. Every process does; they do not wait for
// each other.
func (s *Service) purgeLoop(life context.Context) {
	if s.opts.Retention == (Retention{}) {
		return
	}
	wait := time.NewTimer(purgePause)
	defer wait.Stop()
	var after int64
	for {
		select {
		case <-life.Done():
			return
		case <-wait.C:
		}
		after = s.purge(life, after)
		if after == 0 {
			wait.Reset(purgeInterval)
		} else {
			wait.Reset(purgePause)
		}
	}
}

// purge is one call of a pass. It returns where the pass goes on; 0 when it is
// over, also when it failed: the next one begins anew.
func (s *Service) purge(life context.Context, after int64) (next int64) {
	ctx, cancel := context.WithTimeout(life, statementTimeout)
	defer cancel()
	purged, err := s.store.Purge(ctx, Purge{Keep: s.opts.Retention, After: after, Limit: purgeBatch})
	if err != nil {
		if life.Err() == nil {
			s.log.Warn("purge failed", "error", err)
		}
		return 0
	}
	if purged.Events+purged.Triggers > 0 {
		s.log.Info("purge completed", "triggers", purged.Triggers, "runs_without_events", purged.Events)
	}
	return purged.Next
}
