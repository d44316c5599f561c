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
	var where []string
	filter := func(condition string, arg any) {
		args = append(args, arg)
		where = append(where, strings.ReplaceAll(condition, "$", fmt.Sprintf("$%d", len(args))))
	}
	if query.AssistantID != "" {
		filter("r.assistant_id = $", query.AssistantID)
	}
	switch query.Status {
	case "":
	case webtrigger.RunQueued: // few, and the queue has them all
		where = append(where, "r.id IN (SELECT run_id FROM {queue} WHERE state <> 'r')")
	case webtrigger.RunRunning:
		where = append(where, "r.id IN (SELECT run_id FROM {queue} WHERE state = 'r')")
	case webtrigger.RunCompleted: // most: a look at the newest runs finds them
		filter("e.status = $", string(query.Status))
	default:
		filter("r.id IN (SELECT run_id FROM {ends} WHERE status = $ AND status <> 'completed')", string(query.Status)) // as the index has it
	}
	if query.KeyID != 0 {
		filter("r.key_id = $ AND r.key_id <> 0", query.KeyID) // as the index has it
	}
	if !query.From.IsZero() {
		filter("r.created_at >= $", s.at(query.From))
	}
	if !query.To.IsZero() {
		filter("r.created_at < $", s.at(query.To))
	}
	if query.Page.Before != 0 {
		filter("r.id < $", query.Page.Before)
	}
	condition := ""
	if len(where) > 0 {
		condition = "WHERE " + strings.Join(where, " AND ")
	}
	args = append(args, query.Page.Limit)
	return fmt.Sprintf(`SELECT `+summaryColumns+` FROM `+fromRuns+` %s ORDER BY r.id DESC LIMIT $%d`, condition, len(args)), args
}
