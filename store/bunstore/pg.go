package bunstore

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/webtrigger-go/webtrigger"
)

// The frequent transitions on Postgres: each is one statement that does a whole
// batch, and so one round trip and one commit. The input is one JSON text, which
// costs the server less than an array for each column.
//
// What a batch names is looked up by key, row by row, and the texts leave the
// planner no choice in that: one that has not seen the tables grow would rather
// hash a whole table, and a prepared statement keeps its plan until the next
// ANALYZE. So rows are read and locked in a LATERAL with a LIMIT, in the order of
// their keys, and changed where `id = ANY (ARRAY[x])`, which is an index's
// condition and no hash's.
//
// All parts of such a statement see the state before it, and a row can be changed
// once only. So each statement locks its rows in the queue ("held"), works out
// what every conversation gets in all ("growth"), lets the counters of each
// conversation grow once (pgGrow), and numbers the new events and messages from
// what the counters were before.

// pgGrow follows a part growth(conversation_id, events, messages, ended): what a
// batch adds to each conversation. It locks the conversations by ascending id.
// grown tells the counters before.
const pgGrow = `
	locked AS MATERIALIZED (
		SELECT g.* FROM (SELECT * FROM growth ORDER BY conversation_id) g
		CROSS JOIN LATERAL (SELECT FROM {conversations} WHERE id = g.conversation_id LIMIT 1 FOR UPDATE) c
	),
	grown AS (
		UPDATE {conversations} c SET last_event_id = c.last_event_id + g.events,
			last_message_id = c.last_message_id + g.messages, open_runs = c.open_runs - g.ended
		FROM locked g WHERE c.id = ANY (ARRAY[g.conversation_id])
		RETURNING c.id, c.last_event_id - g.events AS events_before, c.last_message_id - g.messages AS messages_before
	)`

// pgLog follows pgGrow and a part entries(conversation_id, place, run_id,
// sequence, type, payload, now): the new events, placed from 1 within their
// conversation.
const pgLog = `
	logged AS (
		INSERT INTO {events} (conversation_id, id, run_id, sequence, type, payload, created_at)
		SELECT e.conversation_id, grown.events_before + e.place, e.run_id, e.sequence, e.type, e.payload, e.now
		FROM entries e JOIN grown ON grown.id = e.conversation_id
	)`

// pgHeld locks the runs whose leases hold, and for which the condition holds, of
// an input(ord, run_id, token, …).
func pgHeld(condition string) string {
	return `
	held AS MATERIALIZED (
		SELECT i.*, q.conversation_id, q.batch AS stored, q.last_sequence, q.attempts, q.started_at, clock_timestamp() AS now
		FROM (SELECT * FROM input ORDER BY run_id) i CROSS JOIN LATERAL (
			SELECT * FROM {queue} WHERE run_id = i.run_id AND token = i.token AND leased AND expires_at > clock_timestamp()` + condition + `
			LIMIT 1 FOR UPDATE
		) q
	)`
}

// entry is an event or a message in the input of a statement.
type entry struct {
	Call    int    `json:"o"` // the call that it belongs to
	Number  int    `json:"k"` // counts from 1 within the call
	Kind    string `json:"t"` // type or role
	Content string `json:"p"`
}

// pgEntries is a list of entries as a table, given its argument.
func pgEntries(arg string) string {
	return `json_to_recordset(` + arg + `::json) AS x(o int, k int, t text, p text)`
}

// encode is the input of a statement.
func encode[T any](list []T) (string, error) {
	if list == nil {
		return "[]", nil
	}
	b, err := json.Marshal(list)
	if err != nil {
		return "", fmt.Errorf("bunstore: encode input: %w", err)
	}
	return string(b), nil
}

// payloadTemplate is the payload of an event around the number that only the
// database knows.
type payloadTemplate struct{ before, after string }

// templateOf finds the number in an event's payload.
func templateOf(event func(n int) webtrigger.NewEvent) payloadTemplate {
	const mark = 918273645
	before, after, _ := strings.Cut(string(event(mark).Payload), strconv.Itoa(mark))
	return payloadTemplate{before, after}
}
