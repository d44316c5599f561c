package bunstore

import (
	"cmp"
	"database/sql"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// lockConversation locks a conversation and reports its assistant and whether it is
// shared. The lock of a single one is its run's row, which nothing ever updates.
// It returns sql.ErrNoRows if the conversation is absent, or if the lock clause how
// skips it.
func (t *tx) lockConversation(conversationID int64, how string) (assistantID string, shared bool, err error) {
	ofRow := func() error {
		return t.row(t.ctx, `SELECT assistant_id FROM {conversations} WHERE id = $1`+how, conversationID).Scan(&assistantID)
	}
	if err = ofRow(); err != sql.ErrNoRows {
		return assistantID, true, err
	}
	err = t.row(t.ctx, `SELECT assistant_id FROM {runs} WHERE id = $1 AND conversation_id = $1`+how, conversationID).Scan(&assistantID)
	if err != nil || !t.store.postgres {
		return assistantID, false, err
	}
	// The transaction that had the run locked before may have promoted the conversation.
	if err = ofRow(); err != sql.ErrNoRows {
		return assistantID, true, err
	}
	if how != skipLocked {
		return assistantID, false, nil
	}
	var promoted bool
	err = t.row(t.ctx, `SELECT EXISTS (SELECT 1 FROM {conversations} WHERE id = $1)`, conversationID).Scan(&promoted)
	if err == nil && promoted { // and was skipped
		err = sql.ErrNoRows
	}
	return assistantID, false, err
}

// join locks the conversation that a run is about to join and makes it shared.
func (t *tx) join(conversationID int64, assistantID string) error {
	owner, shared, err := t.lockConversation(conversationID, t.how())
	if err == sql.ErrNoRows && t.tries {
		err = t.row(t.ctx, ownerTexts[webtrigger.ResourceConversation], conversationID).Scan(&owner, &conversationID)
		if err == nil && owner == assistantID {
			return errLocked
		}
	}
	if err == sql.ErrNoRows || err == nil && owner != assistantID {
		return webtrigger.ErrNotFound
	}
	if err != nil || shared {
		return err
	}
	return t.promote(conversationID)
}

// promote makes a locked single conversation shared: it gets a row of its own, and
// what was derived for its run is stored from now on.
func (t *tx) promote(conversationID int64) error {
	_, err := t.lock(conversationID, t.how())
	if err != nil && err != sql.ErrNoRows {
		return err
	}
	if err != nil && t.tries { // ended or locked
		var runID int64
		if err = t.row(t.ctx, `SELECT run_id FROM {queue} WHERE run_id = $1`, conversationID).Scan(&runID); err != sql.ErrNoRows {
			return cmp.Or(err, errLocked)
		}
	}
	if _, err := t.exec(t.ctx, `UPDATE {queue} SET shared = true WHERE run_id = $1`, conversationID); err != nil {
		return err
	}
	_, err = t.exec(t.ctx, `INSERT INTO {conversations}
			(id, first_run_id, last_event_id, last_message_id, purged_event_id, created_at, open_runs, assistant_id, subject, metadata)
		SELECT r.id, r.id, coalesce(q.last_sequence, e.last_sequence, 1), coalesce(e.last_message_id, 1), coalesce(m.event_id, 0),
			r.created_at, CASE WHEN e.run_id IS NULL THEN 1 ELSE 0 END, r.assistant_id, r.subject, r.metadata
		FROM {runs} r `+lifeJoins+` WHERE r.id = $1`, conversationID)
	if err != nil {
		return err
	}
	_, err = t.exec(t.ctx, `INSERT INTO {messages} (conversation_id, id, run_id, role, content, created_at)
		SELECT r.id, r.message_id, r.id, $2, r.message, r.created_at FROM {runs} r WHERE r.id = $1
		UNION ALL
		SELECT e.run_id, e.result_message_id, e.run_id, $3, e.result, e.completed_at FROM {ends} e
		WHERE e.run_id = $1 AND e.result_message_id > 0`, conversationID, string(webtrigger.RoleUser), string(webtrigger.RoleAssistant))
	if err != nil {
		return err
	}
	var x lifeRow
	err = t.row(t.ctx, `SELECT `+lifeColumns+` FROM {runs} r `+lifeJoins+` WHERE r.id = $1`, conversationID).Scan(x.dest()...)
	if err != nil {
		return err
	}
	for _, e := range x.read().derived() {
		if err := t.storeEvent(e); err != nil {
			return err
		}
	}
	return nil
}

// storeEvent stores one event under the ids that it has.
func (t *tx) storeEvent(e webtrigger.Event) error {
	_, err := t.exec(t.ctx, `INSERT INTO {events} (conversation_id, id, run_id, sequence, type, payload, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		e.ConversationID, e.ID, e.RunID, e.Sequence, string(e.Type), string(e.Payload), t.at(e.CreatedAt))
	return err
}

// log appends events to a locked run and its conversation.
func (t *tx) log(q *queueRow, now time.Time, events ...webtrigger.NewEvent) error {
	if len(events) == 0 {
		return nil
	}
	id := q.sequence + 1
	if q.shared {
		var last int64
		err := t.row(t.ctx, `UPDATE {conversations} SET last_event_id = last_event_id + $2 WHERE id = $1 RETURNING last_event_id`,
			q.conversationID, len(events)).Scan(&last)
		if err != nil {
			return err
		}
		id = last - int64(len(events)) + 1
	}
	for i, e := range events {
		q.sequence++
		err := t.storeEvent(webtrigger.Event{ID: id + int64(i), ConversationID: q.conversationID, RunID: q.runID, Sequence: q.sequence,
			Type: e.Type, Payload: e.Payload, CreatedAt: now})
		if err != nil {
			return err
		}
	}
	t.moved(q.conversationID)
	return nil
}

// logDerived appends an event that reads derive where the conversation is single.
func (t *tx) logDerived(q *queueRow, now time.Time, event webtrigger.NewEvent) error {
	if q.shared {
		return t.log(q, now, event)
	}
	q.sequence++
	t.moved(q.conversationID)
	return nil
}

// logBatch stores a worker's events and steps unless they are stored already.
func (t *tx) logBatch(q *queueRow, now time.Time, batch webtrigger.EventBatch) error {
	if batch.Number <= q.batch {
		return nil
	}
	q.batch = batch.Number
	if err := t.note(q.runID, batch.Steps); err != nil {
		return err
	}
	return t.log(q, now, batch.Events...)
}

// firstMessage is the id of the user's message in a single conversation.
const firstMessage = 1

// addMessages appends messages to a locked run's conversation when the run ends: the
// transcript and, if the run is completed, the result, which reads derive where the
// conversation is single. It returns the ids of the first of these messages, of the
// conversation's last one, and of the result (0: none).
func (t *tx) addMessages(q *queueRow, now time.Time, messages []webtrigger.NewMessage, outcome webtrigger.Outcome) (first, last, result int64, err error) {
	completed := outcome.Status == webtrigger.RunCompleted
	count := int64(len(messages))
	if completed {
		count++
	}
	last = firstMessage + count
	if q.shared {
		err := t.row(t.ctx, `UPDATE {conversations} SET last_message_id = last_message_id + $2 WHERE id = $1 RETURNING last_message_id`,
			q.conversationID, count).Scan(&last)
		if err != nil {
			return 0, 0, 0, err
		}
	}
	if completed {
		result = last
		if q.shared {
			messages = append(messages[:len(messages):len(messages)],
				webtrigger.NewMessage{Role: webtrigger.RoleAssistant, Content: outcome.Result})
		}
	}
	for i, m := range messages {
		if err := t.storeMessage(q, last-count+1+int64(i), m, now); err != nil {
			return 0, 0, 0, err
		}
	}
	return last - count + 1, last, result, nil
}

func (t *tx) storeMessage(q *queueRow, id int64, m webtrigger.NewMessage, now time.Time) error {
	calls, err := encodeCalls(&m)
	if err != nil {
		return err
	}
	_, err = t.exec(t.ctx, `INSERT INTO {messages} (conversation_id, id, run_id, role, content, calls, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`, q.conversationID, id, q.runID, string(m.Role), m.Content, calls, t.at(now))
	return err
}
