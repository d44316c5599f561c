package bunstore

import (
	"database/sql"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// The forms of a lock: wait for the row, or leave it out while another transaction has it.
const (
	forUpdate  = ` {for update}`
	skipLocked = ` {skip locked}`
)

// queueRow is an open run's row in the queue.
type queueRow struct {
	runID, conversationID int64
	native, shared        bool // shared: the conversation has a row of its own
	running               bool // else queued or waiting
	waiting               bool // for input
	behind                bool // queued, and not the head of its lane
	token, batch          int64
	attempts              int
	sequence              int64 // of the run's last event
	started               int64 // sequence of the last run_started; 0: none since the run was queued
	waitsSince            time.Time
	startedAt             time.Time
	process               string        // while running
	wakeAt                time.Time     // while waiting: when its request expires
	executed              time.Duration // executing time before it waited
	stop                  *webtrigger.Stop
}

const queueColumns = `run_id, conversation_id, native, shared, state = 'r', state = 'b', state = 'w', token, batch, attempts, last_sequence, started_sequence,
	waits_since, started_at, coalesce(process_id, ''), wake_at, executed_us, stop_status, stop_detail, stop_error`

func scanQueueRow(row scanner) (*queueRow, error) {
	var q queueRow
	var status, detail, failure sql.NullString
	var executed int64
	err := row.Scan(&q.runID, &q.conversationID, &q.native, &q.shared, &q.running, &q.behind, &q.waiting, &q.token, &q.batch, &q.attempts, &q.sequence, &q.started,
		stamp{&q.waitsSince}, stamp{&q.startedAt}, &q.process, stamp{&q.wakeAt}, &executed,
		&status, &detail, &failure)
	q.executed = time.Duration(executed) * time.Microsecond
	q.stop = stopOf(status, detail, failure)
	return &q, err
}

// stopOf returns a recorded stop. NULL means that no stop is recorded.
func stopOf(status, detail, failure sql.NullString) *webtrigger.Stop {
	if !status.Valid {
		return nil
	}
	return &webtrigger.Stop{Status: webtrigger.RunStatus(status.String), StatusDetail: detail.String, ErrorMessage: failure.String}
}

// lock locks an open run. It returns sql.ErrNoRows if the run has ended or is absent,
// or if the lock clause how skips it.
//
// A run of a single conversation is locked by its queue row alone. If the row is
// shared, the conversation is locked first: shared never becomes false again.
func (t *tx) lock(runID int64, how string) (*queueRow, error) {
	if !t.store.postgres {
		return scanQueueRow(t.row(t.ctx, `SELECT `+queueColumns+` FROM {queue} WHERE run_id = $1`, runID))
	}
	q, err := scanQueueRow(t.row(t.ctx, `SELECT `+queueColumns+` FROM {queue} WHERE run_id = $1 AND NOT shared`+how, runID))
	if err != sql.ErrNoRows {
		return q, err
	}
	var conversationID int64
	err = t.row(t.ctx, `SELECT conversation_id FROM {queue} WHERE run_id = $1 AND shared`, runID).Scan(&conversationID)
	if err != nil {
		return nil, err
	}
	err = t.row(t.ctx, `SELECT id FROM {conversations} WHERE id = $1`+how, conversationID).Scan(&conversationID)
	if err != nil {
		return nil, err
	}
	return scanQueueRow(t.row(t.ctx, `SELECT `+queueColumns+` FROM {queue} WHERE run_id = $1`+how, runID))
}

// lockHeld locks the run of a lease and reads the time. It returns ErrLeaseLost if
// the lease is not held.
func (t *tx) lockHeld(lease webtrigger.Lease) (*queueRow, time.Time, error) {
	q, err := t.lockOpen(lease.RunID)
	if err == sql.ErrNoRows {
		return nil, time.Time{}, webtrigger.ErrLeaseLost
	} else if err != nil {
		return nil, time.Time{}, err
	}
	now, err := t.now()
	if err == nil && !q.held(lease) {
		err = webtrigger.ErrLeaseLost
	}
	return q, now, err
}

// held reports whether a lease of the run is held. That the process has expired does
// not matter.
func (q *queueRow) held(lease webtrigger.Lease) bool {
	return q.runID == lease.RunID && q.running && q.token == lease.Token
}

// state is the column of that name.
func (q *queueRow) state() string {
	switch {
	case q.running:
		return "r"
	case q.behind:
		return "b"
	case q.waiting:
		return "w"
	}
	return "q"
}

// save writes back what a transition changed of a locked row.
func (t *tx) save(q *queueRow) error {
	var status, detail, failure any
	if q.stop != nil {
		status, detail, failure = string(q.stop.Status), q.stop.StatusDetail, q.stop.ErrorMessage
	}
	_, err := t.exec(t.ctx, `UPDATE {queue} SET state = CASE $2 WHEN 'r' THEN 'r' WHEN 'b' THEN 'b' WHEN 'w' THEN 'w' ELSE 'q' END, token = $3, batch = $4, attempts = $5,
		last_sequence = $6, started_sequence = $7, waits_since = $8, started_at = $9, process_id = $10,
		stop_status = $11, stop_detail = $12, stop_error = $13, wake_at = $14, executed_us = $15 WHERE run_id = $1`,
		q.runID, q.state(), q.token, q.batch, q.attempts,
		q.sequence, q.started, t.at(q.waitsSince), t.at(q.startedAt), optionalText(q.process),
		status, detail, failure, t.at(q.wakeAt), q.executed.Microseconds())
	return err
}

// optionalText is a text as an argument: "" is NULL.
func optionalText(s string) any {
	if s == "" {
		return nil
	}
	return s
}
