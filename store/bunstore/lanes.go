package bunstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// The lane of a conversation is its open runs. The oldest is the head. The others have
// the state 'b', for behind. Every transition here has the conversation locked. Single
// conversations have no lane.

// lane is the conversation that a trigger joins or starts.
type lane struct {
	id   int64  // 0: the trigger starts it
	key  string // "": none
	open int    // unfinished runs that the new one is behind

	interrupts []*queueRow // the open runs, locked, if the trigger interrupts them
	freed      int         // bounded ones that it ends
}

// lockName takes an advisory lock until the end of the transaction.
func (t *tx) lockName(number int64) error {
	if !t.store.postgres {
		return nil
	}
	if !t.tries {
		_, err := t.exec(t.ctx, `SELECT pg_advisory_xact_lock($1)`, number)
		return err
	}
	var free bool
	err := t.row(t.ctx, `SELECT pg_try_advisory_xact_lock($1)`, number).Scan(&free)
	if err == nil && !free {
		err = errLocked
	}
	return err
}

// enter locks the conversation of a trigger and decides by OnBusy and by the number of
// its unfinished runs. It changes nothing, except that a single conversation becomes
// shared.
func (t *tx) enter(trigger *webtrigger.NewTrigger) (l lane, err error) {
	switch {
	case trigger.ConversationID != 0:
		err = t.join(trigger.ConversationID, trigger.AssistantID)
		l.id = trigger.ConversationID
	case trigger.ConversationKey != "":
		l.key = trigger.ConversationKey
		l.id, err = t.conversationOf(trigger.AssistantID, l.key)
	}
	if err != nil || l.id == 0 {
		return l, err
	}
	var key sql.NullString
	err = t.row(t.ctx, `SELECT open_runs, key FROM {conversations} WHERE id = $1`, l.id).Scan(&l.open, &key)
	if err != nil {
		return l, err
	}
	l.key = key.String
	if l.open > 0 {
		switch trigger.OnBusy {
		case webtrigger.BusyReject:
			return l, webtrigger.ErrConversationBusy
		case webtrigger.BusyInterrupt:
			if err := t.toInterrupt(&l); err != nil {
				return l, err
			}
		}
	}
	if trigger.MaxUnfinished > 0 && l.open >= trigger.MaxUnfinished {
		return l, webtrigger.ErrConversationFull
	}
	return l, nil
}

// conversationOf locks a key and its conversation. If no conversation has the key, the id is 0.
func (t *tx) conversationOf(assistantID, key string) (id int64, _ error) {
	if err := t.lockName(t.store.lockNumber("conversation/" + assistantID + "/" + key)); err != nil {
		return 0, err
	}
	const text = `SELECT id FROM {conversations} WHERE assistant_id = $1 AND key = $2`
	err := t.row(t.ctx, text+t.how(), assistantID, key).Scan(&id)
	if err == sql.ErrNoRows && t.tries {
		if err = t.row(t.ctx, text, assistantID, key).Scan(&id); err == nil {
			err = errLocked
		}
	}
	if err == sql.ErrNoRows {
		return 0, nil
	}
	return id, err
}

// toInterrupt locks the open runs of a lane.
func (t *tx) toInterrupt(l *lane) error {
	const of = ` FROM {queue} WHERE conversation_id = $1 AND shared`
	rows, err := t.rows(t.ctx, `SELECT `+queueColumns+of+` ORDER BY run_id`+t.how(), l.id)
	if l.interrupts, err = collect(rows, err, scanQueueRow); err != nil {
		return err
	}
	var all int
	err = t.row(t.ctx, `SELECT count(*), count(CASE WHEN bounded AND state IN ('q', 'b') THEN 1 END)`+of, l.id).Scan(&all, &l.freed)
	if err == nil && all > len(l.interrupts) {
		err = errLocked
	}
	l.open = 0
	for _, q := range l.interrupts {
		if q.running {
			l.open++
		}
	}
	return err
}

// interrupt stops the open runs of a lane. It returns the summaries of those that have
// ended: all that were queued, which a few statements end together.
func (t *tx) interrupt(l *lane, byRunID int64, now time.Time) ([]webtrigger.Run, error) {
	stop := webtrigger.InterruptStop(byRunID)
	var ended []int64
	for _, q := range l.interrupts {
		switch {
		case !q.running:
			ended = append(ended, q.runID)
		case q.stop == nil:
			q.stop = &stop
			if err := t.log(q, now, webtrigger.CancelRequestedEvent(stop)); err != nil {
				return nil, err
			}
			if err := t.save(q); err != nil {
				return nil, err
			}
			t.hint.Stopped = append(t.hint.Stopped, q.runID)
		}
	}
	if len(ended) == 0 {
		return nil, nil
	}
	if err := t.endQueued(l.id, int64(len(ended)), stop, now); err != nil {
		return nil, err
	}
	rows, err := t.rows(t.ctx, `SELECT `+summaryColumns+` FROM `+fromRuns+` WHERE r.id {in ids} ORDER BY r.id`, t.store.idList(ended))
	return collect(rows, err, func(row scanner) (webtrigger.Run, error) { return scanSummary(row) })
}

// endQueued is requestStop for all n queued runs of a lane, which are locked.
func (t *tx) endQueued(conversationID, n int64, stop webtrigger.Stop, now time.Time) error {
	const queued = ` {queue} WHERE conversation_id = $1 AND shared AND state <> 'r'`
	var event, message int64
	err := t.row(t.ctx, `UPDATE {conversations} SET last_event_id = last_event_id + 2 * $2, open_runs = open_runs - $2 WHERE id = $1
		RETURNING last_event_id - 2 * $2, last_message_id`, conversationID, n).Scan(&event, &message)
	if err != nil {
		return err
	}
	var outcome webtrigger.Outcome
	outcome = outcome.Under(&stop)
	requested, terminal := webtrigger.CancelRequestedEvent(stop), outcome.Event()
	for _, step := range []struct {
		text string
		args []any
	}{
		{`INSERT INTO {events} (conversation_id, id, run_id, sequence, type, payload, created_at)
			SELECT conversation_id, $2 + 2 * (row_number() OVER (ORDER BY run_id) - 1) + 1, run_id, last_sequence + 1, $3, $4, $5 FROM` + queued,
			[]any{event, string(requested.Type), string(requested.Payload), t.at(now)}},
		{`INSERT INTO {events} (conversation_id, id, run_id, sequence, type, payload, created_at)
			SELECT conversation_id, $2 + 2 * (row_number() OVER (ORDER BY run_id) - 1) + 2, run_id, last_sequence + 2, $3, $4, $5 FROM` + queued,
			[]any{event, string(terminal.Type), string(terminal.Payload), t.at(now)}},
		{`INSERT INTO {ends} (run_id, token, last_sequence, started_sequence, last_message_id, result_message_id, completed_at, started_at,
				attempts, status, status_detail, error_message, first_message_id)
			SELECT run_id, 0, last_sequence + 2, started_sequence, $2, 0, $3, started_at, attempts, $4, $5, $6, $2 + 1 FROM` + queued,
			[]any{message, t.at(now), string(outcome.Status), outcome.StatusDetail, outcome.ErrorMessage}},
		{`DELETE FROM` + queued, nil},
	} {
		if _, err := t.exec(t.ctx, step.text, append([]any{conversationID}, step.args...)...); err != nil {
			return err
		}
	}
	deliveries, err := t.exec(t.ctx, `INSERT INTO {deliveries} (run_id, assistant_id, host, state, retry, created_at, due_at)
		SELECT r.id, r.assistant_id, r.callback_host, 'pending', 0, $2, $2 FROM {ends} e JOIN {runs} r ON r.id = e.run_id
		WHERE e.run_id IN (SELECT run_id FROM {events} WHERE conversation_id = $1 AND id > $3 AND id <= $4) AND r.callback_url <> ''`,
		conversationID, t.at(now), event, event+2*n)
	t.hint.Pending = t.hint.Pending || deliveries > 0
	t.moved(conversationID)
	return err
}

// free makes the head of a lane claimable, if it is not.
func (t *tx) free(conversationID int64) error {
	q := &queueRow{}
	err := t.row(t.ctx, `UPDATE {queue} SET state = 'q' WHERE state = 'b' AND run_id =
			(SELECT run_id FROM {queue} WHERE conversation_id = $1 AND shared ORDER BY run_id LIMIT 1)
		RETURNING run_id, native`, conversationID).Scan(&q.runID, &q.native)
	if err == sql.ErrNoRows {
		return nil
	} else if err != nil {
		return err
	}
	return t.waits(q)
}

const (
	// earlierRun is an open run of the same conversation that is older than q.
	earlierRun = `(SELECT 1 FROM {queue} o WHERE o.conversation_id = q.conversation_id AND o.shared AND o.run_id < q.run_id)`

	brokenLanesText = `SELECT DISTINCT conversation_id FROM (
			SELECT conversation_id FROM {queue} q WHERE state = 'b' AND shared AND NOT EXISTS ` + earlierRun + `
			UNION ALL
			SELECT conversation_id FROM {queue} q WHERE state = 'q' AND shared AND EXISTS ` + earlierRun + `
		) l LIMIT 1000`
)

// repairLanes puts lanes in order that a process of an earlier version, a restored
// backup or a hand in the database has left without a claimable head, or with several.
func (s *Store) repairLanes(ctx context.Context) error {
	rows, err := s.unprepared().rows(ctx, brokenLanesText)
	broken, err := collect(rows, err, scanID)
	errs := []error{s.wrap("list lanes", err)}
	for _, id := range broken {
		errs = append(errs, s.write(ctx, "repair lane", func(t *tx) error {
			if _, _, err := t.lockConversation(id, skipLocked); err == sql.ErrNoRows {
				return nil
			} else if err != nil {
				return err
			}
			_, err := t.exec(t.ctx, `UPDATE {queue} AS q SET state = 'b' WHERE conversation_id = $1 AND shared AND state = 'q'
				AND EXISTS `+earlierRun, id)
			if err != nil {
				return err
			}
			return t.free(id)
		}))
	}
	return errors.Join(errs...)
}

// startConversation stores the conversation that a trigger with a key starts.
func (t *tx) startConversation(runID int64, trigger *webtrigger.NewTrigger, now time.Time) error {
	_, err := t.exec(t.ctx, `INSERT INTO {conversations}
			(id, first_run_id, last_event_id, last_message_id, created_at, open_runs, assistant_id, subject, metadata, key)
		VALUES ($1, $1, 0, 0, $2, 0, $3, $4, $5, $6)`,
		runID, t.at(now), trigger.AssistantID, trigger.Input.Subject, text(trigger.Input.Metadata), trigger.ConversationKey)
	return err
}

// joins reports whether a trigger names a conversation.
func joins(trigger *webtrigger.NewTrigger) bool {
	return trigger.ConversationID != 0 || trigger.ConversationKey != ""
}

// maxLanes is how many triggers of conversations with lanes share a transaction.
const maxLanes = 64

// batchLanes makes the batcher of triggers that name a conversation, on Postgres. A
// batch waits for no lock. A trigger that needs one that another transaction has is
// tried again after a pause.
func (s *Store) batchLanes() *batcher[newTrigger, webtrigger.CreatedTrigger] {
	b := s.batchTriggers(s.runLanes, nil)
	b.max = min(cmp.Or(s.opts.MaxBatch, maxLanes), maxLanes)
	return b
}

// runLanes stores triggers in one transaction, one after the other. It takes the locks
// of bounds first, as every batch does: it waits for nothing afterwards.
func (s *Store) runLanes(ctx context.Context, calls []*accepting) error {
	return s.write(ctx, "create trigger", func(t *tx) error {
		t.tries = true
		var bounds []*webtrigger.NewTrigger
		for _, c := range calls {
			if c.arg.MaxQueued > 0 { // the claim may be declined
				bounds = append(bounds, &c.arg.NewTrigger)
			}
		}
		if len(bounds) > 0 {
			if err := s.lockBounds(ctx, t.session, bounds...); err != nil {
				return err
			}
		}
		for _, c := range calls {
			c.result, c.err = t.accept(c.arg)
			if c.locked = c.err == errLocked; c.locked {
				c.err = nil
			} else if c.err != nil && !decided(c.err) {
				return c.err
			}
		}
		return nil
	})
}
