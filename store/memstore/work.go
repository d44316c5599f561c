package memstore

import (
	"context"
	"slices"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// A run that has not ended is in the orders of its state and in no other:
//
//	queued    Store.queued and Store.waiting; enqueue puts it there
//	running   Store.leased; take puts it there
//
// leave takes it out, before it goes to the other state or ends.

// enqueue makes a run wait.
func (s *Store) enqueue(r *run, now time.Time) {
	r.Status = webtrigger.RunQueued
	r.waitsSince = now
	s.queued.add(r)
	s.waiting.add(r)
	if r.bounded {
		s.bounded[r.AssistantID]++
	}
	s.hint.Queued = true
}

// take gives a run that is in no order to a worker.
func (s *Store) take(r *run, d time.Duration, now time.Time) webtrigger.Lease {
	s.lastToken++
	r.token = s.lastToken
	r.batch = 0
	r.expires = now.Add(d)
	r.Status = webtrigger.RunRunning
	r.Attempts++
	r.StartedAt = now
	s.leased.add(r)
	s.log(r, now, webtrigger.StartedEvent(r.Attempts))
	return webtrigger.Lease{RunID: r.ID, Token: r.token}
}

// leave takes an unfinished run out of its orders.
func (s *Store) leave(r *run) {
	if r.Status == webtrigger.RunRunning {
		s.leased.remove(r)
		return
	}
	s.queued.remove(r)
	s.waiting.remove(r)
	if r.bounded {
		if s.bounded[r.AssistantID]--; s.bounded[r.AssistantID] == 0 {
			delete(s.bounded, r.AssistantID)
		}
	}
}

// end is the terminal transition, of every run and whatever ends it: the outcome
// or the recorded stop in its place, the result as a message, the last event,
// the pending callback.
func (s *Store) end(r *run, outcome webtrigger.Outcome, now time.Time) {
	outcome = outcome.Under(r.stop)
	s.leave(r)
	r.Status = outcome.Status
	r.StatusDetail = outcome.StatusDetail
	r.ErrorMessage = outcome.ErrorMessage
	r.Usage = clonePointer(outcome.Usage)
	r.CompletedAt = now
	r.conv.open--
	if outcome.Status == webtrigger.RunCompleted {
		r.Result = outcome.Result
		r.say(now, webtrigger.NewMessage{Role: webtrigger.RoleAssistant, Content: outcome.Result})
	}
	s.log(r, now, outcome.Event())
	if r.CallbackURL != "" {
		s.addDelivery(r, now, now, 0)
	}
}

// held returns the run of a lease that holds, or nil.
func (s *Store) held(lease webtrigger.Lease, now time.Time) *run {
	r := s.runs.get(lease.RunID)
	if r == nil || r.Status != webtrigger.RunRunning || r.token != lease.Token || !now.Before(r.expires) {
		return nil
	}
	return r
}

// ClaimRuns implements [webtrigger.WorkStore]. All runs are the native queue's.
func (s *Store) ClaimRuns(ctx context.Context, claim webtrigger.Claim) ([]webtrigger.ClaimedRun, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	now := s.now()
	var claimed []webtrigger.ClaimedRun
	for len(claimed) < claim.Limit {
		r := s.queued.first()
		if claim.RunID != 0 {
			r = s.runs.get(claim.RunID)
		}
		if r == nil || r.Status != webtrigger.RunQueued {
			break
		}
		s.leave(r)
		lease := s.take(r, claim.Lease, now)
		claimed = append(claimed, webtrigger.ClaimedRun{Run: r.copy(), Input: cloneInput(r.input), Lease: lease})
	}
	return claimed, nil
}

// RenewLeases implements [webtrigger.WorkStore].
func (s *Store) RenewLeases(ctx context.Context, leases []webtrigger.Lease, d time.Duration) ([]webtrigger.Renewal, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	now := s.now()
	renewals := make([]webtrigger.Renewal, len(leases))
	for i, lease := range leases {
		if r := s.held(lease, now); r != nil {
			r.expires = now.Add(d)
			s.leased.moved(r)
			renewals[i] = webtrigger.Renewal{Renewed: true, Stop: clonePointer(r.stop)}
		}
	}
	return renewals, nil
}

// AppendEvents implements [webtrigger.WorkStore].
func (s *Store) AppendEvents(ctx context.Context, lease webtrigger.Lease, batch webtrigger.EventBatch) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	now := s.now()
	r := s.held(lease, now)
	if r == nil {
		return webtrigger.ErrLeaseLost
	}
	before := len(r.conv.events)
	s.logBatch(r, now, batch)
	s.hint = webtrigger.Hint{Events: slices.Clone(r.conv.events[before:])}
	return nil
}

// FinishRun implements [webtrigger.WorkStore].
func (s *Store) FinishRun(ctx context.Context, lease webtrigger.Lease, end webtrigger.Finish) (webtrigger.Run, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.Run{}, err
	}
	defer s.unlock()
	now := s.now()
	r := s.held(lease, now)
	if r == nil {
		return webtrigger.Run{}, webtrigger.ErrLeaseLost
	}
	s.logBatch(r, now, end.Events)
	r.say(now, end.Messages...)
	s.end(r, end.Outcome, now)
	return r.copy(), nil
}

// RequeueRun implements [webtrigger.WorkStore].
func (s *Store) RequeueRun(ctx context.Context, lease webtrigger.Lease, batch webtrigger.EventBatch) (webtrigger.Run, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.Run{}, err
	}
	defer s.unlock()
	now := s.now()
	r := s.held(lease, now)
	if r == nil {
		return webtrigger.Run{}, webtrigger.ErrLeaseLost
	}
	s.logBatch(r, now, batch)
	if r.stop != nil {
		s.end(r, webtrigger.Outcome{}, now)
		return r.copy(), nil
	}
	r.Attempts--
	s.requeue(r, webtrigger.RequeueShutdown, now)
	return r.copy(), nil
}

// requeue makes a taken run wait again.
func (s *Store) requeue(r *run, reason webtrigger.RequeueReason, now time.Time) {
	s.leave(r)
	s.log(r, now, webtrigger.RequeuedEvent(reason))
	s.enqueue(r, now)
}

// SweepRuns implements [webtrigger.WorkStore]. The quick look finds every run,
// so an audit finds no more.
func (s *Store) SweepRuns(ctx context.Context, sweep webtrigger.Sweep) ([]webtrigger.Run, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	now := s.now()
	var swept []webtrigger.Run
	for len(swept) < sweep.Limit {
		r := s.overdue(sweep.MaxQueueTime, now)
		if r == nil {
			break
		}
		switch {
		case r.Status == webtrigger.RunQueued:
			s.end(r, webtrigger.QueueTimeout(), now)
		case r.stop == nil && r.Attempts < sweep.MaxAttempts:
			s.requeue(r, webtrigger.RequeueHeartbeat, now)
		default:
			s.end(r, webtrigger.HeartbeatTimeout(), now)
		}
		swept = append(swept, r.copy())
	}
	return swept, nil
}

// overdue returns the run whose time has been over for the longest, or nil: that
// of its lease, or that which it may wait.
func (s *Store) overdue(maxQueueTime time.Duration, now time.Time) *run {
	lost, late := s.leased.first(), s.waiting.first()
	if lost != nil && now.Before(lost.expires) {
		lost = nil
	}
	if late != nil && (maxQueueTime == 0 || now.Sub(late.waitsSince) <= maxQueueTime) {
		late = nil
	}
	if lost == nil || late != nil && late.waitsSince.Add(maxQueueTime).Before(lost.expires) {
		return late
	}
	return lost
}

// QueueState implements [webtrigger.WorkStore].
func (s *Store) QueueState(ctx context.Context) (webtrigger.QueueState, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.QueueState{}, err
	}
	defer s.unlock()
	state := webtrigger.QueueState{Queued: len(s.queued.heap), Running: len(s.leased.heap)}
	if oldest := s.waiting.first(); oldest != nil {
		state.OldestAge = s.now().Sub(oldest.waitsSince)
	}
	return state, nil
}
