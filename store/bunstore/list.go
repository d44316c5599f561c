package bunstore

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
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
	runs, err := listed(ctx, s, text, args, func(row scanner) (webtrigger.Run, error) { return scanSummary(row) })
	return runs, s.wrap("list runs", err)
}

// list is the statement of a page of runs, and its arguments.
func (s *Store) list(query webtrigger.RunQuery) (text string, args []any) {
	c := s.runConditions(query)
	text, args = c.pageIn(order{c.runID(), query.OldestFirst}, query.Page)
	return `SELECT ` + summaryColumns + ` FROM {runs} r ` + c.join + runParts + ` ` + text, args
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
	if len(query.CallbackStates) > 0 {
		c.callbacks(query.CallbackStates, query.AssistantID)
	}
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
	text, args := c.pageIn(order{c.runID(), query.OldestFirst}, query.Page)
	texts := "'', NULL, NULL"
	if all {
		texts = fmt.Sprintf("r.message, substr(e.result, 1, %d), CASE WHEN {bytes of metadata} <= %d THEN r.metadata END",
			webtrigger.SearchedResultRunes, webtrigger.SearchedMetadataBytes)
	}
	text = `SELECT r.id, r.run_key, r.created_at, ` + statusColumn + `, r.subject, r.request_id, coalesce(e.error_message, ''),
		coalesce(e.status_detail, ''), ` + texts + ` FROM {runs} r ` + c.join + `LEFT JOIN {queue} q ON q.run_id = r.id LEFT JOIN {ends} e ON e.run_id = r.id ` + text
	found, err := listed(ctx, s, text, args, func(row scanner) (t webtrigger.RunTexts, _ error) {
		var result sql.NullString
		err := row.Scan(&t.RunID, &t.RunKey, stamp{&t.CreatedAt}, &t.Status, &t.Subject, &t.RequestID, &t.ErrorMessage,
			&t.StatusDetail, &t.Message, &result, raw{&t.Metadata})
		t.Result = result.String
		return t, err
	})
	return found, s.wrap("read texts of runs", err)
}

// statuses narrows to runs with one of some statuses. Unfinished runs are few, and the
// queue has them all; an index has those that did not complete, each status in the order of
// runs. Completed ones are most: a look at the newest runs finds them.
func (c *conditions) statuses(statuses []webtrigger.RunStatus) {
	if len(statuses) == 0 {
		return
	}
	var open []string
	for _, status := range statuses {
		switch status {
		case webtrigger.RunQueued:
			open = append(open, "state IN ('q', 'b')")
		case webtrigger.RunRunning:
			open = append(open, "state = 'r'")
		case webtrigger.RunWaiting:
			open = append(open, "state = 'w' AND wake_at IS NOT NULL") // as the index has it
		}
	}
	unfinished := "SELECT run_id FROM {queue} WHERE " + strings.Join(open, " OR ")
	if slices.Contains(statuses, webtrigger.RunCompleted) {
		condition := "{status} IN " + literals(statuses, append(unsuccessfulEnds, webtrigger.RunCompleted)...)
		if len(open) > 0 {
			condition = "(" + condition + " OR r.id IN (" + unfinished + "))"
		}
		c.where = append(c.where, condition)
		return
	}
	var parts []string
	if len(open) > 0 {
		parts = append(parts, unfinished)
	}
	for _, status := range unsuccessfulEnds {
		if slices.Contains(statuses, status) {
			parts = append(parts, "SELECT run_id FROM {ends} WHERE status = '"+string(status)+"'{and not completed}")
		}
	}
	c.among("s", parts)
}

// unsuccessfulEnds are the statuses of the runs that a partial index of ends has.
var unsuccessfulEnds = []webtrigger.RunStatus{webtrigger.RunFailed, webtrigger.RunCancelled, webtrigger.RunTimedOut}

// literals is a list in SQL of those values that are among the known ones; "" for none.
// Postgres proves by them that a partial index has all rows. Arguments would leave that to
// the kind of the plan.
func literals[S ~string](values []S, known ...S) string {
	var list []string
	for _, value := range known {
		if slices.Contains(values, value) {
			list = append(list, "'"+string(value)+"'")
		}
	}
	if list == nil {
		return ""
	}
	return "(" + strings.Join(list, ", ") + ")"
}

// callbacks narrows to runs whose last delivery has one of some states. Each kind of state
// has an index in the order of runs, so that a page reads no more deliveries than it needs.
func (c *conditions) callbacks(states []webtrigger.DeliveryState, assistantID string) {
	of := ""
	if assistantID != "" {
		c.args = append(c.args, assistantID)
		of = fmt.Sprintf(" AND d.assistant_id IN ('', $%d)", len(c.args)) // '': an old one
	}
	var parts []string
	add := func(suffix string, kind ...webtrigger.DeliveryState) {
		if list := literals(states, kind...); list != "" {
			parts = append(parts, "SELECT d.run_id FROM {deliveries} d"+strings.Replace(suffix, "*", " WHERE d.state IN "+list+of, 1))
		}
	}
	add("{by failed runs}*{and unsuccessful} AND "+lastDelivery, unsuccessful...)
	add("*{and open}", webtrigger.DeliveryPending, webtrigger.DeliverySending) // at most one of a run, which is its last
	add("* AND "+lastDelivery, webtrigger.DeliveryDelivered)
	c.among("f", parts)
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
	var counts map[webtrigger.RunStatus]int
	err = s.lists(ctx, func(q session) error {
		counts = make(map[webtrigger.RunStatus]int)
		for _, status := range statuses {
			query.Statuses = []webtrigger.RunStatus{status}
			text, args := s.count(query, limit)
			var n int
			if err := q.row(ctx, text, args...).Scan(&n); err != nil {
				return err
			}
			if n > 0 {
				counts[status] = n
			}
		}
		return nil
	})
	return counts, s.wrap("count runs", err)
}

// count is the statement that counts up to limit runs, and its arguments. It begins at the end
// of the list that is not bounded by time.
func (s *Store) count(query webtrigger.RunQuery, limit int) (text string, args []any) {
	c := s.runConditions(query)
	text, args = c.pageIn(order{c.runID(), query.From.IsZero() && !query.To.IsZero()}, webtrigger.Page{Limit: limit})
	return `SELECT count(*) FROM (SELECT r.id FROM {runs} r ` + c.join + `LEFT JOIN {queue} q ON q.run_id = r.id
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
	rows, err := s.rows(ctx, `SELECT r.id, r.subject, coalesce(k.name, ''), coalesce(t.name, ''), q.waits_since FROM {runs} r
		LEFT JOIN {queue} q ON q.run_id = r.id AND q.state IN ('q', 'b')
		LEFT JOIN {api_keys} k ON k.id = r.key_id
		LEFT JOIN {task_definitions} t ON t.id = CAST(substr({task id}, 7) AS bigint)
		WHERE r.id {in ids}`, s.idList(runIDs))
	err = each(rows, err, func(row scanner) error {
		var id int64
		var l webtrigger.RunLabels
		err := row.Scan(&id, &l.Subject, &l.KeyName, &l.TaskName, stamp{&l.QueuedAt})
		labels[id] = l
		return err
	})
	return labels, s.wrap("read labels", err)
}

// conditions narrow a list.
type conditions struct {
	join  string // tables with a row for each run r of the list; "": none
	id    string // the run_id of one of them
	where []string
	args  []any
}

// among narrows to the runs of any of some queries, of which no two have the same run. A page
// of a join reads these in the order of the list, where each has an index in that order.
func (c *conditions) among(alias string, queries []string) {
	if len(queries) == 0 {
		c.where = append(c.where, "1 = 0")
		return
	}
	c.id = alias + ".run_id"
	c.join += "JOIN (" + strings.Join(queries, " UNION ALL ") + ") " + alias + " ON " + c.id + " = r.id "
}

// runID is the column by which a list of runs is ordered.
func (c *conditions) runID() string { return cmp.Or(c.id, "r.id") }

// add adds a condition in which each $ is the argument.
func (c *conditions) add(condition string, arg any) {
	c.args = append(c.args, arg)
	c.where = append(c.where, strings.ReplaceAll(condition, "$", fmt.Sprintf("$%d", len(c.args))))
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
