package bunstore

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
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
	c := s.runConditions(query)
	text, args = c.pageIn(order{"r.id", query.OldestFirst}, query.Page)
	return `SELECT ` + summaryColumns + ` FROM ` + fromRuns + ` ` + text, args
}

// runConditions are those of the runs r, with their queue rows q and ends e.
func (s *Store) runConditions(query webtrigger.RunQuery) (c conditions) {
	if query.AssistantID != "" {
		c.add("r.assistant_id = $", query.AssistantID)
	}
	c.statuses(query.Statuses)
	if query.KeyID != 0 {
		c.add("r.key_id = $ AND r.key_id <> 0", query.KeyID) // as the index has it
	}
	if query.ConversationID != 0 { // as the index has it
		c.add(`r.id IN (SELECT id FROM {runs} WHERE id = $ AND conversation_id = $
			UNION ALL SELECT id FROM {runs} WHERE conversation_id = $ AND conversation_id <> id)`, query.ConversationID)
	}
	if query.TaskDefinitionID != 0 {
		c.add("{task id} = $ AND r.task IS NOT NULL", `{"ID":`+strconv.FormatInt(query.TaskDefinitionID, 10)) // as the index has it
	}
	c.callbacks(query.CallbackStates)
	if !query.From.IsZero() {
		c.add("r.created_at >= $", s.at(query.From))
	}
	if !query.To.IsZero() {
		c.add("r.created_at < $", s.at(query.To))
	}
	if len(query.IDs) > 0 {
		places := make([]string, len(query.IDs))
		for i, id := range query.IDs {
			c.args = append(c.args, id)
			places[i] = "$" + strconv.Itoa(len(c.args))
		}
		c.where = append(c.where, "r.id IN ("+strings.Join(places, ", ")+")")
	}
	return c
}

// RunTexts implements [webtrigger.RunStore].
func (s *Store) RunTexts(ctx context.Context, query webtrigger.RunQuery, all bool) ([]webtrigger.RunTexts, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	c := s.runConditions(query)
	text, args := c.pageIn(order{"r.id", query.OldestFirst}, query.Page)
	texts := "'', NULL, NULL"
	if all {
		texts = fmt.Sprintf("r.message, substr(e.result, 1, %d), CASE WHEN {bytes of metadata} <= %d THEN r.metadata END",
			webtrigger.SearchedResultRunes, webtrigger.SearchedMetadataBytes)
	}
	rows, err := s.unprepared().rows(ctx, `SELECT r.id, r.run_key, r.created_at, `+statusColumn+`, r.subject, r.request_id, coalesce(e.error_message, ''),
		coalesce(e.status_detail, ''), `+texts+` FROM {runs} r LEFT JOIN {queue} q ON q.run_id = r.id LEFT JOIN {ends} e ON e.run_id = r.id `+text, args...)
	found, err := collect(rows, err, func(row scanner) (t webtrigger.RunTexts, _ error) {
		var result sql.NullString
		err := row.Scan(&t.RunID, &t.RunKey, stamp{&t.CreatedAt}, &t.Status, &t.Subject, &t.RequestID, &t.ErrorMessage,
			&t.StatusDetail, &t.Message, &result, raw{&t.Metadata})
		t.Result = result.String
		return t, err
	})
	return found, s.wrap("read texts of runs", err)
}

// statuses narrows to runs with one of some statuses. Unfinished runs are few, and the
// queue has them all; an index has those that did not complete. Completed ones are most:
// a look at the newest runs finds them.
func (c *conditions) statuses(statuses []webtrigger.RunStatus) {
	if len(statuses) == 0 {
		return
	}
	var completed bool
	var open, ended []string
	for _, status := range statuses {
		switch status {
		case webtrigger.RunQueued:
			open = append(open, "state IN ('q', 'b')")
		case webtrigger.RunRunning:
			open = append(open, "state = 'r'")
		case webtrigger.RunWaiting:
			open = append(open, "state = 'w' AND wake_at IS NOT NULL") // as the index has it
		case webtrigger.RunCompleted:
			completed = true
		default:
			ended = append(ended, string(status))
		}
	}
	if completed {
		condition := c.list("{status}", append(ended, string(webtrigger.RunCompleted)))
		if len(open) > 0 {
			condition = "(" + condition + " OR r.id IN (SELECT run_id FROM {queue} WHERE " + strings.Join(open, " OR ") + "))"
		}
		c.where = append(c.where, condition)
		return
	}
	var parts []string
	if len(open) > 0 {
		parts = append(parts, "SELECT run_id FROM {queue} WHERE "+strings.Join(open, " OR "))
	}
	if len(ended) > 0 {
		parts = append(parts, "SELECT run_id FROM {ends} WHERE "+c.list("status", ended)+" AND status <> 'completed'") // as the index has it
	}
	c.where = append(c.where, "r.id IN ("+strings.Join(parts, " UNION ALL ")+")")
}

// callbacks narrows to runs whose last delivery has one of some states. Each kind of state
// is found by its own index.
func (c *conditions) callbacks(states []webtrigger.DeliveryState) {
	const last = " AND NOT EXISTS (SELECT 1 FROM {deliveries} l WHERE l.run_id = d.run_id AND l.id > d.id)"
	var failed, open []string
	var parts []string
	for _, state := range states {
		switch {
		case isUnsuccessful(state):
			failed = append(failed, string(state))
		case state == webtrigger.DeliveryDelivered: // most
			parts = append(parts, "r.callback_url <> '' AND (SELECT d.state FROM {deliveries} d WHERE d.run_id = r.id ORDER BY d.id DESC LIMIT 1) = 'delivered'")
		default: // at most one of a run, which is its last
			open = append(open, string(state))
		}
	}
	if len(failed) > 0 {
		parts = append(parts, "r.id IN (SELECT d.run_id FROM {deliveries} d WHERE "+c.list("d.state", failed)+" AND d.state IN "+unsuccessful+last+")")
	}
	if len(open) > 0 {
		parts = append(parts, "r.id IN (SELECT d.run_id FROM {deliveries} d WHERE "+c.list("d.state", open)+" AND d.state IN ('pending', 'sending'))")
	}
	if len(parts) > 0 {
		c.where = append(c.where, "("+strings.Join(parts, " OR ")+")")
	}
}

// CountRuns implements [webtrigger.RunStore]. Each status has a statement of its own, as
// each is found in another place.
func (s *Store) CountRuns(ctx context.Context, query webtrigger.RunQuery, limit int) (map[webtrigger.RunStatus]int, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	statuses := query.Statuses
	if len(statuses) == 0 {
		statuses = []webtrigger.RunStatus{webtrigger.RunQueued, webtrigger.RunRunning, webtrigger.RunWaiting, webtrigger.RunCompleted,
			webtrigger.RunFailed, webtrigger.RunCancelled, webtrigger.RunTimedOut}
	}
	counts := make(map[webtrigger.RunStatus]int)
	for _, status := range statuses {
		query.Statuses = []webtrigger.RunStatus{status}
		text, args := s.count(query, limit)
		var n int
		if err := s.unprepared().row(ctx, text, args...).Scan(&n); err != nil {
			return nil, s.wrap("count runs", err)
		}
		if n > 0 {
			counts[status] = n
		}
	}
	return counts, nil
}

// count is the statement that counts up to limit runs, the newest first, and its arguments.
func (s *Store) count(query webtrigger.RunQuery, limit int) (text string, args []any) {
	c := s.runConditions(query)
	text, args = c.page("r.id", webtrigger.Page{Limit: limit})
	return `SELECT count(*) FROM (SELECT r.id FROM {runs} r LEFT JOIN {queue} q ON q.run_id = r.id
		LEFT JOIN {ends} e ON e.run_id = r.id ` + text + `) r`, args
}

// RunLabels implements [webtrigger.RunStore].
func (s *Store) RunLabels(ctx context.Context, runIDs []int64) (map[int64]webtrigger.RunLabels, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	labels := make(map[int64]webtrigger.RunLabels, len(runIDs))
	rows, err := s.rows(ctx, `SELECT r.id, r.subject, coalesce(k.name, ''), coalesce(t.name, '') FROM {runs} r
		LEFT JOIN {api_keys} k ON k.id = r.key_id
		LEFT JOIN {task_definitions} t ON t.id = CAST(substr({task id}, 7) AS bigint)
		WHERE r.id {in ids}`, s.idList(runIDs))
	err = each(rows, err, func(row scanner) error {
		var id int64
		var l webtrigger.RunLabels
		err := row.Scan(&id, &l.Subject, &l.KeyName, &l.TaskName)
		labels[id] = l
		return err
	})
	return labels, s.wrap("read labels", err)
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

// in adds the condition that a column has one of some values.
func (c *conditions) in(column string, values []string) {
	c.where = append(c.where, c.list(column, values))
}

// list is that condition. Its values are arguments.
func (c *conditions) list(column string, values []string) string {
	places := make([]string, len(values))
	for i, value := range values {
		c.args = append(c.args, value)
		places[i] = "$" + strconv.Itoa(len(c.args))
	}
	return column + " IN (" + strings.Join(places, ", ") + ")"
}

// texts are the texts of a kind of string.
func texts[S ~string](list []S) []string {
	all := make([]string, len(list))
	for i, s := range list {
		all[i] = string(s)
	}
	return all
}

// page is the rest of the statement of a page by falling id, and its arguments.
func (c *conditions) page(id string, page webtrigger.Page) (text string, args []any) {
	return c.pageIn(order{id, false}, page)
}

// order is the order of a list.
type order struct {
	id     string
	rising bool
}

// pageIn is page in an order.
func (c *conditions) pageIn(by order, page webtrigger.Page) (text string, args []any) {
	beyond, direction := " < $", "DESC"
	if by.rising {
		beyond, direction = " > $", "ASC"
	}
	if page.Before != 0 {
		c.add(by.id+beyond, page.Before)
	}
	condition := ""
	if len(c.where) > 0 {
		condition = "WHERE " + strings.Join(c.where, " AND ")
	}
	args = append(c.args, page.Limit)
	return fmt.Sprintf("%s ORDER BY %s %s LIMIT $%d", condition, by.id, direction, len(args)), args
}
