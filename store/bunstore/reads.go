package bunstore

import (
	"context"
	"database/sql"

	"github.com/google/uuid"

	"github.com/webtrigger-go/webtrigger"
)

// reading begins a method that reads.
func (s *Store) reading(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if err := ended(ctx); err != nil {
		return nil, nil, err
	}
	ctx, cancel := s.deadline(ctx)
	return ctx, cancel, nil
}

// RunByID implements [webtrigger.RunStore].
func (s *Store) RunByID(ctx context.Context, runID int64) (webtrigger.Run, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return webtrigger.Run{}, err
	}
	defer cancel()
	run, err := scanRun(s.row(ctx, `SELECT `+runColumns+` FROM `+fromRuns+` WHERE r.id = $1`, runID))
	return run, s.wrap("read run", err)
}

// RunByKey implements [webtrigger.RunStore].
func (s *Store) RunByKey(ctx context.Context, runKey string) (webtrigger.Run, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return webtrigger.Run{}, err
	}
	defer cancel()
	// Postgres takes other spellings of a UUID too; ours is one.
	if id, err := uuid.Parse(runKey); err != nil || id.String() != runKey {
		return webtrigger.Run{}, webtrigger.ErrNotFound
	}
	run, err := scanSummary(s.row(ctx, `SELECT `+summaryColumns+` FROM `+fromRuns+` WHERE r.run_key = $1`, runKey))
	return run, s.wrap("read run", err)
}

// RunSummary implements [webtrigger.RunStore].
func (s *Store) RunSummary(ctx context.Context, runID int64) (webtrigger.Run, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return webtrigger.Run{}, err
	}
	defer cancel()
	run, err := scanSummary(s.row(ctx, summaryText, runID))
	return run, s.wrap("read run", err)
}

const summaryText = `SELECT ` + summaryColumns + ` FROM ` + fromRuns + ` WHERE r.id = $1`

// ownerTexts read the assistant and the conversation of a resource.
var ownerTexts = map[webtrigger.ResourceKind]string{
	webtrigger.ResourceConversation: `SELECT assistant_id, id FROM {conversations} WHERE id = $1
		UNION ALL SELECT assistant_id, id FROM {runs} WHERE ` + ofSingle,
	webtrigger.ResourceRun:            `SELECT assistant_id, conversation_id FROM {runs} WHERE id = $1`,
	webtrigger.ResourceTaskDefinition: `SELECT assistant_id, 0 FROM {task_definitions} WHERE id = $1`,
	webtrigger.ResourceDelivery:       `SELECT r.assistant_id, r.conversation_id FROM ` + fromDeliveries + ` WHERE d.id = $1`,
}

// Owner implements [webtrigger.Store].
func (s *Store) Owner(ctx context.Context, kind webtrigger.ResourceKind, id int64) (owner webtrigger.Owner, _ error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return owner, err
	}
	defer cancel()
	err = s.row(ctx, ownerTexts[kind], id).Scan(&owner.AssistantID, &owner.ConversationID)
	return owner, s.wrap("read owner", err)
}

// RunInput implements [webtrigger.RunStore].
func (s *Store) RunInput(ctx context.Context, runID int64) (webtrigger.RunInput, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return webtrigger.RunInput{}, err
	}
	defer cancel()
	input, err := s.pool().input(ctx, runID)
	return input, s.wrap("read input", err)
}

func (q session) input(ctx context.Context, runID int64) (input webtrigger.RunInput, _ error) {
	err := q.row(ctx, `SELECT subject, message, context, metadata FROM {runs} WHERE id = $1`, runID).
		Scan(&input.Subject, &input.Message, raw{&input.Context}, raw{&input.Metadata})
	return input, err
}

// Conversation implements [webtrigger.RunStore].
func (s *Store) Conversation(ctx context.Context, conversationID int64) (webtrigger.Conversation, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return webtrigger.Conversation{}, err
	}
	defer cancel()
	c := webtrigger.Conversation{ID: conversationID}
	err = s.row(ctx, `SELECT assistant_id, coalesce(key, ''), subject, metadata, created_at FROM {conversations} WHERE id = $1
		UNION ALL SELECT assistant_id, '', subject, metadata, created_at FROM {runs} WHERE `+ofSingle, conversationID).
		Scan(&c.AssistantID, &c.Key, &c.Subject, raw{&c.Metadata}, stamp{&c.CreatedAt})
	if err != nil {
		return webtrigger.Conversation{}, s.wrap("read conversation", err)
	}
	return c, nil
}

// ofSingle selects, of the runs, the one of the single conversation $1.
const ofSingle = `id = $1 AND conversation_id = $1 AND NOT EXISTS (SELECT 1 FROM {conversations} WHERE id = $1)`

// Messages implements [webtrigger.RunStore].
func (s *Store) Messages(ctx context.Context, query webtrigger.MessageQuery) ([]webtrigger.Message, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	rows, err := s.rows(ctx, messagesText, query.ConversationID, query.After, query.Limit, query.RunID)
	messages, err := collect(rows, err, func(row scanner) (webtrigger.Message, error) {
		m := webtrigger.Message{ConversationID: query.ConversationID}
		return m, row.Scan(&m.ID, &m.RunID, &m.Role, &m.Content, scanCalls{&m}, stamp{&m.CreatedAt})
	})
	return messages, s.wrap("list messages", err)
}

// messagesText reads stored messages and, of a single conversation, the user's and
// the result: of all runs, or of the run $4. The first message of a run is the user's.
// Its last one is at most the conversation's last one when it ended.
const messagesText = `
	SELECT id, run_id, role, content, calls, created_at FROM (
		SELECT * FROM (SELECT id, run_id, role, content, calls, created_at FROM {messages}
			WHERE conversation_id = $1 AND id > $2 AND (run_id = $4 OR $4 = 0)
				AND id >= coalesce((SELECT message_id FROM {runs} WHERE id = $4), 0)
				AND id <= coalesce((SELECT nullif(last_message_id, 0) FROM {ends} WHERE run_id = $4), 9223372036854775807)
			ORDER BY id LIMIT $3) stored
		UNION ALL
		SELECT message_id, id, 'user', message, NULL, created_at FROM {runs} WHERE ` + ofSingle + ` AND message_id > $2 AND (id = $4 OR $4 = 0)
		UNION ALL
		SELECT e.result_message_id, r.id, 'assistant', e.result, NULL, e.completed_at
		FROM (SELECT id FROM {runs} WHERE ` + ofSingle + ` AND (id = $4 OR $4 = 0)) r JOIN {ends} e ON e.run_id = r.id
		WHERE e.result_message_id > $2
	) m ORDER BY id LIMIT $3`

// LastEventIDs implements [webtrigger.EventStore].
func (s *Store) LastEventIDs(ctx context.Context, conversationIDs []int64) (map[int64]int64, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	last := make(map[int64]int64, len(conversationIDs))
	rows, err := s.rows(ctx, lastEventsText, s.idList(conversationIDs))
	err = each(rows, err, func(row scanner) error {
		var id int64
		var event sql.NullInt64
		err := row.Scan(&id, &event)
		if event.Valid {
			last[id] = event.Int64
		}
		return err
	})
	return last, s.wrap("read last events", err)
}

// lastEventsText reads the last event of each conversation, NULL if it is absent.
const lastEventsText = `
	SELECT i.id, coalesce((SELECT last_event_id FROM {conversations} WHERE id = i.id),
		(SELECT coalesce(q.last_sequence, e.last_sequence, 1) FROM {runs} r LEFT JOIN {queue} q ON q.run_id = r.id LEFT JOIN {ends} e ON e.run_id = r.id
		WHERE r.id = i.id AND r.conversation_id = i.id))
	FROM {ids} i`
