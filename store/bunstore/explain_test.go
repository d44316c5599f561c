package bunstore_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// With 20,000 ended runs stored and 2,000 in the queue, no frequent statement
// reads a table whole.
func TestIndexes(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	name := schemas.Name(t)
	s := migrated(t, postgresDB(t, server.DSN(name)), nil)
	_, err := server.Psql(name, `
		INSERT INTO webtrigger_runs (run_key, conversation_id, assistant_id, key_id, base_url, callback_url, callback_host, trace_parent,
				request_id, subject, message, message_id, first_event_id, created_at)
			SELECT gen_random_uuid(), i, (i % 50)::text, 1, 'b', '', '', '', '', 's', 'm', 1, 1, now() FROM generate_series(1, 22000) i;
		INSERT INTO webtrigger_ends (run_id, token, last_sequence, started_sequence, last_message_id, result_message_id, completed_at, started_at,
				attempts, status, status_detail, error_message, result)
			SELECT i, 1, 3, 2, 2, 2, now(), now(), 1, CASE WHEN i % 100 = 0 THEN 'failed' ELSE 'completed' END, '', '', 'r' FROM generate_series(1, 20000) i;
		INSERT INTO webtrigger_conversations (id, assistant_id, subject, created_at, first_run_id, open_runs, last_event_id, last_message_id)
			SELECT i, (i % 50)::text, 's', now(), i, (i > 20000)::int, 1, 1 FROM generate_series(1, 22000, 20) i;
		INSERT INTO webtrigger_messages SELECT i, 1, i, 'user', 'm', now() FROM generate_series(1, 22000) i;
		INSERT INTO webtrigger_events SELECT i, 1, i, 1, 'x_step', '{}', now() FROM generate_series(1, 22000) i;
		INSERT INTO webtrigger_task_copies SELECT md5(i::text) || md5(i::text), 't', now() FROM generate_series(1, 10000) i;
		INSERT INTO webtrigger_purge_marks SELECT i, 3, 3, true FROM generate_series(1, 10000) i;
		INSERT INTO webtrigger_channels SELECT i::text, true, true FROM generate_series(1, 1000) i;
		INSERT INTO webtrigger_queue (run_id, conversation_id, key_id, token, batch, last_sequence, started_sequence, waits_since, process_id,
				attempts, state, native, bounded, shared, assistant_id)
			SELECT i, i, 1, 1, 0, 1, 0, now(), CASE WHEN i % 10 = 0 THEN (i % 1000)::text END, 0, CASE WHEN i % 10 = 0 THEN 'r' ELSE 'q' END, true, true, i % 20 = 1, (i % 50)::text
			FROM generate_series(20001, 22000) i;
		INSERT INTO webtrigger_processes (id, registered_at, expires_at, contact_since, lease, max_attempts)
			SELECT i::text, now(), now(), now(), 1, 1 FROM generate_series(1, 1000) i;
		INSERT INTO webtrigger_api_keys (assistant_id, name, prefix, hash, created_at)
			SELECT (i % 50)::text, 'n', 'p', decode(lpad(to_hex(i), 64, '0'), 'hex'), now() FROM generate_series(1, 2000) i;
		INSERT INTO webtrigger_deliveries (run_id, assistant_id, host, state, retry, created_at, due_at)
			SELECT i, (i % 50)::text, 'host' || i % 20, CASE WHEN i % 100 = 0 THEN 'pending' ELSE 'delivered' END, 0, now(), now() FROM generate_series(1, 20000) i;
		INSERT INTO webtrigger_idempotency_keys SELECT (i % 50)::text, i::text, '', i, now() FROM generate_series(1, 20000) i;
		ANALYZE`)
	require.NoError(t, err)
	for what, plan := range genericPlans(t, server, name, s) {
		for line := range strings.Lines(plan) {
			assert.NotContains(t, line, "Seq Scan on webtrigger_", "%s:\n%s", what, plan)
		}
	}
}

// A statement that was prepared when the tables were new, or the queue was empty,
// keeps its plan while they grow. It looks rows up one by one all the same, and
// reads no table and no index whole.
func TestPlansOfNewTables(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	for state, prepare := range map[string]string{
		"new": ``,
		"emptied": `INSERT INTO webtrigger_queue (run_id, conversation_id, key_id, token, batch, last_sequence, started_sequence, waits_since,
				attempts, state, native, bounded, shared, assistant_id)
			SELECT i, i, 1, 1, 0, 1, 0, now(), 0, CASE WHEN i % 2 = 0 THEN 'r' ELSE 'q' END, true, true, i % 3 = 1, '1' FROM generate_series(1, 10000) i;
			DELETE FROM webtrigger_queue WHERE run_id < 9999; ANALYZE webtrigger_queue; DELETE FROM webtrigger_queue; VACUUM ANALYZE webtrigger_queue`,
	} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			name := schemas.Name(t)
			s := migrated(t, postgresDB(t, server.DSN(name)), nil)
			if prepare != "" {
				_, err := server.Psql(name, prepare)
				require.NoError(t, err)
			}
			for what, plan := range genericPlans(t, server, name, s) {
				lines := slices.Collect(strings.Lines(plan))
				for i, line := range lines {
					assert.NotContains(t, line, "Seq Scan on webtrigger_", "%s:\n%s", what, plan)
					if strings.Contains(line, "Scan") && strings.Contains(line, " on webtrigger_") && !readInOrder(line) {
						assert.Regexp(t, `(Index|Recheck) Cond`, lines[i+1], "%s:\n%s", what, plan)
					}
				}
			}
		})
	}
}

// readInOrder reports whether a plan uses an index of queued runs only.
func readInOrder(line string) bool {
	return strings.Contains(line, "queue_waiting") || strings.Contains(line, "queue_lanes")
}

// genericPlans are how the frequent statements are executed whatever their arguments,
// which follow their texts. One psql reads them all.
func genericPlans(t *testing.T, server *pgtest.Server, database string, s *bunstore.Store) map[string]string {
	t.Helper()
	const heading = "plan of "
	script := "SET plan_cache_mode = force_generic_plan;\n"
	for what, text := range bunstore.HotStatements {
		statement, args, _ := strings.Cut(s.SQL(text), ";")
		if args != "" {
			args = "(" + strings.ReplaceAll(args, ";", ", ") + ")"
		}
		script += fmt.Sprintf("\\echo '%s%s'\nPREPARE hot AS %s;\nEXPLAIN EXECUTE hot%s;\nDEALLOCATE hot;\n", heading, what, statement, args)
	}
	out, err := server.Psql(database, script)
	require.NoError(t, err)
	plans := make(map[string]string)
	for part := range strings.SplitSeq(out, heading) {
		if what, plan, ok := strings.Cut(part, "\n"); ok {
			require.Contains(t, plan, "(cost=", what)
			plans[what] = plan
		}
	}
	require.Len(t, plans, len(bunstore.HotStatements))
	return plans
}
