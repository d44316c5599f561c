package webtrigger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Retention sets how long ended runs and the entries of the audit log are kept. Runs are
// counted from their end. If an age is zero, they are kept forever. An age must not be
// negative. Work purges at least every 10 min.
type Retention struct {
	// Events is the age at which a run's events are purged. A reader of purged events
	// gets a 410 problem or a gap frame. Status, result and messages are kept.
	Events time.Duration

	// Completed, Failed, Cancelled and TimedOut are the ages at which a whole trigger
	// is purged, by the final status of its run. A trigger with several runs is
	// purged when each of them is past its age. Of a conversation with a key, each run
	// is purged by itself, and the key is free when the last one is. Requests for a
	// purged trigger return 404.
	Completed, Failed, Cancelled, TimedOut time.Duration

	// Audit is the age at which entries of the audit log are purged. It counts from the
	// time of the entry.
	Audit time.Duration
}

func (r Retention) check() error {
	if min(r.Events, r.Completed, r.Failed, r.Cancelled, r.TimedOut, r.Audit) < 0 {
		return errors.New("Retention ages must not be negative")
	}
	return nil
}

// RetentionStore deletes the data of ended runs. Deleted data no longer exists for
// any method, and its ids are never reused.
type RetentionStore interface {
	// Purge checks the next runs, ordered by id, and deletes the data that is past
	// its retention age. The age counts from the end of the run. A sequence of calls
	// checks each run once. If a run cannot be purged, Purge continues with the others
	// and returns an error with its result. The pass then continues at Next too.
	//
	// If a run is older than purge.Keep.Events, Purge deletes its events and keeps
	// the rest. EventPage.PurgedTo reports this to readers. Purge deletes a whole
	// trigger once each of its runs is older than the age of its status and none of
	// its deliveries is pending or sending. That includes its runs, messages, events,
	// deliveries and idempotency records. Of a conversation with a key, each run is a
	// trigger of its own. The last one takes the conversation with it, and the key is
	// free.
	//
	// Each call also deletes up to purge.Limit entries of the audit log that are older
	// than purge.Keep.Audit.
	Purge(ctx context.Context, purge Purge) (Purged, error)

	// EraseTrigger deletes a whole trigger, regardless of its age, including pending
	// and sending deliveries. If one of its runs has not ended, it returns
	// ErrConflict.
	EraseTrigger(ctx context.Context, conversationID int64) error
}

// Purge configures one call of RetentionStore.Purge.
type Purge struct {
	Keep  Retention
	After int64 // only runs with a higher id; 0 starts a pass
	Limit int   // maximum number of runs whose events are deleted, and of triggers
}

// Purged is the result of one Purge call.
type Purged struct {
	Events   int   // runs whose events were deleted and that are kept
	Triggers int   // triggers that were deleted
	Next     int64 // After of the next call; 0 if the pass is complete
}

// EraseTrigger permanently deletes a trigger, regardless of its age: the conversation
// with its runs, messages, events, deliveries and idempotency records. A pending
// callback is not sent. If a run has not ended, it returns ErrConflict. Cancel the
// run first. It returns ErrNotFound if the trigger does not exist.
func (s *Service) EraseTrigger(ctx context.Context, triggerID int64) error {
	if err := s.store.EraseTrigger(audited(ctx, "conversation.erase", objectOf("conversation", triggerID), nil), triggerID); err != nil {
		return fmt.Errorf("erase trigger: %w", err)
	}
	s.log.InfoContext(ctx, "trigger erased", "trigger_id", triggerID)
	return nil
}

const (
	purgeInterval = 10 * time.Minute       // between two passes, at most
	purgeRetry    = time.Second            // after the first error; each further error doubles it
	purgePause    = 100 * time.Millisecond // between two calls of a pass; purging is not urgent
	purgeBatch    = 500
)

// purgeLoop purges expired data. Every process runs it; processes do not coordinate.
func (s *Service) purgeLoop(life context.Context) {
	if s.opts.Retention == (Retention{}) {
		return
	}
	wait := time.NewTimer(rand.N(purgeInterval / 10)) // processes that start together do not purge together
	defer wait.Stop()
	var after int64
	retry := purgeRetry
	for {
		select {
		case <-life.Done():
			return
		case <-wait.C:
		}
		var err error
		after, err = s.purge(life, after)
		switch {
		case after == 0:
			wait.Reset(sweepPause(purgeInterval))
		case err != nil:
			wait.Reset(sweepPause(retry))
			retry = min(2*retry, purgeInterval)
			continue
		default:
			wait.Reset(purgePause)
		}
		retry = purgeRetry
	}
}

// purge makes one call of a pass. It returns the position at which the pass
// continues, also after an error, or 0 if the pass is complete.
func (s *Service) purge(life context.Context, after int64) (next int64, _ error) {
	ctx, cancel := context.WithTimeout(life, statementTimeout)
	defer cancel()
	purged, err := s.store.Purge(ctx, Purge{Keep: s.opts.Retention, After: after, Limit: purgeBatch})
	if err != nil {
		if life.Err() == nil {
			s.log.Warn("purge failed", "error", err)
		}
	}
	if purged.Events+purged.Triggers > 0 {
		s.log.Info("purge completed", "triggers", purged.Triggers, "runs_without_events", purged.Events)
	}
	return purged.Next, err
}
