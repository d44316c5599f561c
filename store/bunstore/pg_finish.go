package bunstore

import (
	"context"

	"github.com/webtrigger-go/webtrigger"
)

// pgFinishText ends the runs whose leases hold and for which no stop is recorded;
// the rest are missing in the answer. The last event of each call is the
// terminal one, the last message of a completed run its result. The others of a
// batch that stands already are left out.
var pgFinishText = `
	WITH input AS MATERIALIZED (
		SELECT * FROM json_to_recordset($1::json) AS i(ord int, run_id bigint, token bigint, batch bigint, events int, messages int,
			status text, detail text, error text, input_tokens bigint, output_tokens bigint, completed boolean)
	),` + pgHeld(` AND stop_status IS NULL`) + `,
	ending AS (
		SELECT *, sum(events - skipped) OVER earlier - (events - skipped) AS events_before,
			sum(messages) OVER earlier - messages AS messages_before
		FROM (SELECT *, CASE WHEN batch > stored THEN 0 ELSE events - 1 END AS skipped FROM held) h
		WINDOW earlier AS (PARTITION BY conversation_id ORDER BY run_id)
	),
	growth AS (
		SELECT conversation_id, sum(events - skipped) AS events, sum(messages) AS messages, count(*) AS ended
		FROM ending GROUP BY conversation_id
	),` + pgGrow + `,
	entries AS (
		SELECT h.conversation_id, h.events_before + x.k - h.skipped AS place, h.run_id, h.last_sequence + x.k - h.skipped AS sequence,
			x.t AS type, x.p AS payload, h.now
		FROM ending h JOIN ` + pgEntries("$2") + ` ON x.o = h.ord AND x.k > h.skipped
	),` + pgLog + `,
	said AS (
		INSERT INTO {messages} (conversation_id, id, run_id, role, content, created_at)
		SELECT h.conversation_id, grown.messages_before + h.messages_before + x.k, h.run_id, x.t, x.p, h.now
		FROM ending h JOIN ` + pgEntries("$3") + ` ON x.o = h.ord JOIN grown ON grown.id = h.conversation_id
	),
	gone AS (
		DELETE FROM {queue} q USING held WHERE q.run_id = ANY (ARRAY[held.run_id])
	),
	r AS (
		UPDATE {runs} r SET status = h.status, status_detail = h.detail, error_message = h.error, input_tokens = h.input_tokens,
			output_tokens = h.output_tokens, attempts = h.attempts, started_at = h.started_at, completed_at = h.now,
			result_message_id = CASE WHEN h.completed THEN grown.messages_before + h.messages_before + h.messages END
		FROM ending h JOIN grown ON grown.id = h.conversation_id
		WHERE r.id = ANY (ARRAY[h.run_id])
		RETURNING h.ord, r.*
	),
	owed AS (
		INSERT INTO {deliveries} (run_id, host, state, retry, created_at, due_at)
		SELECT id, callback_host, 'pending', 0, completed_at, completed_at FROM r WHERE callback_url <> ''
	),
	unsuccessful AS (
		INSERT INTO {unsuccessful} (status, run_id) SELECT status, id FROM r WHERE status <> 'completed'
	)
	SELECT ` + runColumns + `, r.ord FROM r
		LEFT JOIN {queue} q ON false LEFT JOIN {messages} m ON false`

// pgEnd is the end of a run in the input of pgFinishText.
type pgEnd struct {
	pgBatch
	Messages     int    `json:"messages"`
	Status       string `json:"status"`
	Detail       string `json:"detail"`
	Error        string `json:"error"`
	InputTokens  *int64 `json:"input_tokens,omitempty"`
	OutputTokens *int64 `json:"output_tokens,omitempty"`
	Completed    bool   `json:"completed"`
}

// pgFinish ends runs. Those with a recorded stop, which decides how they end, and
// those whose lease is lost are done one by one.
func (s *Store) pgFinish(ctx context.Context, calls []*call[ending, webtrigger.Run]) error {
	ends := make([]pgEnd, len(calls))
	var events, messages []entry
	for i, c := range calls {
		ends[i] = pgEndOf(i, &c.arg)
		events = appendEvents(events, i, append(c.arg.end.Events.Events[:len(c.arg.end.Events.Events):len(c.arg.end.Events.Events)],
			c.arg.end.Outcome.Event()))
		messages = appendMessages(messages, i, &c.arg.end)
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
	var hint webtrigger.Hint
	done := make([]bool, len(calls))
	rows, err := s.rows(ctx, pgFinishText, input, eventInput, messageInput)
	err = each(rows, err, func(row scanner) error {
		var ord int
		run, err := scanRun(row, &ord)
		if err != nil {
			return err
		}
		if run.Status == webtrigger.RunCompleted {
			run.Result = calls[ord].arg.end.Outcome.Result
		}
		done[ord], calls[ord].result = true, run
		hint.Conversations = append(hint.Conversations, run.ConversationID)
		hint.Pending = hint.Pending || run.CallbackURL != ""
		return nil
	})
	if err != nil {
		return s.wrap("finish run", err)
	}
	s.share(hint)
	for i, c := range calls {
		if !done[i] {
			c.result, c.err = s.finishAlone(ctx, c.arg)
		}
	}
	return nil
}

func pgEndOf(ord int, e *ending) pgEnd {
	outcome := e.end.Outcome
	end := pgEnd{
		pgBatch: pgBatch{
			pgLease: pgLease{ord, e.lease.RunID, e.lease.Token},
			Batch:   e.end.Events.Number,
			Events:  len(e.end.Events.Events) + 1,
		},
		Messages: len(e.end.Messages),
		Status:   string(outcome.Status), Detail: outcome.StatusDetail, Error: outcome.ErrorMessage,
		Completed: outcome.Status == webtrigger.RunCompleted,
	}
	if end.Completed {
		end.Messages++
	}
	if outcome.Usage != nil {
		end.InputTokens, end.OutputTokens = &outcome.Usage.InputTokens, &outcome.Usage.OutputTokens
	}
	return end
}

// appendMessages adds a call's messages to the entries of a statement, the result
// of a completed run last.
func appendMessages(entries []entry, call int, end *webtrigger.Finish) []entry {
	for k, m := range end.Messages {
		entries = append(entries, entry{call, k + 1, string(m.Role), m.Content})
	}
	if end.Outcome.Status == webtrigger.RunCompleted {
		entries = append(entries, entry{call, len(end.Messages) + 1, string(webtrigger.RoleAssistant), end.Outcome.Result})
	}
	return entries
}
