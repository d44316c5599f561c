package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
)

// CreateTrigger implements [webtrigger.TriggerStore]. It declines to take where
// [Options.Enqueue] hands runs to another engine.
func (s *Store) CreateTrigger(ctx context.Context, trigger webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	if s.opts.Enqueue != nil {
		trigger.Claim = nil
	}
	if waitsBounded(&trigger) {
		return s.bounded.do(ctx, trigger)
	}
	return s.accepts.do(ctx, trigger)
}

// weighTrigger is about how many bytes a trigger has.
func weighTrigger(t webtrigger.NewTrigger) int {
	return 512 + len(t.Input.Message) + len(t.Input.Context) + len(t.Input.Metadata)
}

// requestOf is the request that a trigger repeats, if it has an idempotency key.
func requestOf(t webtrigger.NewTrigger) (any, bool) {
	if t.Idempotency == nil {
		return nil, false
	}
	return [2]string{t.AssistantID, t.Idempotency.Key}, true
}

// accepting is a trigger in the batcher.
type accepting = call[webtrigger.NewTrigger, webtrigger.CreatedTrigger]

// runAccepts stores a batch of triggers.
func (s *Store) runAccepts(ctx context.Context, calls []*accepting) error {
	if s.postgres {
		return s.pgAccept(ctx, calls)
	}
	return s.write(ctx, "create trigger", func(t *tx) error {
		for _, c := range calls {
			if c.result, c.err = t.accept(c.arg); c.err != nil && !decided(c.err) {
				return c.err
			}
		}
		return nil
	})
}

// acceptAlone stores one trigger in a transaction of its own.
func (s *Store) acceptAlone(ctx context.Context, trigger webtrigger.NewTrigger) (accepted webtrigger.CreatedTrigger, _ error) {
	err := s.write(ctx, "create trigger", func(t *tx) (err error) {
		if waitsBounded(&trigger) {
			if err := s.lockBounds(ctx, t.session, &trigger); err != nil {
				return err
			}
		}
		accepted, err = t.accept(trigger)
		return err
	})
	return accepted, err
}

// accept stores a trigger. What it refuses leaves nothing.
func (t *tx) accept(trigger webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	now, err := t.now()
	if err != nil {
		return webtrigger.CreatedTrigger{}, err
	}
	use := trigger.Idempotency
	if use != nil {
		run, err := t.replay(trigger.AssistantID, *use, now)
		if err == nil {
			return webtrigger.CreatedTrigger{Run: run, Replayed: true}, nil
		} else if !errors.Is(err, webtrigger.ErrNotFound) {
			return webtrigger.CreatedTrigger{}, err
		}
	}
	if trigger.ConversationID != 0 {
		if err := t.join(trigger.ConversationID, trigger.AssistantID); err != nil {
			return webtrigger.CreatedTrigger{}, err
		}
	}
	if err := t.room(&trigger); err != nil {
		return webtrigger.CreatedTrigger{}, err
	}
	if use != nil {
		if first, err := t.remember(trigger.AssistantID, *use, now); err != nil {
			return webtrigger.CreatedTrigger{}, err
		} else if !first {
			run, err := t.replay(trigger.AssistantID, *use, now)
			return webtrigger.CreatedTrigger{Run: run, Replayed: true}, err
		}
	}
	q, err := t.create(trigger, now)
	if err != nil {
		return webtrigger.CreatedTrigger{}, err
	}
	if use != nil {
		_, err := t.exec(t.ctx, `UPDATE {idempotency_keys} SET run_id = $3 WHERE assistant_id = $1 AND key = $2`,
			trigger.AssistantID, use.Key, q.runID)
		if err != nil {
			return webtrigger.CreatedTrigger{}, err
		}
	}
	accepted := webtrigger.CreatedTrigger{}
	if trigger.Claim != nil {
		if err := errors.Join(t.take(q, trigger.Claim.Worker, trigger.Claim.Lease, now), t.save(q)); err != nil {
			return accepted, err
		}
		accepted.Lease = &webtrigger.Lease{RunID: q.runID, Token: q.token}
	} else if err := t.waits(q.runID, q.native); err != nil {
		return accepted, err
	}
	accepted.Run, err = t.run(q.runID)
	return accepted, err
}

// join locks the conversation that a run is to join.
func (t *tx) join(conversationID int64, assistantID string) error {
	var owner string
	err := t.row(t.ctx, `SELECT assistant_id FROM {conversations} WHERE id = $1 {for update}`, conversationID).Scan(&owner)
	if err == sql.ErrNoRows || err == nil && owner != assistantID {
		return webtrigger.ErrNotFound
	}
	return err
}

// create stores the conversation where there is none yet, the run, its message
// and its first event, and the run's row in the queue. The run waits, which is
// not yet told.
func (t *tx) create(trigger webtrigger.NewTrigger, now time.Time) (*queueRow, error) {
	q := &queueRow{conversationID: trigger.ConversationID, native: t.store.opts.Enqueue == nil, waitsSince: now}
	if q.conversationID == 0 {
		err := t.row(t.ctx, `INSERT INTO {conversations}
			(assistant_id, subject, metadata, created_at, first_run_id, open_runs, last_event_id, last_message_id)
			VALUES ($1, $2, $3, $4, 0, 0, 0, 0) RETURNING id`,
			trigger.AssistantID, trigger.Input.Subject, text(trigger.Input.Metadata), t.at(now)).Scan(&q.conversationID)
		if err != nil {
			return nil, err
		}
	}
	task, err := encodeTask(trigger.TaskDefinition)
	if err != nil {
		return nil, err
	}
	err = t.row(t.ctx, `INSERT INTO {runs}
		(run_key, conversation_id, assistant_id, key_id, task, context, base_url, callback_url, callback_host,
			trace_parent, request_id, created_at, message_id, first_event_id)
		SELECT $1, id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, last_message_id + 1, last_event_id + 1 FROM {conversations} WHERE id = $2
		RETURNING id`,
		trigger.RunKey, q.conversationID, trigger.AssistantID, trigger.KeyID, task, text(trigger.Input.Context),
		trigger.BaseURL, trigger.CallbackURL, trigger.CallbackHost, trigger.TraceParent, trigger.RequestID, t.at(now)).Scan(&q.runID)
	if err != nil {
		return nil, err
	}
	_, err = t.exec(t.ctx, `UPDATE {conversations} SET open_runs = open_runs + 1,
		first_run_id = CASE WHEN first_run_id = 0 THEN $2 ELSE first_run_id END WHERE id = $1`, q.conversationID, q.runID)
	if err != nil {
		return nil, err
	}
	q.token = firstToken(q.runID)
	var boundedFor any
	if trigger.MaxQueued > 0 {
		boundedFor = trigger.AssistantID
	}
	_, err = t.exec(t.ctx, `INSERT INTO {queue}
		(run_id, conversation_id, native, leased, token, batch, attempts, last_sequence, waits_since, worker, bounded_for)
		VALUES ($1, $2, $3, false, $5, 0, 0, 1, $4, '', $6)`, q.runID, q.conversationID, q.native, t.at(now), q.token, boundedFor)
	if err != nil {
		return nil, err
	}
	if _, err = t.say(q.conversationID, q.runID, now, webtrigger.NewMessage{Role: webtrigger.RoleUser, Content: trigger.Input.Message}); err != nil {
		return nil, err
	}
	return q, t.log(q, now, webtrigger.QueuedEvent())
}

// Tx returns a TriggerStore inside the host's own transaction, for
// [webtrigger.Service.TriggerVia]: what it stores exists when the host commits,
// and never was when the host rolls back. Runs are queued, not taken.
//
// On Postgres the transaction carries the notification, so that the commit wakes
// workers. On SQLite and with [Options.NoNotify] the host calls
// [webtrigger.Service.Wake] after its commit, or a poll finds the run within 2
// seconds. A database that is locked or a serialization failure is the host's to
// handle: nothing is tried again in here.
func (s *Store) Tx(hostTx bun.Tx) webtrigger.TriggerStore { return &hostStore{s, hostTx} }

// hostStore is a TriggerStore inside a host's transaction.
type hostStore struct {
	store *Store
	tx    bun.Tx
}

func (h *hostStore) begin(ctx context.Context) *tx {
	if s := h.store; s.postgres && s.lender.adjusted.Load() {
		// The host's connection may be one that the store never had. If this fails, so
		// does the next statement.
		_, _, _ = connectionCheck(ctx, h.tx.Tx, true)
	}
	return &tx{session: h.store.within(h.tx.Tx), ctx: ctx, time: h.store.now()}
}

func (h *hostStore) Channel(ctx context.Context, assistantID string) (webtrigger.Channel, error) {
	settings, err := h.begin(ctx).channel(ctx, assistantID)
	return settings, h.store.wrap("read channel", err)
}

func (h *hostStore) TaskDefinition(ctx context.Context, taskID int64) (webtrigger.TaskDefinition, error) {
	task, err := h.begin(ctx).task(ctx, taskID)
	return task, h.store.wrap("read task", err)
}

func (h *hostStore) CreateTrigger(ctx context.Context, trigger webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	if err := ended(ctx); err != nil {
		return webtrigger.CreatedTrigger{}, err
	}
	trigger.Claim = nil
	t := h.begin(ctx)
	accepted, err := t.accept(trigger)
	if err == nil {
		err = h.store.handOver(ctx, t, h.tx)
	}
	if err == nil && h.store.notifies() {
		err = h.store.notifyWithin(ctx, t)
	}
	if err != nil {
		return webtrigger.CreatedTrigger{}, h.store.wrap("create trigger", err)
	}
	return accepted, nil
}

func (h *hostStore) Replay(ctx context.Context, assistantID string, use webtrigger.Idempotency) (webtrigger.Run, error) {
	t := h.begin(ctx)
	now, err := t.now()
	if err != nil {
		return webtrigger.Run{}, h.store.wrap("replay", err)
	}
	run, err := t.replay(assistantID, use, now)
	return run, h.store.wrap("replay", err)
}
