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
// condition and no hash's. `x + 0 = x` beside it lets the planner expect one row to
// change: with the hundred that it expects of a JSON list, it would rather read a
// queue that was empty at the last ANALYZE whole. Conditions on state are written `state::text` where the
// row is looked up by its key: no partial index can then serve instead of the
// primary key.
//
// All parts of such a statement see the state before it, and a row can be changed
// once only. So each statement locks its rows in the queue ("held") and works out
// the rest from what it read under the lock.
//
// The statements change single conversations only, whose counters are in the queue,
// and do not wait for locks of other transactions. A call that is missing in the answer
// is done alone, by tx.

// pgHeld locks the single runs whose leases are held, and for which the condition
// holds, of an input(ord, run_id, token, batch, …). It leaves locked ones out.
func pgHeld(condition string) string {
	return `
	held AS MATERIALIZED (
		SELECT i.*, q.conversation_id, q.batch AS stored, q.last_sequence, q.started_sequence, q.attempts, q.started_at,
			clock_timestamp() AS now
		FROM (SELECT * FROM input ORDER BY run_id) i CROSS JOIN LATERAL (
			SELECT * FROM {queue} WHERE run_id = i.run_id AND token = i.token AND state::text = 'r' AND NOT shared` + condition + `
			LIMIT 1 FOR UPDATE SKIP LOCKED
		) q
	)`
}

// pgLease is a lease in the input of a statement.
type pgLease struct {
	Ord   int   `json:"ord"`
	RunID int64 `json:"run_id"`
	Token int64 `json:"token"`
}

// entry is an event or a message in the input of a statement.
type entry struct {
	Call    int     `json:"o"` // the call that it belongs to
	Number  int     `json:"k"` // counts from 1 within the call
	Kind    string  `json:"t"` // type or role
	Content string  `json:"p"`
	Calls   *string `json:"c,omitempty"` // of a message: see encodeCalls
}

// pgEntries is a list of entries as a table, given its argument.
func pgEntries(arg string) string {
	return `json_to_recordset(` + arg + `::json) AS x(o int, k int, t text, p text, c text)`
}

// encode is the input of a statement.
func encode[T any](list []T) (string, error) {
	if list == nil {
		return "[]", nil
	}
	var b strings.Builder // no copy of the bytes
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(list); err != nil {
		return "", fmt.Errorf("bunstore: encode input: %w", err)
	}
	return b.String(), nil
}

// payloadTemplate is the payload of an event around a number that the database sets.
type payloadTemplate struct{ before, after string }

// templateOf finds the number in an event's payload.
func templateOf(event func(n int) webtrigger.NewEvent) payloadTemplate {
	const mark = 918273645
	before, after, _ := strings.Cut(string(event(mark).Payload), strconv.Itoa(mark))
	return payloadTemplate{before, after}
}
