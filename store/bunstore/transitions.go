package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// take gives a locked, queued run to a process. The caller saves the row.
func (t *tx) take(q *queueRow, processID string, token int64, now time.Time) error {
	q.running, q.process, q.token = true, processID, token
	q.batch = 0
	q.attempts++
	q.startedAt = now
	err := t.logDerived(q, now, webtrigger.StartedEvent(q.attempts))
	q.started = q.sequence
	return err
}

// waits announces a run that is queued.
func (t *tx) waits(q *queueRow) error {
	if q.native {
		t.hint.Queued = true
		return nil
	}
	run := RunRef{RunID: q.runID}
	err := t.row(t.ctx, `SELECT run_key, assistant_id FROM {runs} WHERE id = $1`, q.runID).Scan(&run.RunKey, &run.AssistantID)
	t.queued = append(t.queued, run)
	return err
}

// requeue puts a claimed run back in the queue. Events that were derived for the
// attempt are stored before its traces in the row are overwritten.
func (t *tx) requeue(q *queueRow, reason webtrigger.RequeueReason, counted bool, now time.Time) error {
	if err := t.storeStarted(q); err != nil {
		return err
	}
	if err := t.log(q, now, webtrigger.RequeuedEvent(reason)); err != nil {
		return err
	}
	q.running, q.process, q.waitsSince, q.executed = false, "", now, 0
	if !counted {
		q.attempts--
	}
	return errors.Join(t.waits(q), t.save(q))
}

// storeStarted stores the run_started of an attempt whose traces in the row are about to
// be overwritten. Those of a shared conversation are stored already.
func (t *tx) storeStarted(q *queueRow) error {
	if q.started == 0 {
		return nil
	}
	started := webtrigger.Event{ID: q.started, ConversationID: q.conversationID, RunID: q.runID, Sequence: q.started, CreatedAt: q.startedAt}
	q.started = 0
	if q.shared {
		return nil
	}
	event := webtrigger.StartedEvent(q.attempts)
	started.Type, started.Payload = event.Type, event.Payload
	return t.storeEvent(started)
}

// end is the terminal transition of a locked run: the outcome or the recorded stop
// in its place, the messages, the terminal event, the pending callback. The end of a
// FinishRun keeps its token, so that a repeated call finds it. Other ends have 0.
func (t *tx) end(q *queueRow, token int64, outcome webtrigger.Outcome, messages []webtrigger.NewMessage, now time.Time) error {
	outcome = outcome.Under(q.stop)
	first, last, result, err := t.addMessages(q, now, messages, outcome)
	if err != nil {
		return err
	}
	if err := t.logDerived(q, now, outcome.Event()); err != nil {
		return err
	}
	var used, produced sql.NullInt64
	if outcome.Usage != nil {
		used = sql.NullInt64{Int64: outcome.Usage.InputTokens, Valid: true}
		produced = sql.NullInt64{Int64: outcome.Usage.OutputTokens, Valid: true}
	}
	text := sql.NullString{String: outcome.Result, Valid: result > 0}
	_, err = t.exec(t.ctx, `INSERT INTO {ends} (run_id, token, last_sequence, started_sequence, last_message_id, result_message_id,
			input_tokens, output_tokens, completed_at, started_at, attempts, status, status_detail, error_message, result, first_message_id)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`,
		q.runID, token, q.sequence, q.started, last, result, used, produced, t.at(now), t.at(q.startedAt), q.attempts,
		string(outcome.Status), outcome.StatusDetail, outcome.ErrorMessage, text, first)
	if err != nil {
		return err
	}
	if _, err := t.addDelivery(q.runID, 0, now, now); err != nil {
		return err
	}
	if _, err := t.exec(t.ctx, `DELETE FROM {queue} WHERE run_id = $1`, q.runID); err != nil || !q.shared {
		return err
	}
	if _, err := t.exec(t.ctx, `UPDATE {conversations} SET open_runs = open_runs - 1 WHERE id = $1`, q.conversationID); err != nil {
		return err
	}
	return t.free(q.conversationID)
}

// RequestStop implements [webtrigger.RunStore].
func (s *Store) RequestStop(ctx context.Context, runID int64, stop webtrigger.Stop, lease *webtrigger.Lease) (run webtrigger.Run, _ error) {
	err := s.writeOpen(ctx, "request stop", func(t *tx) error {
		if err := t.requestStop(runID, stop, lease); err != nil {
			return err
		}
		var err error
		run, err = t.run(runID)
		return err
	})
	return run, err
}

func (t *tx) requestStop(runID int64, stop webtrigger.Stop, lease *webtrigger.Lease) error {
	q, err := t.lockOpen(runID)
	switch {
	case err == sql.ErrNoRows && lease != nil:
		if _, err := t.run(runID); err != nil {
			return err
		}
		return webtrigger.ErrLeaseLost
	case err == sql.ErrNoRows:
		return nil // ended, or absent: a read decides
	case err != nil:
		return err
	}
	now, err := t.now()
	if err != nil {
		return err
	}
	if lease != nil && !q.held(*lease) {
		return webtrigger.ErrLeaseLost
	}
	if q.stop != nil {
		return nil
	}
	q.stop = &stop
	if err := t.audit(0); err != nil {
		return err
	}
	if stop.Status == webtrigger.RunCancelled {
		if err := t.log(q, now, webtrigger.CancelRequestedEvent(stop)); err != nil {
			return err
		}
	}
	if !q.running {
		return t.end(q, 0, webtrigger.Outcome{}, nil, now)
	}
	t.hint.Stopped = append(t.hint.Stopped, runID)
	return t.save(q)
}

// RequeueRun implements [webtrigger.WorkStore].
func (s *Store) RequeueRun(ctx context.Context, lease webtrigger.Lease, requeue webtrigger.Requeue) (webtrigger.Run, error) {
	return s.release(ctx, "requeue run", lease, requeue.Events, func(t *tx, q *queueRow, now time.Time) error {
		return t.requeue(q, requeue.Reason, false, now)
	})
}

// release stores a batch of events and ends a claim: the run ends by its recorded stop,
// or else by do, which does not end the run.
func (s *Store) release(ctx context.Context, doing string, lease webtrigger.Lease, batch webtrigger.EventBatch,
	do func(t *tx, q *queueRow, now time.Time) error,
) (run webtrigger.Run, _ error) {
	err := s.writeOpen(ctx, doing, func(t *tx) error {
		q, now, err := t.lockHeld(lease)
		if err != nil {
			return err
		}
		if err := t.logBatch(q, now, batch); err != nil {
			return err
		}
		if q.stop != nil {
			err = t.end(q, 0, webtrigger.Outcome{}, nil, now)
		} else {
			err = do(t, q, now)
		}
		if err != nil {
			return err
		}
		run, err = t.run(q.runID)
		return err
	})
	return run, err
}

// claim takes waiting runs.
func (t *tx) claim(claim webtrigger.Claim) ([]webtrigger.ClaimedRun, error) {
	if may, err := t.mayClaim(claim.ProcessID); err != nil {
		return nil, err
	} else if !may {
		return nil, webtrigger.ErrLeaseLost
	}
	waiting, err := t.waiting(claim)
	if err != nil {
		return nil, err
	}
	var claimed []webtrigger.ClaimedRun
	for i, q := range waiting {
		now, err := t.now()
		if err != nil {
			return nil, err
		}
		requeued := q.token != 0
		if err := errors.Join(t.take(q, claim.ProcessID, claim.Token+int64(i), now), t.save(q)); err != nil {
			return nil, err
		}
		taken := webtrigger.ClaimedRun{Lease: webtrigger.Lease{RunID: q.runID, Token: q.token}, Requeued: requeued, Executed: q.executed}
		if taken.Run, err = t.run(q.runID); err != nil {
			if err = t.store.passOver(t.ctx, err); err != nil {
				return nil, err
			}
			continue // the next heartbeat returns it
		}
		if taken.Input, err = t.input(t.ctx, q.runID); err != nil {
			return nil, err
		}
		claimed = append(claimed, taken)
	}
	return claimed, nil
}

// waiting locks the runs that a claim may take: the run that it names, or, on SQLite,
// those whose turn it is.
func (t *tx) waiting(claim webtrigger.Claim) ([]*queueRow, error) {
	if claim.RunID == 0 {
		return t.waitingInTurn(claim)
	}
	q, err := t.waitingOne(claim)
	if q == nil || err != nil {
		return nil, err
	}
	return []*queueRow{q}, nil
}

// append appends a worker's events.
func (t *tx) append(lease webtrigger.Lease, batch webtrigger.EventBatch) error {
	q, now, err := t.lockHeld(lease)
	if err != nil {
		return err
	}
	if err := t.logBatch(q, now, batch); err != nil {
		return err
	}
	return t.save(q)
}

// finish ends a run by its worker's report. If the run has ended under the same
// lease, it returns the run as it ended.
func (t *tx) finish(lease webtrigger.Lease, end webtrigger.Finish) (webtrigger.Run, error) {
	q, now, err := t.lockHeld(lease)
	if err == webtrigger.ErrLeaseLost {
		return t.endedUnder(lease)
	} else if err != nil {
		return webtrigger.Run{}, err
	}
	if err := t.logBatch(q, now, end.Events); err != nil {
		return webtrigger.Run{}, err
	}
	if err := t.end(q, lease.Token, end.Outcome, end.Messages, now); err != nil {
		return webtrigger.Run{}, err
	}
	return t.ended(q.runID)
}

// endedUnder reads a run that has ended under a lease.
func (t *tx) endedUnder(lease webtrigger.Lease) (webtrigger.Run, error) {
	var token int64
	err := t.row(t.ctx, `SELECT token FROM {ends} WHERE run_id = $1`, lease.RunID).Scan(&token)
	if err == sql.ErrNoRows || err == nil && (token == 0 || token != lease.Token) {
		return webtrigger.Run{}, webtrigger.ErrLeaseLost
	} else if err != nil {
		return webtrigger.Run{}, err
	}
	return t.ended(lease.RunID)
}

// ended reads a run that has ended, without its task definition.
func (t *tx) ended(runID int64) (webtrigger.Run, error) {
	return scanSummary(t.row(t.ctx, `SELECT `+stateColumns+`, substr(r.task, 1, 64), e.result FROM `+fromRuns+` WHERE r.id = $1`, runID))
}
