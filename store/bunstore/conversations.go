package bunstore

import (
	"context"
	"fmt"

	"github.com/webtrigger-go/webtrigger"
)

// Conversations implements [webtrigger.RunStore].
func (s *Store) Conversations(ctx context.Context, query webtrigger.ConversationQuery) ([]webtrigger.ConversationSummary, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	text, args := conversationList(query)
	list, err := listed(ctx, s, text, args, func(row scanner) (c webtrigger.ConversationSummary, err error) {
		c.LastRun, err = scanSummary(row, &c.ID, &c.AssistantID, &c.Key, &c.Subject, stamp{&c.CreatedAt})
		return c, err
	})
	return list, s.wrap("list conversations", err)
}

// conversationList is the statement of a page of conversations, and its arguments. A
// shared conversation has a row of its own. A single one is its only run. The page is
// cut before the newest runs are read.
func conversationList(query webtrigger.ConversationQuery) (text string, args []any) {
	var c conditions
	if query.AssistantID != "" {
		c.add("assistant_id = $", query.AssistantID)
	}
	if query.Key != "" {
		c.add("key = $ AND key IS NOT NULL", query.Key) // as the index has it
	}
	page, args := c.page("id", query.Page)
	listed := `SELECT * FROM (
			SELECT id, assistant_id, key, subject, created_at, coalesce(
				(SELECT id FROM {runs} WHERE conversation_id = s.id AND conversation_id <> id ORDER BY id DESC LIMIT 1), first_run_id) AS last_run
			FROM {conversations} s ` + page + `) shared`
	if query.Key == "" {
		c.where = append(c.where, `conversation_id = id AND NOT EXISTS (SELECT 1 FROM {conversations} s WHERE s.id = one.id)`)
		page, _ := c.page("id", webtrigger.Page{Limit: query.Page.Limit}) // Before is among the conditions already
		listed += `
		UNION ALL SELECT * FROM (SELECT id, assistant_id, NULL, subject, created_at, id FROM {runs} one ` + page + `) single`
	}
	return fmt.Sprintf(`SELECT %s, c.id, c.assistant_id, coalesce(c.key, ''), c.subject, c.created_at
		FROM (%s ORDER BY id DESC LIMIT $%d) c JOIN {runs} r ON r.id = c.last_run %s ORDER BY c.id DESC`,
		summaryColumns, listed, len(args), runParts), args
}
