package bunstore

import (
	"context"
	"database/sql"
	"time"

	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
)

// tx is one transaction and the transitions of runs in it, one run at a time:
// all of them on SQLite, the rare ones and those in a host's transaction on
// Postgres. It locks rows in the order idempotency key, queue, conversation,
// delivery, run, each kind by ascending id. Until a run ends, who holds its row in
// the queue is the only one to write it.
type tx struct {
	session
	ctx    context.Context
	time   time.Time       // SQLite: of the whole transaction
	hint   webtrigger.Hint // of what was done
	queued []RunRef        // for Options.Enqueue
}

// now is the time by the database's clock. What is asked after a row was locked
// is not earlier than what whoever had it locked before was told.
func (t *tx) now() (time.Time, error) {
	if !t.store.postgres {
		return t.time, nil
	}
	var now time.Time
	err := t.row(t.ctx, `SELECT clock_timestamp()`).Scan(stamp{&now})
	return now, err
}

// at is a time as an argument.
func (t *tx) at(at time.Time) any { return t.store.at(at) }

// write does a transaction. An error of op rolls it back; a commit makes it
// visible, and then its hint is shared.
func (s *Store) write(ctx context.Context, doing string, op func(t *tx) error) error {
	if err := ended(ctx); err != nil {
		return err
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	if s.postgres {
		return s.wrap(doing, again(ctx, func() error { return s.writePostgres(ctx, op) }))
	}
	return s.wrap(doing, s.writeSQLite(ctx, op))
}

func (s *Store) writePostgres(ctx context.Context, op func(t *tx) error) error {
	var hint webtrigger.Hint
	err := s.lender.transact(ctx, func(bunTx bun.Tx) error {
		t := &tx{session: s.within(bunTx.Tx), ctx: ctx}
		if err := op(t); err != nil {
			return err
		}
		hint = t.hint
		return s.handOver(ctx, t, bunTx)
	})
	if err == nil {
		s.share(hint)
	}
	return err
}

func (s *Store) writeSQLite(ctx context.Context, op func(t *tx) error) error {
	var hint webtrigger.Hint
	err := s.writer.transact(ctx, s, func(on session) error {
		t := &tx{session: on, ctx: ctx, time: s.now()}
		err := op(t)
		hint = t.hint
		return err
	})
	if err == nil {
		s.share(hint)
	}
	return err
}

// handOver gives the runs that a transaction has queued to the host's engine.
func (s *Store) handOver(ctx context.Context, t *tx, hostTx bun.Tx) error {
	if len(t.queued) == 0 || s.opts.Enqueue == nil {
		return nil
	}
	return s.opts.Enqueue(ctx, hostTx, t.queued)
}

// queueRow is an unfinished run's row in the queue.
type queueRow struct {
	runID, conversationID int64
	native, leased        bool
	token, batch          int64
	attempts              int
	sequence              int64 // of the run's last event
	waitsSince            time.Time
	startedAt, expiresAt  time.Time
	stop                  *webtrigger.Stop
}

const queueColumns = `run_id, conversation_id, native, leased, token, batch, attempts, last_sequence,
	waits_since, started_at, expires_at, stop_status, stop_detail, stop_error`

func scanQueueRow(row scanner) (*queueRow, error) {
	var q queueRow
	var status, detail, failure sql.NullString
	err := row.Scan(&q.runID, &q.conversationID, &q.native, &q.leased, &q.token, &q.batch, &q.attempts, &q.sequence,
		stamp{&q.waitsSince}, stamp{&q.startedAt}, stamp{&q.expiresAt}, &status, &detail, &failure)
	if status.Valid {
		q.stop = &webtrigger.Stop{Status: webtrigger.RunStatus(status.String), StatusDetail: detail.String, ErrorMessage: failure.String}
	}
	return &q, err
}

// lock locks an unfinished run. sql.ErrNoRows says that it has ended, or is none.
func (t *tx) lock(runID int64) (*queueRow, error) {
	return scanQueueRow(t.row(t.ctx, `SELECT `+queueColumns+` FROM {queue} WHERE run_id = $1 {for update}`, runID))
}

// lockHeld locks the run of a lease and tells the time; ErrLeaseLost when the
// lease does not hold.
func (t *tx) lockHeld(lease webtrigger.Lease) (*queueRow, time.Time, error) {
	q, err := t.lock(lease.RunID)
	if err == sql.ErrNoRows {
		return nil, time.Time{}, webtrigger.ErrLeaseLost
	} else if err != nil {
		return nil, time.Time{}, err
	}
	now, err := t.now()
	if err == nil && (!q.leased || q.token != lease.Token || !now.Before(q.expiresAt)) {
		err = webtrigger.ErrLeaseLost
	}
	return q, now, err
}

// save writes back what a transition changed of a locked row.
func (t *tx) save(q *queueRow) error {
	var status, detail, failure any
	if q.stop != nil {
		status, detail, failure = string(q.stop.Status), q.stop.StatusDetail, q.stop.ErrorMessage
	}
	_, err := t.exec(t.ctx, `UPDATE {queue} SET leased = $2, token = $3, batch = $4, attempts = $5, last_sequence = $6,
		waits_since = $7, started_at = $8, expires_at = $9, stop_status = $10, stop_detail = $11, stop_error = $12
		WHERE run_id = $1`,
		q.runID, q.leased, q.token, q.batch, q.attempts, q.sequence,
		t.at(q.waitsSince), t.at(q.startedAt), t.at(q.expiresAt), status, detail, failure)
	return err
}

// run reads a run as this transaction sees it.
func (t *tx) run(runID int64) (webtrigger.Run, error) {
	return scanRun(t.row(t.ctx, `SELECT `+runColumns+` FROM `+fromRuns+` WHERE r.id = $1`, runID))
}

// log appends events to a locked run and its conversation.
func (t *tx) log(q *queueRow, now time.Time, events ...webtrigger.NewEvent) error {
	if len(events) == 0 {
		return nil
	}
	var last int64
	err := t.row(t.ctx, `UPDATE {conversations} SET last_event_id = last_event_id + $2 WHERE id = $1 RETURNING last_event_id`,
		q.conversationID, len(events)).Scan(&last)
	if err != nil {
		return err
	}
	for i, e := range events {
		q.sequence++
		_, err := t.exec(t.ctx, `INSERT INTO {events} (conversation_id, id, run_id, sequence, type, payload, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			q.conversationID, last-int64(len(events)-1-i), q.runID, q.sequence, string(e.Type), string(e.Payload), t.at(now))
		if err != nil {
			return err
		}
	}
	t.moved(q.conversationID)
	return nil
}

// logBatch appends a worker's events unless they stand already.
func (t *tx) logBatch(q *queueRow, now time.Time, batch webtrigger.EventBatch) error {
	if batch.Number <= q.batch {
		return nil
	}
	q.batch = batch.Number
	return t.log(q, now, batch.Events...)
}

// say appends messages to a run's conversation and returns the last one's id.
func (t *tx) say(conversationID, runID int64, now time.Time, messages ...webtrigger.NewMessage) (last int64, err error) {
	if len(messages) == 0 {
		return 0, nil
	}
	err = t.row(t.ctx, `UPDATE {conversations} SET last_message_id = last_message_id + $2 WHERE id = $1 RETURNING last_message_id`,
		conversationID, len(messages)).Scan(&last)
	for i, m := range messages {
		if err != nil {
			return 0, err
		}
		_, err = t.exec(t.ctx, `INSERT INTO {messages} (conversation_id, id, run_id, role, content, created_at)
			VALUES ($1, $2, $3, $4, $5, $6)`,
			conversationID, last-int64(len(messages)-1-i), runID, string(m.Role), m.Content, t.at(now))
	}
	return last, err
}

// moved notes that a conversation has new events.
func (t *tx) moved(conversationID int64) {
	if n := len(t.hint.Conversations); n == 0 || t.hint.Conversations[n-1] != conversationID {
		t.hint.Conversations = append(t.hint.Conversations, conversationID)
	}
}
