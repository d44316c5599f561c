package memstore

import (
	"context"
	"slices"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// A run that has not ended is in the orders of its state and in no other:
//
//	queued    its backlog and Store.waiting; enqueue puts it there, or free
//	behind    Store.behind; enqueue puts it there
//	running   process.claims; take puts it there
//	waiting   Store.awaiting; AwaitInput puts it there
//
// leave takes it out, before it goes to the other state or ends.

// enqueue makes a run wait.
func (s *Store) enqueue(r *run, now time.Time) {
	r.Status = webtrigger.RunQueued
	r.waitsSince, r.waitsFrom = s.elapsed, now
	if r.bounded {
		s.bounded[r.AssistantID]++
	}
	if r.Behind {
		s.behind.add(r)
		return
	}
	s.queue(r)
	s.waiting.add(r)
	s.hint.Queued = true
}

// take gives a run that is in no order to a process.
func (s *Store) take(r *run, p *process, token int64, now time.Time) webtrigger.Lease {
	r.token = token
	r.batch = 0
	r.process = p
	p.claims[r.ID] = r
	s.running++
	s.starts(r)
	r.Status = webtrigger.RunRunning
	r.Attempts++
	r.StartedAt = now
	s.log(r, now, webtrigger.StartedEvent(r.Attempts))
	return webtrigger.Lease{RunID: r.ID, Token: token}
}

// leave takes an unfinished run out of its orders.
func (s *Store) leave(r *run) {
	if r.Status == webtrigger.RunRunning {
		delete(r.process.claims, r.ID)
		r.process = nil
		s.running--
		s.stops(r)
		return
	}
	if r.Status == webtrigger.RunWaiting {
		s.awaiting.remove(r)
		return
	}
	if r.Behind {
		s.behind.remove(r)
		r.Behind = false
	} else {
		s.unqueue(r)
		s.waiting.remove(r)
	}
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
	r.conv.open = slices.DeleteFunc(r.conv.open, func(o *run) bool { return o == r })
	if outcome.Status == webtrigger.RunCompleted {
		r.Result = outcome.Result
		r.addMessages(now, webtrigger.NewMessage{Role: webtrigger.RoleAssistant, Content: outcome.Result})
	}
	s.log(r, now, outcome.Event())
	if r.CallbackURL != "" {
		s.addDelivery(r, now, 0, 0)
	}
	s.free(r.conv)
}

// held returns the run of a lease that is held, or nil.
func (s *Store) held(lease webtrigger.Lease) *run {
	r := s.runs.get(lease.RunID)
	if r == nil || r.Status != webtrigger.RunRunning || r.token != lease.Token {
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
	p := s.alive(claim.ProcessID)
	if p == nil {
		return nil, webtrigger.ErrLeaseLost
	}
	now := s.now()
	var claimed []webtrigger.ClaimedRun
	for r := range s.claimable(claim) {
		s.leave(r)
		requeued := r.token != 0
		lease := s.take(r, p, claim.Token+int64(len(claimed)), now)
		claimed = append(claimed, webtrigger.ClaimedRun{Run: r.copy(), Input: cloneInput(r.input), Lease: lease, Requeued: requeued, Executed: r.executed})
		if len(claimed) == claim.Limit {
			break
		}
	}
	return claimed, nil
}

// AppendEvents implements [webtrigger.WorkStore].
func (s *Store) AppendEvents(ctx context.Context, lease webtrigger.Lease, batch webtrigger.EventBatch) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	now := s.now()
	r := s.held(lease)
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
	r := s.held(lease)
	if r == nil {
		if r = s.runs.get(lease.RunID); r != nil && r.finished != 0 && r.finished == lease.Token {
			return r.ended(), nil
		}
		return webtrigger.Run{}, webtrigger.ErrLeaseLost
	}
	s.logBatch(r, now, end.Events)
	r.addMessages(now, end.Messages...)
	s.end(r, end.Outcome, now)
	r.finished = lease.Token
	return r.ended(), nil
}

// RequeueRun implements [webtrigger.WorkStore].
func (s *Store) RequeueRun(ctx context.Context, lease webtrigger.Lease, requeue webtrigger.Requeue) (webtrigger.Run, error) {
	return s.release(ctx, lease, requeue.Events, func(r *run, now time.Time) {
		r.Attempts--
		s.requeue(r, requeue.Reason, now)
	})
}

// release stores a batch of events and ends a claim: the run ends by its recorded stop,
// or else by do, which does not end the run.
func (s *Store) release(ctx context.Context, lease webtrigger.Lease, batch webtrigger.EventBatch, do func(r *run, now time.Time)) (webtrigger.Run, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.Run{}, err
	}
	defer s.unlock()
	now := s.now()
	r := s.held(lease)
	if r == nil {
		return webtrigger.Run{}, webtrigger.ErrLeaseLost
	}
	s.logBatch(r, now, batch)
	if r.stop != nil {
		s.end(r, webtrigger.Outcome{}, now)
	} else {
		do(r, now)
	}
	return r.copy(), nil
}

// requeue makes a taken run wait again.
func (s *Store) requeue(r *run, reason webtrigger.RequeueReason, now time.Time) {
	s.leave(r)
	r.executed = 0
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
	me := s.alive(sweep.ProcessID)
	s.mark(me)
	var swept []webtrigger.Run
	for _, r := range s.stranded() {
		if len(swept) == sweep.Limit {
			return swept, nil
		}
		if r.stop == nil && r.Attempts < r.process.MaxAttempts {
			s.requeue(r, webtrigger.RequeueHeartbeat, now)
		} else {
			s.end(r, webtrigger.HeartbeatTimeout(), now)
		}
		swept = append(swept, r.copy())
	}
	swept = append(swept, s.sweepInputs(sweep.Limit-len(swept), now)...)
	if sweep.MaxQueueTime == 0 || me == nil || s.elapsed >= me.expires {
		return swept, nil
	}
	for r := s.longestQueued(); r != nil && len(swept) < sweep.Limit && s.elapsed-r.waitsSince > sweep.MaxQueueTime; r = s.longestQueued() {
		s.end(r, webtrigger.QueueTimeout(), now)
		swept = append(swept, r.copy())
	}
	return swept, nil
}

// longestQueued returns the run that has been queued for the longest time, or nil.
func (s *Store) longestQueued() *run {
	r, behind := s.waiting.first(), s.behind.first()
	if r == nil || behind != nil && s.waiting.before(behind, r) {
		return behind
	}
	return r
}

// QueueState implements [webtrigger.WorkStore].
func (s *Store) QueueState(ctx context.Context) (webtrigger.QueueState, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.QueueState{}, err
	}
	defer s.unlock()
	state := webtrigger.QueueState{Queued: len(s.waiting.heap) + len(s.behind.heap), Running: s.running, Waiting: len(s.awaiting.heap)}
	if oldest := s.waiting.first(); oldest != nil {
		state.OldestAge = s.elapsed - oldest.waitsSince
	}
	return state, nil
}
