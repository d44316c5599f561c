package bunstore

import (
	"context"
	"database/sql"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// The statements that end the single runs whose leases are held and for which no stop is
// recorded; the rest, and those that another transaction has locked, are missing in the
// answer. The terminal event and the result are not among the entries: reads derive
// them. The events of a batch that is stored already are skipped.
var (
	// pgFinishText reads the runs, and makes their callbacks pending.
	pgFinishText = pgFinishEnd + `,
	r AS MATERIALIZED (
		SELECT h.ord, h.now, h.started_at, h.attempts, r.* FROM held h
		CROSS JOIN LATERAL (SELECT id, run_key, conversation_id, assistant_id, key_id, substr(task, 1, 64) AS task, base_url, callback_url,
			callback_host, trace_parent, request_id, created_at FROM {runs} WHERE id = h.run_id LIMIT 1) r
	),
	pending AS (
		INSERT INTO {deliveries} (run_id, assistant_id, host, state, retry, created_at, due_at)
		SELECT id, assistant_id, callback_host, 'pending', 0, now, now FROM r WHERE callback_url <> ''
	)
	SELECT ord, now, run_key, conversation_id, assistant_id, key_id, task, base_url, callback_url, trace_parent, request_id,
		created_at, attempts, started_at FROM r`

	// pgFinishKnownText is for runs that the callers know, and that have no callback.
	pgFinishKnownText = pgFinishEnd + `
	SELECT ord, now FROM held`
)

var pgFinishEnd = `
	WITH input AS MATERIALIZED (
		SELECT * FROM json_to_recordset($1::json) AS i(ord int, run_id bigint, token bigint, batch bigint, events int, messages int,
			status text, detail text, error text, input_tokens bigint, output_tokens bigint, result text)
	),` + pgHeld(` AND stop_status IS NULL`) + `,
	ending AS NOT MATERIALIZED (
		SELECT *, CASE WHEN batch > stored THEN events ELSE 0 END AS added FROM held
	),
	logged AS (
		INSERT INTO {events} (conversation_id, id, run_id, sequence, type, payload, created_at)
		SELECT h.conversation_id, h.last_sequence + x.k, h.run_id, h.last_sequence + x.k, x.t, x.p, h.now
		FROM ending h JOIN ` + pgEntries("$2") + ` ON x.o = h.ord AND x.k <= h.added
	),
	transcript AS (
		INSERT INTO {messages} (conversation_id, id, run_id, role, content, calls, created_at)
		SELECT h.conversation_id, 1 + x.k, h.run_id, x.t, x.p, x.c, h.now FROM held h JOIN ` + pgEntries("$3") + ` ON x.o = h.ord
	),
	gone AS (
		DELETE FROM {queue} q USING held WHERE q.run_id = ANY (ARRAY[held.run_id]) AND held.run_id + 0 = held.run_id
	),
	ended AS (
		INSERT INTO {ends} (run_id, token, last_sequence, started_sequence, last_message_id, result_message_id, input_tokens, output_tokens,
			completed_at, started_at, attempts, status, status_detail, error_message, result)
		SELECT run_id, token, last_sequence + added + 1, started_sequence, 1 + messages + (result IS NOT NULL)::int,
			CASE WHEN result IS NULL THEN 0 ELSE 2 + messages END, input_tokens, output_tokens,
			now, started_at, attempts, status, coalesce(detail, ''), coalesce(error, ''), result
		FROM ending
	)`

// pgEnd is the end of a run in the input of pgFinishText.
type pgEnd struct {
	pgBatch
	Messages     int     `json:"messages"` // without the result
	Status       string  `json:"status"`
	Detail       string  `json:"detail,omitempty"`
	Error        string  `json:"error,omitempty"`
	InputTokens  *int64  `json:"input_tokens,omitempty"`
	OutputTokens *int64  `json:"output_tokens,omitempty"`
	Result       *string `json:"result,omitempty"` // of a completed run
}

// pgFinish ends runs. Those that it does not end are left to be ended alone: a stop
// may be recorded, which decides how the run ends, or the last batch has steps.
func (s *Store) pgFinish(ctx context.Context, calls []*call[ending, webtrigger.Run]) error {
	ends := make([]pgEnd, 0, len(calls))
	var events, messages []entry
	known := true
	for i, c := range calls {
		c.alone = true // unless the answer has it
		if len(c.arg.end.Events.Steps) > 0 {
			continue
		}
		known = known && c.arg.known()
		ends = append(ends, pgEndOf(i, &c.arg))
		events = appendEvents(events, i, c.arg.end.Events.Events)
		for k, m := range c.arg.end.Messages {
			tools, err := encodeCalls(&m)
			if err != nil {
				return err
			}
			messages = append(messages, entry{i, k + 1, string(m.Role), m.Content, tools})
		}
	}
	input, err := encode(ends)
	if err != nil {
		return err
	}
	eventInput, err := encode(events)
	if err != nil {
		return err
	}
	messageInput, err := encode(messages)
	if err != nil {
		return err
	}
	text, read := pgFinishText, scanFinished
	if known {
		text, read = pgFinishKnownText, func(row scanner) (ord int, run webtrigger.Run, err error) {
			var now time.Time
			if err = row.Scan(&ord, stamp{&now}); err == nil {
				run = *calls[ord].arg.end.Claimed
				run.CompletedAt, run.TaskDefinition = now, nil
			}
			return ord, run, err
		}
	}
	var hint webtrigger.Hint
	rows, err := s.rows(ctx, text, input, eventInput, messageInput)
	err = each(rows, err, func(row scanner) error {
		ord, run, err := read(row)
		if err != nil {
			return err
		}
		c := calls[ord]
		run.ID = c.arg.lease.RunID
		run.Status, run.StatusDetail = c.arg.end.Outcome.Status, c.arg.end.Outcome.StatusDetail
		run.ErrorMessage, run.Result = c.arg.end.Outcome.ErrorMessage, c.arg.end.Outcome.Result
		if usage := c.arg.end.Outcome.Usage; usage != nil {
			run.Usage = &webtrigger.Usage{InputTokens: usage.InputTokens, OutputTokens: usage.OutputTokens}
		}
		if run.Status != webtrigger.RunCompleted {
			run.Result = ""
		}
		c.alone, c.result = false, run
		hint.Conversations = append(hint.Conversations, run.ConversationID)
		hint.Pending = hint.Pending || run.CallbackURL != ""
		return nil
	})
	if err != nil {
		return s.wrap("finish run", err)
	}
	s.share(hint)
	return nil
}

// scanFinished reads a row of pgFinishText. The outcome is the caller's to add.
func scanFinished(row scanner) (ord int, r webtrigger.Run, _ error) {
	var task sql.NullString // its beginning
	err := row.Scan(&ord, stamp{&r.CompletedAt}, &r.Key, &r.ConversationID, &r.AssistantID, &r.KeyID, &task, &r.BaseURL, &r.CallbackURL,
		&r.TraceParent, &r.RequestID, stamp{&r.CreatedAt}, &r.Attempts, stamp{&r.StartedAt})
	if task.Valid {
		r.TaskDefinitionID = taskID(task.String)
	}
	return ord, r, err
}

func pgEndOf(ord int, e *ending) pgEnd {
	outcome := &e.end.Outcome
	end := pgEnd{
		pgBatch: pgBatch{
			pgLease: pgLease{ord, e.lease.RunID, e.lease.Token},
			Batch:   e.end.Events.Number,
			Events:  len(e.end.Events.Events),
		},
		Messages: len(e.end.Messages),
		Status:   string(outcome.Status), Detail: outcome.StatusDetail, Error: outcome.ErrorMessage,
	}
	if outcome.Status == webtrigger.RunCompleted {
		end.Result = &outcome.Result
	}
	if outcome.Usage != nil {
		end.InputTokens, end.OutputTokens = &outcome.Usage.InputTokens, &outcome.Usage.OutputTokens
	}
	return end
}
