package memstore

import (
	"context"
	"slices"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/internal/retention"
)

// stretch is how many runs one call of Purge looks at.
const stretch = 1000

// Purge implements [webtrigger.RetentionStore]. The places of purged
// items stay, a few bytes each, so that no id is used again.
func (s *Store) Purge(ctx context.Context, purge webtrigger.Purge) (webtrigger.Purged, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.Purged{}, err
	}
	defer s.unlock()
	now := s.now()
	done := webtrigger.Purged{AuditEntries: s.purgeAudit(purge, now)}
	if retention.Shortest(purge.Keep) == 0 {
		return done, nil
	}
	last := min(purge.After+stretch, int64(len(s.runs)))
	for id := purge.After + 1; id <= last; id++ {
		if done.Events == purge.Limit || done.Triggers == purge.Limit {
			done.Next = id - 1
			return done, nil
		}
		r := s.runs.get(id)
		switch {
		case r == nil:
		case r.conv.Key != "" && r.outlived(purge.Keep, now):
			s.purgeRun(r)
			done.Triggers++
		case r.conv.Key == "" && s.outlived(r.conv, purge.Keep, now):
			s.erase(r.conv)
			done.Triggers++
		case r.older(purge.Keep.Events, now) && r.purged < int64(len(r.events)):
			r.purge(int64(len(r.events)))
			done.Events++
		}
	}
	if last < int64(len(s.runs)) {
		done.Next = last
	}
	return done, nil
}

// RecordPass implements [webtrigger.RetentionStore].
func (s *Store) RecordPass(ctx context.Context, deleted webtrigger.Purged) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	s.report.PassedAt = s.now()
	if deleted != (webtrigger.Purged{}) {
		s.report.Deleted, s.report.DeletedAt = deleted, s.report.PassedAt
	}
	return nil
}

// DataState implements [webtrigger.RetentionStore]. It looks at
// each run and delivery.
func (s *Store) DataState(ctx context.Context) (webtrigger.DataState, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.DataState{}, err
	}
	defer s.unlock()
	state := s.report
	for r := range s.runs.newestBefore(0) {
		state.Runs.Count++
		state.OldestRun = r.CreatedAt
	}
	for range s.deliveries.newestBefore(0) {
		state.Deliveries.Count++
	}
	state.AuditEntries.Count = int64(len(s.entries))
	return state, nil
}

// EraseTrigger implements [webtrigger.RetentionStore].
func (s *Store) EraseTrigger(ctx context.Context, conversationID int64) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	conv := s.conversations.get(conversationID)
	if conv == nil {
		return webtrigger.ErrNotFound
	}
	if len(conv.open) > 0 {
		return webtrigger.ErrConflict
	}
	s.erase(conv)
	s.audit(ctx, 0)
	return nil
}

// older reports whether a run ended at least that long ago; 0: no run has.
func (r *run) older(age time.Duration, now time.Time) bool {
	return age > 0 && r.Status.Terminal() && !now.Before(r.CompletedAt.Add(age))
}

// outlived reports whether a trigger may go whole.
func (s *Store) outlived(conv *conversation, keep webtrigger.Retention, now time.Time) bool {
	return !slices.ContainsFunc(conv.runs, func(r *run) bool { return !r.outlived(keep, now) })
}

// outlived reports whether a run is past its retention, and its delivery is not open.
func (r *run) outlived(keep webtrigger.Retention, now time.Time) bool {
	return r.older(retention.Age(keep, r.Status), now) && r.openDelivery() == nil
}

// purgeRun deletes one ended run of a conversation, and with the last one the
// conversation.
func (s *Store) purgeRun(r *run) {
	conv := r.conv
	if len(conv.runs) == 1 {
		s.erase(conv)
		return
	}
	r.purge(int64(len(r.events)))
	for i := range conv.messages {
		if conv.messages[i].RunID == r.ID {
			conv.messages[i] = webtrigger.Message{}
		}
	}
	conv.runs = slices.DeleteFunc(conv.runs, func(o *run) bool { return o == r })
	s.eraseRun(r)
}

// erase deletes a conversation whose runs have ended, with all its data.
func (s *Store) erase(conv *conversation) {
	for _, r := range conv.runs {
		s.eraseRun(r)
	}
	if conv.Key != "" {
		delete(s.lanes, laneKey{conv.AssistantID, conv.Key})
	}
	s.conversations[conv.ID-1] = nil
}

// eraseRun deletes a run apart from its conversation.
func (s *Store) eraseRun(r *run) {
	for _, d := range r.deliveries {
		switch d.State {
		case webtrigger.DeliveryPending:
			s.outbox.remove(d)
		case webtrigger.DeliverySending:
			s.sending.remove(d)
		}
		s.deliveries[d.ID-1] = nil
	}
	if r.record != nil {
		s.forget(r.record)
	}
	for _, input := range r.inputs {
		s.inputs[input.ID-1] = nil
	}
	delete(s.runOf, r.Key)
	s.runs[r.ID-1] = nil
}

// PurgeEvents deletes the events of a run up to the sequence through and returns their
// number, as Purge does for old runs. It returns ErrNotFound if the run does not exist.
func (s *Store) PurgeEvents(ctx context.Context, runID, through int64) (int, error) {
	if err := s.lock(ctx); err != nil {
		return 0, err
	}
	defer s.unlock()
	r := s.runs.get(runID)
	if r == nil {
		return 0, webtrigger.ErrNotFound
	}
	return r.purge(through), nil
}

// purge deletes the run's events up to a sequence.
func (r *run) purge(through int64) (n int) {
	for through = min(through, int64(len(r.events))); r.purged < through; r.purged++ {
		id := r.events[r.purged]
		r.conv.purged = max(r.conv.purged, id)
		r.conv.events[id-1] = webtrigger.Event{}
		n++
	}
	return n
}

// isPurged reports whether an event's place is all that is left of it.
func isPurged(e webtrigger.Event) bool { return e.ID == 0 }

// purgedAfter returns EventPage.PurgedTo for all runs.
func (c *conversation) purgedAfter(query webtrigger.EventQuery) int64 {
	if c.purged > query.AfterID {
		return c.purged
	}
	return 0
}

// purgedAfter returns EventPage.PurgedTo for one run.
func (r *run) purgedAfter(query webtrigger.EventQuery) int64 {
	if r.purged == 0 || r.purged <= query.AfterSequence || r.events[r.purged-1] <= query.AfterID {
		return 0
	}
	return r.events[r.purged-1]
}
