package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
)

// CreateTrigger implements [webtrigger.TriggerStore]. It declines a claim if
// [Options.Enqueue] hands runs to another engine, or if the process is not registered
// or is lost.
func (s *Store) CreateTrigger(ctx context.Context, trigger webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	if s.opts.Enqueue != nil {
		trigger.Claim = nil
	}
	task, err := s.taskOf(ctx, trigger.TaskDefinition)
	if err != nil {
		return webtrigger.CreatedTrigger{}, err
	}
	if _, ok := webtrigger.AuditFrom(ctx); ok {
		return s.acceptAlone(ctx, newTrigger{trigger, task}) // with its entry in the same transaction
	}
	if s.postgres && joins(&trigger) {
		return s.lanes.do(ctx, newTrigger{trigger, task})
	}
	if waitsBounded(&trigger) {
		return s.bounded.do(ctx, newTrigger{trigger, task})
	}
	return s.accepts.do(ctx, newTrigger{trigger, task})
}

// newTrigger is a trigger and what its run keeps of the task definition; nil: none.
type newTrigger struct {
	webtrigger.NewTrigger
	task *string
}

// weighTrigger is about how many bytes a trigger has, with all that is sent of it.
func weighTrigger(t newTrigger) int {
	n := 512 + len(t.RunKey) + len(t.AssistantID) + len(t.BaseURL) + len(t.CallbackURL) + len(t.CallbackHost) + len(t.TraceParent) +
		len(t.RequestID) + len(t.ConversationKey) + len(t.OnBusy) + len(t.Input.Subject) + len(t.Input.Message) + len(t.Input.Context) + len(t.Input.Metadata)
	if t.Idempotency != nil {
		n += len(t.Idempotency.Key)
	}
	if t.Claim != nil {
		n += len(t.Claim.ProcessID)
	}
	return n + weighTask(t.TaskDefinition)
}

func weighTask(task *webtrigger.TaskDefinition) int {
	if task == nil {
		return 0
	}
	n := 256 + len(task.AssistantID) + len(task.Name) + len(task.Instructions) + len(task.OutputType) + len(task.OutputSchema)
	for _, tool := range slices.Concat(task.AllowedTools, task.ApproveTools) {
		n += 8 + len(tool)
	}
	return n
}

// requestOf is the request that a trigger repeats, if it has an idempotency key.
func requestOf(t newTrigger) (any, bool) {
	if t.Idempotency == nil {
		return nil, false
	}
	return [2]string{t.AssistantID, t.Idempotency.Key}, true
}

// accepting is a trigger in the batcher.
type accepting = call[newTrigger, webtrigger.CreatedTrigger]

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
func (s *Store) acceptAlone(ctx context.Context, trigger newTrigger) (accepted webtrigger.CreatedTrigger, _ error) {
	err := s.write(ctx, "create trigger", func(t *tx) (err error) {
		if accepted, err = t.accept(trigger); err != nil || accepted.Replayed {
			return err
		}
		return t.audit(accepted.Run.ID)
	})
	return accepted, err
}

// accept stores a trigger. If it rejects the trigger, it stores nothing.
func (t *tx) accept(trigger newTrigger) (webtrigger.CreatedTrigger, error) {
	if trigger.CheckKey {
		if err := t.checkKey(&trigger.NewTrigger); err != nil {
			return webtrigger.CreatedTrigger{}, err
		}
	}
	use := trigger.Idempotency
	if use != nil {
		if err := t.lockRequest(trigger.AssistantID, use.Key); err != nil {
			return webtrigger.CreatedTrigger{}, err
		}
		now, err := t.now()
		if err != nil {
			return webtrigger.CreatedTrigger{}, err
		}
		run, err := t.replay(trigger.AssistantID, *use, now)
		if err == nil {
			return webtrigger.CreatedTrigger{Run: run, Replayed: true}, nil
		} else if !errors.Is(err, webtrigger.ErrNotFound) {
			return webtrigger.CreatedTrigger{}, err
		}
		if err := t.lockRecord(trigger.AssistantID, use.Key); err != nil {
			return webtrigger.CreatedTrigger{}, err
		}
	}
	l, err := t.enter(&trigger.NewTrigger)
	if err != nil {
		return webtrigger.CreatedTrigger{}, err
	}
	if l.open > 0 {
		trigger.Claim = nil
	}
	if trigger.Claim != nil {
		if may, err := t.mayClaim(trigger.Claim.ProcessID); err != nil {
			return webtrigger.CreatedTrigger{}, err
		} else if !may {
			trigger.Claim = nil
		}
	}
	if err := t.room(&trigger.NewTrigger, l.freed); err != nil {
		return webtrigger.CreatedTrigger{}, err
	}
	runID, now, err := t.nextRun()
	if err != nil {
		return webtrigger.CreatedTrigger{}, err
	}
	if use != nil {
		if first, err := t.remember(trigger.AssistantID, *use, runID, now); err != nil {
			return webtrigger.CreatedTrigger{}, err
		} else if !first { // a process of an earlier version, which does not lock, was faster
			run, err := t.replay(trigger.AssistantID, *use, now)
			return webtrigger.CreatedTrigger{Run: run, Replayed: true}, err
		}
	}
	interrupted, err := t.interrupt(&l, runID, now)
	if err != nil {
		return webtrigger.CreatedTrigger{}, err
	}
	created, err := t.create(runID, trigger, &l, now)
	created.Interrupted = interrupted
	return created, err
}

// checkKey returns ErrKeyChanged if the API key of a trigger, or its channel, no longer
// permits it.
func (t *tx) checkKey(trigger *webtrigger.NewTrigger) error {
	now, err := t.now()
	if err != nil {
		return err
	}
	var one int
	err = t.row(t.ctx, `SELECT 1 FROM {api_keys} k JOIN {channels} c ON c.assistant_id = k.assistant_id
		WHERE k.id = $1 AND k.assistant_id = $2 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $3)
			AND c.enabled AND (c.allow_callback_urls OR $4 = '')`,
		trigger.KeyID, trigger.AssistantID, t.at(now), trigger.CallbackURL).Scan(&one)
	if err == sql.ErrNoRows {
		return webtrigger.ErrKeyChanged
	}
	return err
}

// nextRun is the id of a new run, and the time. On SQLite the id is used up when a
// row with it is inserted.
func (t *tx) nextRun() (id int64, now time.Time, err error) {
	if t.store.postgres {
		err = t.row(t.ctx, `SELECT nextval('{runs}_id_seq'), clock_timestamp()`).Scan(&id, stamp{&now})
		return id, now, err
	}
	err = t.row(t.ctx, `SELECT max(coalesce(r.last, 0), coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = '{runs}'), 0)) + 1
		FROM (SELECT max(id) AS last FROM {runs}) r`).Scan(&id)
	return id, t.time, err
}

// create stores the run and its row in the queue. In a shared conversation it also
// stores the message and the first event.
func (t *tx) create(runID int64, trigger newTrigger, l *lane, now time.Time) (webtrigger.CreatedTrigger, error) {
	q := &queueRow{runID: runID, conversationID: runID, behind: l.open > 0, native: t.store.opts.Enqueue == nil, waitsSince: now}
	message, event := int64(firstMessage), int64(1)
	input := trigger.Input
	if joins(&trigger.NewTrigger) {
		q.shared = true
		if q.conversationID = l.id; l.id == 0 {
			q.conversationID = runID
			if err := t.startConversation(runID, &trigger.NewTrigger, now); err != nil {
				return webtrigger.CreatedTrigger{}, err
			}
		}
		err := t.row(t.ctx, `UPDATE {conversations} SET open_runs = open_runs + 1, last_message_id = last_message_id + 1
			WHERE id = $1 RETURNING last_message_id, last_event_id + 1`, q.conversationID).Scan(&message, &event)
		if err != nil {
			return webtrigger.CreatedTrigger{}, err
		}
		if err := t.storeMessage(q, message, webtrigger.NewMessage{Role: webtrigger.RoleUser, Content: input.Message}, now); err != nil {
			return webtrigger.CreatedTrigger{}, err
		}
	}
	task, err := t.keep(&trigger, now)
	if err != nil {
		return webtrigger.CreatedTrigger{}, err
	}
	_, err = t.exec(t.ctx, `INSERT INTO {runs} (id, conversation_id, key_id, message_id, first_event_id, created_at, run_key, assistant_id,
			subject, message, context, metadata, task, base_url, callback_url, callback_host, trace_parent, request_id, conversation_key)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)`,
		runID, q.conversationID, trigger.KeyID, message, event, t.at(now), trigger.RunKey, trigger.AssistantID,
		input.Subject, input.Message, text(input.Context), text(input.Metadata), task, trigger.BaseURL,
		trigger.CallbackURL, trigger.CallbackHost, trigger.TraceParent, trigger.RequestID, optionalText(l.key))
	if err != nil {
		return webtrigger.CreatedTrigger{}, err
	}
	if err := t.logDerived(q, now, webtrigger.QueuedEvent()); err != nil {
		return webtrigger.CreatedTrigger{}, err
	}
	switch {
	case trigger.Claim != nil:
		err = t.take(q, trigger.Claim.ProcessID, trigger.Claim.Token, now)
	case q.behind: // its head ends first
	case q.native:
		t.hint.Queued = true
	default:
		t.queued = append(t.queued, RunRef{RunID: runID, RunKey: trigger.RunKey, AssistantID: trigger.AssistantID})
	}
	if err != nil {
		return webtrigger.CreatedTrigger{}, err
	}
	accepted := acceptedNow(&trigger.NewTrigger, runID, q.conversationID, q.running, now)
	accepted.Run.Continues, accepted.Run.Behind, accepted.Run.ConversationKey = message > firstMessage, q.behind, l.key
	return accepted, t.insert(q, &trigger.NewTrigger)
}

// insert stores a new run's row in the queue.
func (t *tx) insert(q *queueRow, trigger *webtrigger.NewTrigger) error {
	_, err := t.exec(t.ctx, `INSERT INTO {queue} (run_id, conversation_id, key_id, token, batch, last_sequence, started_sequence, waits_since,
			started_at, attempts, state, native, bounded, shared, assistant_id, process_id)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, CASE $11 WHEN 'r' THEN 'r' WHEN 'b' THEN 'b' ELSE 'q' END, $12, $13, $14, $15, $16)`,
		q.runID, q.conversationID, trigger.KeyID, q.token, q.batch, q.sequence, q.started, t.at(q.waitsSince),
		t.at(q.startedAt), q.attempts, q.state(), q.native, trigger.MaxQueued > 0, q.shared,
		trigger.AssistantID, optionalText(q.process))
	return err
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
	return &tx{session: h.store.within(h.tx.Tx), ctx: ctx, time: h.store.now(), host: true}
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
	task, err := encodeTask(trigger.TaskDefinition) // others would wait for a copy in the host's transaction
	if err != nil {
		return webtrigger.CreatedTrigger{}, err
	}
	t := h.begin(ctx)
	accepted, err := h.createAndEnqueue(t, newTrigger{trigger, task})
	if err == nil && h.store.notifies() {
		err = h.store.notifyWithin(ctx, t)
	}
	if err != nil {
		return webtrigger.CreatedTrigger{}, h.store.wrap("create trigger", err)
	}
	return accepted, nil
}

// createAndEnqueue stores a trigger and passes its run to Options.Enqueue. If the hook fails,
// it undoes the rest: the host may commit nevertheless, and no engine would have the run.
func (h *hostStore) createAndEnqueue(t *tx, trigger newTrigger) (accepted webtrigger.CreatedTrigger, err error) {
	create := func() (err error) {
		if accepted, err = t.accept(trigger); err == nil && !accepted.Replayed {
			err = t.audit(accepted.Run.ID)
		}
		return err
	}
	if h.store.opts.Enqueue == nil {
		err = create()
		return accepted, err
	}
	if _, err := t.exec(t.ctx, `SAVEPOINT webtrigger`); err != nil {
		return accepted, err
	}
	if err = create(); err == nil {
		err = h.store.enqueue(t.ctx, h.tx, t.queued)
	}
	if failed, ok := hookFailed(err); ok && failed.abandoned { // it may still use the transaction, which the host must roll back
		return accepted, err
	}
	if err != nil {
		_, failed := t.exec(context.WithoutCancel(t.ctx), `ROLLBACK TO SAVEPOINT webtrigger`)
		if failed != nil {
			return accepted, errors.Join(err, failed)
		}
	}
	if _, failed := t.exec(context.WithoutCancel(t.ctx), `RELEASE SAVEPOINT webtrigger`); err == nil {
		err = failed
	}
	return accepted, err
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
