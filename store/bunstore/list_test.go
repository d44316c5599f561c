package bunstore_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// listBegin is a second before the first run of fillRuns was created.
var listBegin = time.Date(2026, 4, 15, 10, 0, 0, 0, time.UTC)

// fillRuns stores n ended runs, one a second. One in a thousand has failed, all
// long ago; one key has one old run. One in four has a callback.
func fillRuns(t *testing.T, db *bun.DB, n int64) {
	t.Helper()
	key, finish := `printf('00000000-0000-4000-8000-%012d', i)`, []string{`ANALYZE`}
	if onPostgres(db) {
		key, finish = `gen_random_uuid()`, []string{ // as autovacuum does
			`SELECT brin_summarize_new_values('webtrigger_runs_created')`, `ANALYZE webtrigger_runs, webtrigger_ends`}
	}
	const chunk = 20_000 // the driver waits 10 s for an answer
	for from := int64(1); from <= n; from += chunk {
		to := min(n, from+chunk-1)
		execute(t, db, `INSERT INTO webtrigger_runs (id, run_key, conversation_id, assistant_id, key_id, base_url, callback_url, callback_host,
				trace_parent, request_id, subject, message, message_id, first_event_id, created_at)
			SELECT i, `+key+`, i, CAST(i % 10 AS text), CASE WHEN i = 500 THEN 7 ELSE i % 3 + 1 END, 'https://app.example.com',
				CASE WHEN i % 4 = 0 THEN 'https://host' || CAST(i % 20 AS text) || '/hook' ELSE '' END, CASE WHEN i % 4 = 0 THEN 'host' || CAST(i % 20 AS text) ELSE '' END,
				'', '', '', 'm', 1, 1, `+second(db, "i")+` FROM `+series(db, from, to, 1),
			fmt.Sprintf(`INSERT INTO webtrigger_ends (run_id, token, last_sequence, started_sequence, last_message_id, result_message_id,
				completed_at, started_at, attempts, status, status_detail, error_message, result)
			SELECT id, 1, 3, 2, 2, 2, created_at, created_at, 1, CASE WHEN id <= %[1]d / 2 AND id %% 500 = 0 THEN 'failed' ELSE 'completed' END,
				'', '', 'Here is the weekly report.' FROM webtrigger_runs WHERE id BETWEEN %[2]d AND %[3]d`, n, from, to))
	}
	execute(t, db, finish...)
}

func onPostgres(db *bun.DB) bool { return db.Dialect().Name().String() == "pg" }

// second is the time that lies some seconds, an expression, behind listBegin.
func second(db *bun.DB, seconds string) string {
	if onPostgres(db) {
		return `timestamptz '` + listBegin.Format(time.RFC3339) + `' + (` + seconds + `) * interval '1 second'`
	}
	return fmt.Sprintf(`%d + (%s) * 1000000`, listBegin.UnixMicro(), seconds)
}

// series is a table of the numbers i from one to another.
func series(db *bun.DB, from, to, step int64) string {
	if onPostgres(db) {
		return fmt.Sprintf(`generate_series(%d, %d, %d) i`, from, to, step)
	}
	return fmt.Sprintf(`(WITH RECURSIVE n(i) AS (SELECT %[1]d WHERE %[1]d <= %[2]d UNION ALL SELECT i + %[3]d FROM n WHERE i <= %[2]d - %[3]d) SELECT i FROM n)`, from, to, step)
}

func execute(t *testing.T, db *bun.DB, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
}

// listQueries are pages of n runs as fillRuns makes them, by each filter.
func listQueries(n int64) map[string]listQuery {
	middle := listBegin.Add(time.Duration(n/2) * time.Second)
	return map[string]listQuery{
		"none":             {webtrigger.RunQuery{}, 50, ""},
		"assistant":        {webtrigger.RunQuery{AssistantID: "3"}, 50, ""},
		"absent assistant": {webtrigger.RunQuery{AssistantID: "absent"}, 0, "runs_assistant"},
		"status":           {webtrigger.RunQuery{Statuses: []webtrigger.RunStatus{webtrigger.RunCompleted}}, 50, ""},
		"rare status":      {webtrigger.RunQuery{Statuses: []webtrigger.RunStatus{webtrigger.RunFailed}}, int(min(n/1000, 50)), "ends_unsuccessful"},
		"absent status":    {webtrigger.RunQuery{Statuses: []webtrigger.RunStatus{webtrigger.RunTimedOut}}, 0, "ends_unsuccessful"},
		"unfinished":       {webtrigger.RunQuery{Statuses: []webtrigger.RunStatus{webtrigger.RunRunning}}, 0, "queue"},
		"key":              {webtrigger.RunQuery{KeyID: 2}, 50, ""},
		"rare key":         {webtrigger.RunQuery{KeyID: 7}, 1, "runs_key"},
		"old":              {webtrigger.RunQuery{To: listBegin.Add(10 * time.Second)}, 9, "runs_created"},
		"new":              {webtrigger.RunQuery{From: listBegin.Add(time.Duration(n-9) * time.Second)}, 10, "runs_created"},
		"middle":           {webtrigger.RunQuery{From: middle, To: middle.Add(10 * time.Second)}, 10, "runs_created"},
		"older half":       {webtrigger.RunQuery{To: middle}, 50, ""},
		"all at once": {webtrigger.RunQuery{AssistantID: "0", Statuses: []webtrigger.RunStatus{webtrigger.RunFailed}, KeyID: 2, From: listBegin, To: middle},
			int(min(n/3000, 50)), "ends_unsuccessful"},
	}
}

type listQuery struct {
	query webtrigger.RunQuery
	first int    // runs on the first page
	by    string // the index or table by which Postgres finds them out of many; "": by the newest first
}

// manyRuns is how many runs WEBTRIGGER_LIST_RUNS asks for.
func manyRuns(t *testing.T, otherwise int64) int64 {
	t.Helper()
	many := os.Getenv("WEBTRIGGER_LIST_RUNS")
	if many == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(many, 10, 64)
	require.NoError(t, err)
	return n
}

// The list of runs answers every filter, the first page and one far down. With
// WEBTRIGGER_LIST_RUNS=100000 and -v it shows how long that takes out of so many.
func TestRunsOutOfMany(t *testing.T) {
	t.Parallel()
	n := manyRuns(t, 3000)
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		db := open()
		s := migrated(t, db, nil)
		fillRuns(t, db, n)
		for name, c := range listQueries(n) {
			for _, before := range []int64{0, n / 2} {
				c.query.Page = webtrigger.Page{Limit: 50, Before: before}
				best := time.Hour
				for range 3 {
					began := time.Now()
					runs, err := s.Runs(t.Context(), c.query)
					require.NoError(t, err)
					best = min(best, time.Since(began))
					if before == 0 {
						require.Len(t, runs, c.first, name)
					}
				}
				t.Logf("%-20s before %6d: %.2f ms", name, before, float64(best.Microseconds())/1000)
			}
		}
	})
}

// On Postgres no page is found by a look at all runs. With
// WEBTRIGGER_LIST_RUNS=100000 and -v it shows the plans out of so many.
func TestPlansOfLists(t *testing.T) {
	t.Parallel()
	n := manyRuns(t, 20_000)
	db := postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	fillRuns(t, db, n)
	for name, c := range listQueries(n) {
		c.query.Page.Limit = 50
		plan, err := s.Explain(t.Context(), "EXPLAIN (ANALYZE, BUFFERS)", c.query)
		require.NoError(t, err)
		t.Logf("%s:\n%s", name, plan)
		require.NotContains(t, plan, "Seq Scan on webtrigger_runs", name)
		require.NotContains(t, plan, "Seq Scan on webtrigger_ends", name)
		require.Contains(t, plan, "webtrigger_"+cmp.Or(c.by, "runs_pkey"), name)
	}

	// Nor is a plan kept that was good for other values.
	db.SetMaxOpenConns(1)
	_, err := s.Runs(t.Context(), webtrigger.RunQuery{KeyID: 7, Page: webtrigger.Page{Limit: 50}})
	require.NoError(t, err)
	var kept int
	require.NoError(t, db.NewRaw(`SELECT count(*) FROM pg_prepared_statements`).Scan(t.Context(), &kept))
	require.Zero(t, kept)
}

// On SQLite no page of completed runs, and no count of them, sorts all runs.
func TestRuns_completedOnSQLite_areNotSorted(t *testing.T) {
	t.Parallel()
	db := sqliteDB(t, "")
	s := migrated(t, db, nil)
	fillRuns(t, db, 3000)
	query := webtrigger.RunQuery{Statuses: []webtrigger.RunStatus{webtrigger.RunCompleted}, Page: webtrigger.Page{Limit: 50}}
	for name, explain := range map[string]func(context.Context, string, webtrigger.RunQuery) (string, error){
		"page": s.Explain, "count": s.ExplainCount,
	} {
		plan, err := explain(t.Context(), "EXPLAIN QUERY PLAN", query)
		require.NoError(t, err)
		require.Contains(t, plan, "SCAN r", name)
		require.NotContains(t, plan, "ORDER BY", name)
	}
}

// On Postgres no page of conversations is found by a look at all conversations or runs.
func TestConversations_outOfMany_plansUseIndexes(t *testing.T) {
	t.Parallel()
	const n = 20_000
	db := postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	fillRuns(t, db, n)
	for _, statement := range []string{
		`UPDATE webtrigger_runs SET conversation_id = id - id % 4 WHERE id % 4 < 2 AND id > 4`, // one in four conversations has two runs
		`INSERT INTO webtrigger_conversations (id, assistant_id, key, subject, created_at, first_run_id, open_runs, last_event_id, last_message_id)
			SELECT id, assistant_id, CASE WHEN id % 8 = 0 THEN 'ticket ' || id END, '', created_at, id, 0, 1, 1 FROM webtrigger_runs WHERE id % 4 = 0`,
		`ANALYZE`,
	} {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	for name, c := range map[string]struct {
		query webtrigger.ConversationQuery
		found int
		by    string
	}{
		"none":             {webtrigger.ConversationQuery{}, 50, "runs_pkey"},
		"old":              {webtrigger.ConversationQuery{Page: webtrigger.Page{Before: 9}}, 7, "runs_pkey"},
		"assistant":        {webtrigger.ConversationQuery{AssistantID: "2"}, 50, "runs_"},
		"absent assistant": {webtrigger.ConversationQuery{AssistantID: "absent"}, 0, "conversations_assistant"},
		"key":              {webtrigger.ConversationQuery{Key: "ticket 800"}, 1, "conversations_named"},
		"absent key":       {webtrigger.ConversationQuery{Key: "absent"}, 0, "conversations_named"},
		"key of assistant": {webtrigger.ConversationQuery{Key: "ticket 800", AssistantID: "0"}, 1, "conversations_"},
	} {
		c.query.Page.Limit = 50
		found, err := s.Conversations(t.Context(), c.query)
		require.NoError(t, err)
		require.Len(t, found, c.found, name)
		plan, err := s.ExplainConversations(t.Context(), "EXPLAIN (ANALYZE, BUFFERS)", c.query)
		require.NoError(t, err)
		t.Logf("%s:\n%s", name, plan)
		for _, table := range []string{"runs", "conversations", "ends"} {
			require.NotContains(t, plan, "Seq Scan on webtrigger_"+table, "%s:\n%s", name, plan)
		}
		require.Contains(t, plan, "webtrigger_"+c.by, "%s:\n%s", name, plan)
	}
}

// stopped stores a run that is cancelled at once.
func stopped(t *testing.T, s *bunstore.Store) webtrigger.Run {
	t.Helper()
	run, err := s.RequestStop(t.Context(), storeTrigger(t, s).ID, webtrigger.CancelStop(""), nil)
	require.NoError(t, err)
	require.Equal(t, webtrigger.RunCancelled, run.Status)
	return run
}

func TestErasedRunsAreInNoList(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		ctx, db := t.Context(), open()
		s := migrated(t, db, nil)
		kept, erased := stopped(t, s), stopped(t, s)
		require.NoError(t, s.EraseTrigger(ctx, erased.ConversationID))
		var left []int64
		require.NoError(t, db.NewRaw(`SELECT run_id FROM webtrigger_ends`).Scan(ctx, &left))
		require.Equal(t, []int64{kept.ID}, left)
	})
}
