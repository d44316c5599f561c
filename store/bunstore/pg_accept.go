package bunstore

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
)

// pgAcceptText stores triggers, each with a conversation of its own. Of those
// with an idempotency key it stores those that make their record; the rest are
// missing in the answer. Records are made in one order by all, so that two
// batches cannot wait for each other.
const pgAcceptText = pgAcceptInput + pgAdmit + `),` + pgAcceptStore

// pgAcceptInput begins the statement.
const pgAcceptInput = `
	WITH input AS (
		SELECT * FROM json_to_recordset($1::json) AS i(ord int, run_key uuid, assistant text, key_id bigint, subject text, message text,
			context text, metadata text, task text, base text, callback text, host text, trace text, request_id text, worker text, lease bigint,
			request text, hash text, ttl bigint, bound bigint)
	),`

// pgAdmit gives the triggers that are to be stored their ids. What follows it may
// leave some out.
const pgAdmit = `
	admitted AS MATERIALIZED (
		SELECT i.*, nextval('{runs}_id_seq') AS run_id, nextval('{conversations}_id_seq') AS conversation_id, clock_timestamp() AS now
		FROM input i`

// pgAcceptStore stores what is admitted.
const pgAcceptStore = `
	record AS (
		INSERT INTO {idempotency_keys} AS stored (assistant_id, key, body_hash, run_id, expires_at)
		SELECT assistant, request, decode(hash, 'hex'), run_id, now + ttl * interval '1 microsecond'
		FROM admitted WHERE request IS NOT NULL ORDER BY assistant, request
		ON CONFLICT (assistant_id, key) DO UPDATE
			SET body_hash = excluded.body_hash, run_id = excluded.run_id, expires_at = excluded.expires_at
			WHERE stored.expires_at <= clock_timestamp()
		RETURNING run_id
	),
	fresh AS MATERIALIZED (
		SELECT * FROM admitted WHERE request IS NULL OR run_id IN (SELECT run_id FROM record)
	),
	conversation AS (
		INSERT INTO {conversations} (id, assistant_id, subject, metadata, created_at, first_run_id, open_runs, last_event_id, last_message_id)
		SELECT conversation_id, assistant, subject, metadata, now, run_id, 1, CASE WHEN worker IS NULL THEN 1 ELSE 2 END, 1 FROM fresh
	),
	run AS (
		INSERT INTO {runs} (id, run_key, conversation_id, assistant_id, key_id, task, context, base_url, callback_url, callback_host, trace_parent,
			request_id, message_id, first_event_id, created_at)
		SELECT run_id, run_key, conversation_id, assistant, key_id, task, context, base, callback, host, trace, request_id, 1, 1, now FROM fresh
	),
	queued AS (
		INSERT INTO {queue} (run_id, conversation_id, native, leased, token, batch, attempts, last_sequence, waits_since,
			started_at, expires_at, worker, bounded_for)
		SELECT run_id, conversation_id, $2, taken, (run_id << 20) + taken::int, 0, taken::int, 1 + taken::int, now,
			CASE WHEN taken THEN now END, now + lease * interval '1 microsecond', coalesce(worker, ''),
			CASE WHEN bound IS NOT NULL THEN assistant END
		FROM (SELECT *, worker IS NOT NULL AS taken FROM fresh) f
	),
	message AS (
		INSERT INTO {messages} (conversation_id, id, run_id, role, content, created_at)
		SELECT conversation_id, 1, run_id, $3, message, now FROM fresh
	),
	logged AS (
		INSERT INTO {events} (conversation_id, id, run_id, sequence, type, payload, created_at)
		SELECT conversation_id, 1, run_id, 1, $4, $5, now FROM fresh
		UNION ALL
		SELECT conversation_id, 2, run_id, 2, $6, $7, now FROM fresh WHERE worker IS NOT NULL
	)
	SELECT ord, run_id, conversation_id, now FROM fresh`

// pgTrigger is a trigger in the input of pgAcceptText.
type pgTrigger struct {
	Ord       int     `json:"ord"`
	RunKey    string  `json:"run_key"`
	Assistant string  `json:"assistant"`
	KeyID     int64   `json:"key_id"`
	Subject   string  `json:"subject"`
	Message   string  `json:"message"`
	Context   *string `json:"context,omitempty"`
	Metadata  *string `json:"metadata,omitempty"`
	Task      *string `json:"task,omitempty"`
	Base      string  `json:"base"`
	Callback  string  `json:"callback"`
	Host      string  `json:"host"`
	Trace     string  `json:"trace"`
	RequestID string  `json:"request_id"`
	Worker    *string `json:"worker,omitempty"`
	Lease     int64   `json:"lease,omitempty"`
	Request   string  `json:"request,omitempty"`
	Hash      string  `json:"hash,omitempty"`
	TTL       int64   `json:"ttl,omitempty"`
	Bound     int     `json:"bound,omitempty"`
}

// pgAccept stores a batch of triggers. Those that join a conversation are stored
// one by one; they come from Go only.
func (s *Store) pgAccept(ctx context.Context, calls []*accepting) error {
	var alone, together []*accepting
	for _, c := range calls {
		if c.arg.ConversationID != 0 {
			alone = append(alone, c)
		} else {
			together = append(together, c)
		}
	}
	if len(together) > 0 {
		if err := s.pgAcceptTogether(ctx, together); err != nil {
			return err
		}
	}
	for _, c := range alone {
		c.result, c.err = s.acceptAlone(ctx, c.arg)
	}
	return nil
}

// pgAcceptTogether stores triggers no two of which are of one request. Those
// whose request was accepted before get the first answer.
func (s *Store) pgAcceptTogether(ctx context.Context, calls []*accepting) error {
	stored, err := s.pgAcceptStatement(ctx, calls)
	if err != nil {
		return s.wrap("create trigger", err)
	}
	for i, c := range calls {
		if stored[i] || c.err != nil {
			continue
		}
		run, err := s.Replay(ctx, c.arg.AssistantID, *c.arg.Idempotency)
		switch {
		case errors.Is(err, webtrigger.ErrNotFound): // the record expired in between
			c.result, c.err = s.acceptAlone(ctx, c.arg)
		case err != nil:
			c.err = err
		default:
			c.result = webtrigger.CreatedTrigger{Run: run, Replayed: true}
		}
	}
	return nil
}

// pgAcceptStatement runs pgAcceptText and reports which calls it has stored.
func (s *Store) pgAcceptStatement(ctx context.Context, calls []*accepting) (stored []bool, _ error) {
	input, err := pgTriggers(calls)
	if err != nil {
		return nil, err
	}
	var hint webtrigger.Hint
	switch {
	case s.opts.Enqueue != nil:
		stored, hint, err = s.pgAcceptWithEngine(ctx, input, calls)
	case len(boundedTriggers(calls)) > 0:
		err = s.transact(ctx, func(on session) (err error) {
			stored, hint, err = s.pgStoreBounded(ctx, on, input, calls)
			return err
		})
	default:
		stored, hint, err = s.pgStore(ctx, s.pool(), pgAcceptText, input, calls)
	}
	if err != nil {
		return nil, err
	}
	s.share(hint)
	return stored, nil
}

// pgAcceptWithEngine stores triggers in a transaction with the host's engine.
func (s *Store) pgAcceptWithEngine(ctx context.Context, input string, calls []*accepting) (stored []bool, hint webtrigger.Hint, _ error) {
	err := s.lender.transact(ctx, func(bunTx bun.Tx) (err error) {
		if stored, hint, err = s.pgStoreBounded(ctx, s.within(bunTx.Tx), input, calls); err != nil {
			return err
		}
		var queued []RunRef
		for i, c := range calls {
			if run := c.result.Run; stored[i] {
				queued = append(queued, RunRef{run.ID, run.Key, run.AssistantID})
			}
		}
		if len(queued) == 0 {
			return nil
		}
		return s.opts.Enqueue(ctx, bunTx, queued)
	})
	return stored, hint, err
}

// pgTriggers is the input of pgAcceptText.
func pgTriggers(calls []*accepting) (string, error) {
	triggers := make([]pgTrigger, len(calls))
	for i, c := range calls {
		t := &c.arg
		task, err := encodeTask(t.TaskDefinition)
		if err != nil {
			return "", err
		}
		triggers[i] = pgTrigger{
			Ord: i, RunKey: t.RunKey, Assistant: t.AssistantID, KeyID: t.KeyID, Subject: t.Input.Subject, Message: t.Input.Message,
			Context: optional(t.Input.Context), Metadata: optional(t.Input.Metadata), Task: task,
			Base: t.BaseURL, Callback: t.CallbackURL, Host: t.CallbackHost, Trace: t.TraceParent, RequestID: t.RequestID,
			Bound: t.MaxQueued,
		}
		if t.Claim != nil {
			triggers[i].Worker, triggers[i].Lease = &t.Claim.Worker, micros(t.Claim.Lease)
		}
		if use := t.Idempotency; use != nil {
			triggers[i].Request, triggers[i].Hash, triggers[i].TTL = use.Key, hex.EncodeToString(use.BodyHash[:]), micros(use.TTL)
		}
	}
	return encode(triggers)
}

// pgStore runs the statement and fills in the answers of what it has stored and of
// what has no place.
func (s *Store) pgStore(ctx context.Context, on session, text, input string, calls []*accepting) (stored []bool, hint webtrigger.Hint, _ error) {
	queued, started := webtrigger.QueuedEvent(), webtrigger.StartedEvent(1)
	rows, err := on.rows(ctx, text, input, s.opts.Enqueue == nil, string(webtrigger.RoleUser),
		string(queued.Type), string(queued.Payload), string(started.Type), string(started.Payload))
	stored = make([]bool, len(calls))
	err = each(rows, err, func(row scanner) error {
		var ord int
		var runID, conversationID int64
		var now time.Time
		if err := row.Scan(&ord, &runID, &conversationID, stamp{&now}); err != nil {
			return err
		}
		if runID == 0 {
			calls[ord].err = webtrigger.ErrQueueFull
			return nil
		}
		stored[ord] = true
		calls[ord].result = acceptedNow(&calls[ord].arg, runID, conversationID, now)
		if calls[ord].arg.Claim == nil {
			hint.Queued = s.opts.Enqueue == nil
		}
		hint.Conversations = append(hint.Conversations, conversationID)
		return nil
	})
	return stored, hint, err
}

// acceptedNow is the answer to a trigger that has just been stored.
func acceptedNow(t *webtrigger.NewTrigger, runID, conversationID int64, now time.Time) webtrigger.CreatedTrigger {
	accepted := webtrigger.CreatedTrigger{Run: webtrigger.Run{
		ID: runID, Key: t.RunKey, ConversationID: conversationID, AssistantID: t.AssistantID, KeyID: t.KeyID,
		Status: webtrigger.RunQueued, TaskDefinition: copyTask(t.TaskDefinition), BaseURL: t.BaseURL, CallbackURL: t.CallbackURL,
		TraceParent: t.TraceParent, RequestID: t.RequestID, CreatedAt: now,
	}}
	if t.Claim != nil {
		accepted.Run.Status, accepted.Run.Attempts, accepted.Run.StartedAt = webtrigger.RunRunning, 1, now
		accepted.Lease = &webtrigger.Lease{RunID: runID, Token: firstToken(runID) + 1}
	}
	return accepted
}
