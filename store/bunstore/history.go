package bunstore

import (
	"context"

	"github.com/webtrigger-go/webtrigger"
)

// historyText reads the newest messages of the runs before the run $2 of a
// conversation: at most $3 messages of $4 bytes together.
//
// Ids of messages are not the order of runs: the user's message of a queued run is
// stored before the transcript of an earlier run. But each transcript is stored in one
// transaction, so its ids are adjacent. So runs can be counted off, newest first, by
// the ids alone, until they have enough messages. Only these messages are read.
const historyText = `
	WITH earlier AS (
		SELECT r.id AS run_id, r.message_id, coalesce(e.first_message_id, r.message_id + 1) AS low,
			CASE WHEN e.last_message_id > 0 THEN e.last_message_id WHEN e.run_id IS NOT NULL THEN c.last_message_id ELSE 0 END AS high
		FROM (
			SELECT id, message_id FROM (
				SELECT id, message_id FROM {runs} WHERE conversation_id = $1 AND conversation_id <> id AND id < $2
				UNION ALL
				SELECT id, message_id FROM {runs} WHERE id = $1 AND conversation_id = $1 AND id < $2
			) all_runs ORDER BY id DESC LIMIT $3
		) r
		LEFT JOIN {ends} e ON e.run_id = r.id
		LEFT JOIN {conversations} c ON c.id = $1
	),
	counted AS (
		SELECT *, coalesce(sum(CASE WHEN high >= low THEN high - low + 2 ELSE 1 END)
			OVER (ORDER BY run_id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS newer
		FROM earlier
	),
	near AS (SELECT * FROM counted WHERE newer < $3),
	listed AS (
		SELECT r.id AS run_id, r.message_id AS id, 'user' AS role, r.message AS content, NULL AS calls, r.created_at FROM near n JOIN {runs} r ON r.id = n.run_id
		UNION ALL
		SELECT m.run_id, m.id, m.role, m.content, m.calls, m.created_at
		FROM near n JOIN {messages} m ON m.conversation_id = $1 AND m.id >= n.low AND m.id <= n.high AND m.run_id = n.run_id
		UNION ALL
		SELECT e.run_id, e.result_message_id, 'assistant', e.result, NULL, e.completed_at
		FROM near n JOIN {ends} e ON e.run_id = n.run_id
		WHERE e.result_message_id > 0 AND NOT EXISTS (SELECT 1 FROM {conversations} WHERE id = $1)
	),
	cut AS (
		SELECT *, row_number() OVER newest AS place, sum(octet_length(content) + coalesce(octet_length(calls), 0)) OVER newest AS size FROM listed
		WINDOW newest AS (ORDER BY run_id DESC, id DESC)
	)
	SELECT id, run_id, role, content, calls, created_at FROM cut WHERE place <= $3 AND size <= $4 ORDER BY run_id, id`

// History implements [webtrigger.RunStore]. The statement is planned for each call: a
// prepared one would keep the plan of a conversation with few messages.
func (s *Store) History(ctx context.Context, query webtrigger.HistoryQuery) ([]webtrigger.Message, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	rows, err := s.unprepared().rows(ctx, historyText, query.ConversationID, query.BeforeRunID, query.MaxMessages, query.MaxBytes)
	messages, err := collect(rows, err, func(row scanner) (webtrigger.Message, error) {
		m := webtrigger.Message{ConversationID: query.ConversationID}
		return m, row.Scan(&m.ID, &m.RunID, &m.Role, &m.Content, scanCalls{&m}, stamp{&m.CreatedAt})
	})
	return messages, s.wrap("read history", err)
}
