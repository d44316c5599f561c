package bunstore_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

// The list of runs answers every filter, the first page and one far down. With
// WEBTRIGGER_LIST_RUNS=100000 and -v it shows how long that takes out of so many.
func TestRunsOutOfManyOnPostgres(t *testing.T) {
	t.Parallel()
	n := int64(2000)
	if many := os.Getenv("WEBTRIGGER_LIST_RUNS"); many != "" {
		var err error
		n, err = strconv.ParseInt(many, 10, 64)
		require.NoError(t, err)
	}
	db := postgresDB(t, pgtest.Database(t))
	s := migrated(t, db, nil)
	exec := func(statement string) {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
	start := time.Date(2026, 4, 15, 10, 0, 0, 0, time.UTC)
	// One in a thousand has failed, all long ago; one key has one old run.
	exec(fmt.Sprintf(`INSERT INTO webtrigger_runs (run_key, conversation_id, assistant_id, key_id, base_url, callback_url, callback_host,
			trace_parent, message_id, first_event_id, created_at, status, attempts, started_at, completed_at)
		SELECT gen_random_uuid(), i, (i %% 10)::text, CASE WHEN i = 500 THEN 7 ELSE i %% 3 + 1 END, 'https://app.example.com', '', '',
			'', 1, 1, timestamptz '2026-04-15 10:00:00+00' + i * interval '1 second',
			CASE WHEN i <= %[1]d / 2 AND i %% 500 = 0 THEN 'failed' ELSE 'completed' END, 1, now(), now()
		FROM generate_series(1, %[1]d) i`, n))
	exec(`ANALYZE webtrigger_runs`)
	for name, c := range map[string]struct {
		query webtrigger.RunQuery
		first int // runs on the first page
	}{
		"none":          {webtrigger.RunQuery{}, 50},
		"assistant":     {webtrigger.RunQuery{AssistantID: "3"}, 50},
		"status":        {webtrigger.RunQuery{Status: webtrigger.RunCompleted}, 50},
		"rare status":   {webtrigger.RunQuery{Status: webtrigger.RunFailed}, int(min(n/1000, 50))},
		"absent status": {webtrigger.RunQuery{Status: webtrigger.RunTimedOut}, 0},
		"unfinished":    {webtrigger.RunQuery{Status: webtrigger.RunRunning}, 0},
		"key":           {webtrigger.RunQuery{KeyID: 2}, 50},
		"rare key":      {webtrigger.RunQuery{KeyID: 7}, 1},
		"old":           {webtrigger.RunQuery{To: start.Add(10 * time.Second)}, 9},
		"new":           {webtrigger.RunQuery{From: start.Add(time.Duration(n-9) * time.Second)}, 10},
	} {
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
}
