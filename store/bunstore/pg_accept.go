package bunstore

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
)

// The statements that store triggers, each with a conversation of its own: single
// ones, so that a trigger is a row of runs and one of the queue.
//
// The input names what all its triggers have in common once: $2 is whether the
// native queue has the runs, $3 the base URL, and $4 the claiming process. A trigger
// that differs has its own.
const (
	pgAcceptText = pgAcceptInput + `,` + pgAdmit + pgUnbounded + `),
	fresh AS MATERIALIZED (SELECT * FROM admitted),` + pgAcceptStore

	// pgAcceptKeyedText is pgAcceptText for triggers with idempotency keys. It stores
	// those that make their record; the rest are missing in the answer.
	pgAcceptKeyedText = pgAcceptInput + `,` + pgAdmit + pgUnbounded + `),` + pgRecord + pgAcceptStore
)

// pgAcceptInput begins the statement. It tries the lock of each idempotency key, and that
// of an expired record of the key, which another transaction may be deleting: a trigger
// whose key or record is locked is not free, and the statement does not wait for it. Nor
// is a trigger free whose record is live. A trigger is claimed if its process requests the
// run and may claim. permitted are the keys of NewTrigger.CheckKey that permit triggers.
const pgAcceptInput = `
	WITH input AS MATERIALIZED (
		SELECT ord, run_key, assistant, key_id, subject, message, context, metadata, task, callback, host, trace, request_id,
			coalesce(base, $3) AS base, coalesce(wanted, false) AS wanted, coalesce(process, $4) AS process, token,
			coalesce(wanted, false) AND (SELECT true FROM {processes} p WHERE p.id = coalesce(i.process, $4) AND p.lost_at IS NULL LIMIT 1)
				IS TRUE AS taken,
			coalesce(checked, false) AS checked, copy, request, hash, ttl, bound, CASE WHEN request IS NULL THEN true WHEN NOT pg_try_advisory_xact_lock(lock) THEN false
				ELSE coalesce((
					SELECT k.expires_at <= clock_timestamp() AND EXISTS (SELECT FROM {idempotency_keys}
						WHERE assistant_id = i.assistant AND key = i.request LIMIT 1 FOR UPDATE SKIP LOCKED)
					FROM {idempotency_keys} k WHERE k.assistant_id = i.assistant AND k.key = i.request LIMIT 1
				), true) END AS free
		FROM json_to_recordset($1::json) AS i(ord int, run_key uuid, assistant text, key_id bigint, subject text, message text,
			context text, metadata text, task text, copy text, callback text, host text, trace text, request_id text, base text,
			wanted boolean, process text, token bigint, request text, hash text, lock bigint, ttl bigint, bound bigint, checked boolean)
	),
	permitted AS MATERIALIZED (
		SELECT k.id, i.assistant, c.calls FROM (SELECT DISTINCT key_id, assistant FROM input WHERE checked) i
		CROSS JOIN LATERAL (
			SELECT id FROM {api_keys} WHERE id = i.key_id AND assistant_id = i.assistant AND revoked_at IS NULL
				AND (expires_at IS NULL OR expires_at > clock_timestamp()) LIMIT 1
		) k
		CROSS JOIN LATERAL (SELECT allow_callback_urls AS calls FROM {channels} WHERE assistant_id = i.assistant AND enabled LIMIT 1) c
	)`

// pgPermitted is whether the API key of a trigger of the input permits it.
const pgPermitted = `(NOT checked OR (key_id, assistant) IN (SELECT id, assistant FROM permitted WHERE calls OR callback IS NULL))`

// pgAdmit gives the triggers that may be stored their ids. Conditions may follow. A
// trigger gets none if the copy of its task definition is being deleted.
const pgAdmit = `
	held AS MATERIALIZED (
		SELECT c.hash FROM (SELECT DISTINCT copy FROM input WHERE copy IS NOT NULL) i
		CROSS JOIN LATERAL (SELECT hash FROM {task_copies} WHERE hash = i.copy LIMIT 1 FOR KEY SHARE SKIP LOCKED) c
	),
	admitted AS MATERIALIZED (
		SELECT i.*, nextval('{runs}_id_seq') AS run_id, clock_timestamp() AS now FROM input i
		WHERE free AND ` + pgPermitted + ` AND (copy IS NULL OR copy IN (SELECT hash FROM held))`

// pgUnbounded omits a run with a bound that must be queued because its process must not
// claim it: the lock of the bound is not held.
const pgUnbounded = ` AND (bound IS NULL OR taken)`

// pgRecord makes the records of idempotency keys, in one order for all.
const pgRecord = `
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
	),`

// pgAcceptStore stores the triggers of fresh.
const pgAcceptStore = `
	run AS (
		INSERT INTO {runs} (id, conversation_id, key_id, message_id, first_event_id, created_at, run_key, assistant_id, subject, message,
			context, metadata, task, base_url, callback_url, callback_host, trace_parent, request_id)
		SELECT run_id, run_id, coalesce(key_id, 0), 1, 1, now, run_key, assistant, coalesce(subject, ''), message,
			context, metadata, task, base, coalesce(callback, ''), coalesce(host, ''), coalesce(trace, ''), coalesce(request_id, '') FROM fresh
	),
	queued AS (
		INSERT INTO {queue} (run_id, conversation_id, key_id, token, batch, last_sequence, started_sequence, waits_since,
			started_at, attempts, state, native, bounded, shared, assistant_id, process_id)
		SELECT run_id, run_id, coalesce(key_id, 0), CASE WHEN taken THEN token ELSE 0 END, 0, 1 + taken::int, 2 * taken::int, now,
			CASE WHEN taken THEN now END, taken::int,
			CASE WHEN taken THEN 'r' ELSE 'q' END, $2, bound IS NOT NULL, false, assistant, CASE WHEN taken THEN process END
		FROM fresh
	)
	SELECT ord, run_id, now, taken FROM fresh`

// pgTrigger is a trigger in the input of pgAcceptText.
type pgTrigger struct {
	Ord       int     `json:"ord"`
	RunKey    string  `json:"run_key"`
	Assistant string  `json:"assistant"`
	KeyID     int64   `json:"key_id,omitempty"`
	Subject   string  `json:"subject,omitempty"`
	Message   string  `json:"message"`
	Context   *string `json:"context,omitempty"`
	Metadata  *string `json:"metadata,omitempty"`
	Task      *string `json:"task,omitempty"`
	Copy      string  `json:"copy,omitempty"`
	Base      *string `json:"base,omitempty"`
	Callback  string  `json:"callback,omitempty"`
	Host      string  `json:"host,omitempty"`
	Trace     string  `json:"trace,omitempty"`
	RequestID string  `json:"request_id,omitempty"`
	Wanted    bool    `json:"wanted,omitempty"`
	Process   *string `json:"process,omitempty"`
	Token     int64   `json:"token,omitempty"`
	Request   string  `json:"request,omitempty"`
	Hash      string  `json:"hash,omitempty"`
	Lock      int64   `json:"lock,omitempty"`
	TTL       int64   `json:"ttl,omitempty"`
	Bound     int     `json:"bound,omitempty"`
	Checked   bool    `json:"checked,omitempty"`
}

// pgTriggers is the input of pgAcceptText: the triggers, and what those have in
// common that the first one has.
type pgTriggers struct {
	list, base, process string
	keyed               bool // some have idempotency keys
}

// pgAccept stores a batch of triggers that name no conversation, no two of which are
// of one request. Those whose idempotency key another transaction has locked, those with
// a bound whose process must not claim, and those whose copy of a task definition is
// deleted, are stored alone afterwards. Replays get the stored answer.
func (s *Store) pgAccept(ctx context.Context, calls []*accepting) error {
	stored, err := s.pgAcceptStatement(ctx, calls)
	if err != nil {
		return s.wrap("create trigger", err)
	}
	for i, c := range calls {
		if stored[i] || c.err != nil {
			continue
		}
		if c.arg.Idempotency == nil || c.arg.CheckKey {
			c.alone = true
			continue
		}
		run, err := s.Replay(ctx, c.arg.AssistantID, *c.arg.Idempotency)
		switch {
		case errors.Is(err, webtrigger.ErrNotFound): // not committed yet, or expired in between
			c.alone = true
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
	input, err := s.pgTriggersOf(calls)
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
		stored, hint, err = s.pgStore(ctx, s.pool(), input.text(), input, calls)
	}
	if err != nil {
		return nil, err
	}
	// Other processes cannot watch these conversations yet.
	s.shareAs(hint, webtrigger.Hint{Queued: hint.Queued})
	return stored, nil
}

// text is the statement for the triggers, without bounds.
func (input *pgTriggers) text() string {
	if input.keyed {
		return pgAcceptKeyedText
	}
	return pgAcceptText
}

// pgAcceptWithEngine stores triggers in a transaction with the host's engine.
func (s *Store) pgAcceptWithEngine(ctx context.Context, input pgTriggers, calls []*accepting) (stored []bool, hint webtrigger.Hint, _ error) {
	err := s.lender.transact(ctx, func(bunTx bun.Tx) (err error) {
		on := s.within(bunTx.Tx)
		if err = s.limit(ctx, on); err != nil {
			return err
		}
		if stored, hint, err = s.pgStoreBounded(ctx, on, input, calls); err != nil {
			return err
		}
		var queued []RunRef
		for i, c := range calls {
			if run := c.result.Run; stored[i] {
				queued = append(queued, RunRef{run.ID, run.Key, run.AssistantID})
			}
		}
		return s.enqueue(ctx, bunTx, queued)
	})
	return stored, hint, err
}

// pgTriggersOf is the input of a batch.
func (s *Store) pgTriggersOf(calls []*accepting) (input pgTriggers, err error) {
	list := make([]pgTrigger, len(calls))
	taking := false
	for i, c := range calls {
		t := &c.arg
		p := &list[i]
		*p = pgTrigger{
			Ord: i, RunKey: t.RunKey, Assistant: t.AssistantID, KeyID: t.KeyID, Subject: t.Input.Subject, Message: t.Input.Message,
			Context: optional(t.Input.Context), Metadata: optional(t.Input.Metadata), Bound: t.MaxQueued, Checked: t.CheckKey,
			Callback: t.CallbackURL, Host: t.CallbackHost, Trace: t.TraceParent, RequestID: t.RequestID,
		}
		p.Task, p.Copy = t.task, referredHash(t.task)
		if i == 0 {
			input.base = t.BaseURL
		} else if t.BaseURL != input.base {
			p.Base = &t.BaseURL
		}
		if t.Claim != nil {
			if p.Wanted, p.Token = true, t.Claim.Token; !taking {
				taking, input.process = true, t.Claim.ProcessID
			} else if t.Claim.ProcessID != input.process {
				p.Process = &t.Claim.ProcessID
			}
		}
		if use := t.Idempotency; use != nil {
			input.keyed = true
			p.Request, p.Hash, p.TTL = use.Key, hex.EncodeToString(use.BodyHash[:]), micros(use.TTL)
			p.Lock = s.requestLock(t.AssistantID, use.Key)
		}
	}
	input.list, err = encode(list)
	return input, err
}

// pgStore runs the statement and fills in the answers of what it has stored and of
// what has no place.
func (s *Store) pgStore(ctx context.Context, on session, text string, input pgTriggers, calls []*accepting) (stored []bool, hint webtrigger.Hint, _ error) {
	rows, err := on.rows(ctx, text, input.list, s.opts.Enqueue == nil, input.base, input.process)
	stored = make([]bool, len(calls))
	err = each(rows, err, func(row scanner) error {
		var ord int
		var runID int64
		var now time.Time
		var taken bool
		if err := row.Scan(&ord, &runID, stamp{&now}, &taken); err != nil {
			return err
		}
		if runID == 0 {
			calls[ord].err = webtrigger.ErrQueueFull
			return nil
		}
		stored[ord] = true
		calls[ord].result = acceptedNow(&calls[ord].arg.NewTrigger, runID, runID, taken, now)
		if !taken {
			hint.Queued = s.opts.Enqueue == nil
		}
		hint.Conversations = append(hint.Conversations, runID)
		return nil
	})
	return stored, hint, err
}

// acceptedNow is the answer to a trigger that this call has stored.
func acceptedNow(t *webtrigger.NewTrigger, runID, conversationID int64, claimed bool, now time.Time) webtrigger.CreatedTrigger {
	accepted := webtrigger.CreatedTrigger{Run: webtrigger.Run{
		ID: runID, Key: t.RunKey, ConversationID: conversationID, AssistantID: t.AssistantID, KeyID: t.KeyID,
		Status: webtrigger.RunQueued, TaskDefinition: copyTask(t.TaskDefinition), BaseURL: t.BaseURL, CallbackURL: t.CallbackURL,
		TraceParent: t.TraceParent, RequestID: t.RequestID, CreatedAt: now,
	}}
	if t.TaskDefinition != nil {
		accepted.Run.TaskDefinitionID = t.TaskDefinition.ID
	}
	if claimed {
		accepted.Run.Status, accepted.Run.Attempts, accepted.Run.StartedAt = webtrigger.RunRunning, 1, now
		accepted.Lease = &webtrigger.Lease{RunID: runID, Token: t.Claim.Token}
	}
	return accepted
}
