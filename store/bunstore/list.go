package bunstore

import (
	"context"
	"fmt"
	"strings"

	"github.com/webtrigger-go/webtrigger"
)

// Runs implements [webtrigger.RunStore].
func (s *Store) Runs(ctx context.Context, query webtrigger.RunQuery) ([]webtrigger.Run, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	text, args := s.list(query)
	rows, err := s.unprepared().rows(ctx, text, args...)
	runs, err := collect(rows, err, func(row scanner) (webtrigger.Run, error) { return scanSummary(row) })
	return runs, s.wrap("list runs", err)
}

// unprepared is the session, outside of any transaction, for what is best planned
// by its values: a filter without matches needs another plan than one that
// matches every row. A statement that was prepared gets one plan for both.
func (s *Store) unprepared() session {
	if s.postgres {
		return session{store: s}
	}
	return session{store: s, on: s.db.DB}
}

// list is the statement of a page of runs, and its arguments.
func (s *Store) list(query webtrigger.RunQuery) (text string, args []any) {
	var c conditions
	if query.AssistantID != "" {
		c.add("r.assistant_id = $", query.AssistantID)
	}
	switch query.Status {
	case "":
	case webtrigger.RunQueued: // few, and the queue has them all
		c.where = append(c.where, "r.id IN (SELECT run_id FROM {queue} WHERE state <> 'r')")
	case webtrigger.RunRunning:
		c.where = append(c.where, "r.id IN (SELECT run_id FROM {queue} WHERE state = 'r')")
	case webtrigger.RunCompleted: // most: a look at the newest runs finds them
		c.add("e.status = $", string(query.Status))
	default:
		c.add("r.id IN (SELECT run_id FROM {ends} WHERE status = $ AND status <> 'completed')", string(query.Status)) // as the index has it
	}
	if query.KeyID != 0 {
		c.add("r.key_id = $ AND r.key_id <> 0", query.KeyID) // as the index has it
	}
	if query.ConversationID != 0 { // as the index has it
		c.add(`r.id IN (SELECT id FROM {runs} WHERE id = $ AND conversation_id = $
			UNION ALL SELECT id FROM {runs} WHERE conversation_id = $ AND conversation_id <> id)`, query.ConversationID)
	}
	if !query.From.IsZero() {
		c.add("r.created_at >= $", s.at(query.From))
	}
	if !query.To.IsZero() {
		c.add("r.created_at < $", s.at(query.To))
	}
	text, args = c.page("r.id", query.Page)
	return `SELECT ` + summaryColumns + ` FROM ` + fromRuns + ` ` + text, args
}

// conditions narrow a list.
type conditions struct {
	where []string
	args  []any
}

// add adds a condition in which each $ is the argument.
func (c *conditions) add(condition string, arg any) {
	c.args = append(c.args, arg)
	c.where = append(c.where, strings.ReplaceAll(condition, "$", fmt.Sprintf("$%d", len(c.args))))
}

// page is the rest of the statement of a page by falling id, and its arguments.
func (c *conditions) page(id string, page webtrigger.Page) (text string, args []any) {
	if page.Before != 0 {
		c.add(id+" < $", page.Before)
	}
	condition := ""
	if len(c.where) > 0 {
		condition = "WHERE " + strings.Join(c.where, " AND ")
	}
	args = append(c.args, page.Limit)
	return fmt.Sprintf("%s ORDER BY %s DESC LIMIT $%d", condition, id, len(args)), args
}
