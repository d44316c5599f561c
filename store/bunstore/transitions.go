package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// firstToken is the fencing token of a run that was never taken. Each taking
// counts it up: tokens rise within a run, and no two runs share one in a million
// takings each.
func firstToken(runID int64) int64 { return runID << 20 }

// take gives a locked, waiting run to a worker. The caller saves the row.
func (t *tx) take(q *queueRow, worker string, lease time.Duration, now time.Time) error {
	q.leased = true
	q.token++
	q.batch = 0
	q.attempts++
	q.startedAt, q.expiresAt = now, now.Add(lease)
	if err := t.log(q, now, webtrigger.StartedEvent(q.attempts)); err != nil {
		return err
	}
	_, err := t.exec(t.ctx, `UPDATE {queue} SET worker = $2 WHERE run_id = $1`, q.runID, worker)
	return err
}

// enqueue makes a locked run wait. The caller saves the row.
func (t *tx) enqueue(q *queueRow, now time.Time) error {
	q.leased = false
	q.waitsSince = now
	return t.waits(q.runID, q.native)
}

// waits tells of a run that waits.
func (t *tx) waits(runID int64, native bool) error {
	if native {
		t.hint.Queued = true
		return nil
	}
	run := RunRef{RunID: runID}
	err := t.row(t.ctx, `SELECT run_key, assistant_id FROM {runs} WHERE id = $1`, runID).Scan(&run.RunKey, &run.AssistantID)
	t.queued = append(t.queued, run)
	return err
}

// requeue makes a taken run wait again.
func (t *tx) requeue(q *queueRow, reason webtrigger.RequeueReason, now time.Time) error {
	return errors.Join(
		t.log(q, now, webtrigger.RequeuedEvent(reason)),
		t.enqueue(q, now),
		t.save(q),
	)
}

// end is the terminal transition of a locked run: the outcome or the recorded
// stop in its place, the messages and the result, the last event, the owed
// callback.
func (t *tx) end(q *queueRow, outcome webtrigger.Outcome, messages []webtrigger.NewMessage, now time.Time) error {
	outcome = outcome.Under(q.stop)
	completed := outcome.Status == webtrigger.RunCompleted
	if completed {
		messages = append(messages[:len(messages):len(messages)],
			webtrigger.NewMessage{Role: webtrigger.RoleAssistant, Content: outcome.Result})
	}
	last, err := t.say(q.conversationID, q.runID, now, messages...)
	if err != nil {
		return err
	}
	result := sql.NullInt64{Int64: last, Valid: completed}
	var used, produced sql.NullInt64
	if outcome.Usage != nil {
		used = sql.NullInt64{Int64: outcome.Usage.InputTokens, Valid: true}
		produced = sql.NullInt64{Int64: outcome.Usage.OutputTokens, Valid: true}
	}
	var callback string
	err = t.row(t.ctx, `UPDATE {runs} SET status = $2, status_detail = $3, error_message = $4, input_tokens = $5, output_tokens = $6,
		attempts = $7, started_at = $8, completed_at = $9, result_message_id = $10 WHERE id = $1 RETURNING callback_url`,
		q.runID, string(outcome.Status), outcome.StatusDetail, outcome.ErrorMessage, used, produced,
		q.attempts, t.at(q.startedAt), t.at(now), result).Scan(&callback)
	if err != nil {
		return err
	}
	if !completed {
		if _, err := t.exec(t.ctx, `INSERT INTO {unsuccessful} (status, run_id) VALUES ($1, $2)`, string(outcome.Status), q.runID); err != nil {
			return err
		}
	}
	if err := t.log(q, now, outcome.Event()); err != nil {
		return err
	}
	if _, err := t.exec(t.ctx, `UPDATE {conversations} SET open_runs = open_runs - 1 WHERE id = $1`, q.conversationID); err != nil {
		return err
	}
	if callback != "" {
		if _, err := t.owe(q.runID, 0, now, now); err != nil {
			return err
		}
	}
	_, err = t.exec(t.ctx, `DELETE FROM {queue} WHERE run_id = $1`, q.runID)
	return err
}

// RequestStop implements [webtrigger.RunStore].
func (s *Store) RequestStop(ctx context.Context, runID int64, stop webtrigger.Stop, lease *webtrigger.Lease) (run webtrigger.Run, _ error) {
	err := s.write(ctx, "request stop", func(t *tx) error {
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
	q, err := t.lock(runID)
	switch {
	case err == sql.ErrNoRows && lease != nil:
		if _, err := t.run(runID); err != nil {
			return err
		}
		return webtrigger.ErrLeaseLost
	case err == sql.ErrNoRows:
		return nil // ended, or absent: reading it tells
	case err != nil:
		return err
	}
	now, err := t.now()
	if err != nil {
		return err
	}
	if lease != nil && (lease.RunID != runID || !q.leased || q.token != lease.Token || !now.Before(q.expiresAt)) {
		return webtrigger.ErrLeaseLost
	}
	if q.stop != nil {
		return nil
	}
	q.stop = &stop
	if stop.Status == webtrigger.RunCancelled {
		if err := t.log(q, now, webtrigger.CancelRequestedEvent(stop)); err != nil {
			return err
		}
	}
	if !q.leased {
		return t.end(q, webtrigger.Outcome{}, nil, now)
	}
	t.hint.Stopped = append(t.hint.Stopped, runID)
	return t.save(q)
}

// RequeueRun implements [webtrigger.WorkStore].
func (s *Store) RequeueRun(ctx context.Context, lease webtrigger.Lease, batch webtrigger.EventBatch) (run webtrigger.Run, _ error) {
	err := s.write(ctx, "requeue run", func(t *tx) error {
		q, now, err := t.lockHeld(lease)
		if err != nil {
			return err
		}
		if err := t.logBatch(q, now, batch); err != nil {
			return err
		}
		if q.stop != nil {
			err = t.end(q, webtrigger.Outcome{}, nil, now)
		} else {
			q.attempts--
			err = t.requeue(q, webtrigger.RequeueShutdown, now)
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
	waiting, err := t.waiting(claim)
	if err != nil {
		return nil, err
	}
	var claimed []webtrigger.ClaimedRun
	for _, q := range waiting {
		now, err := t.now()
		if err != nil {
			return nil, err
		}
		if err := errors.Join(t.take(q, claim.Worker, claim.Lease, now), t.save(q)); err != nil {
			return nil, err
		}
		taken := webtrigger.ClaimedRun{Lease: webtrigger.Lease{RunID: q.runID, Token: q.token}}
		if taken.Run, err = t.run(q.runID); err != nil {
			return nil, err
		}
		if taken.Input, err = t.input(t.ctx, q.runID); err != nil {
			return nil, err
		}
		claimed = append(claimed, taken)
	}
	return claimed, nil
}

// waiting locks the runs that a claim may take.
func (t *tx) waiting(claim webtrigger.Claim) ([]*queueRow, error) {
	if claim.RunID != 0 {
		rows, err := t.rows(t.ctx, `SELECT `+queueColumns+` FROM {queue}
			WHERE run_id = $1 AND NOT leased {for update}`, claim.RunID)
		return collect(rows, err, scanQueueRow)
	}
	rows, err := t.rows(t.ctx, `SELECT `+queueColumns+` FROM {queue}
		WHERE NOT leased AND native ORDER BY run_id LIMIT $1 {skip locked}`, claim.Limit)
	return collect(rows, err, scanQueueRow)
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

// finish ends a run by its worker's report.
func (t *tx) finish(lease webtrigger.Lease, end webtrigger.Finish) (webtrigger.Run, error) {
	q, now, err := t.lockHeld(lease)
	if err != nil {
		return webtrigger.Run{}, err
	}
	if err := t.logBatch(q, now, end.Events); err != nil {
		return webtrigger.Run{}, err
	}
	if err := t.end(q, end.Outcome, end.Messages, now); err != nil {
		return webtrigger.Run{}, err
	}
	return t.run(q.runID)
}
