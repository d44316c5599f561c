package bunstore_test

import (
	"fmt"
	"testing"

	"github.com/uptrace/bun"
)

// logDeliveries adds a delivery to one in four runs of fillRuns. One in 50 has failed, and
// one in five of these was redelivered.
func logDeliveries(t *testing.T, db *bun.DB, n int64) {
	t.Helper()
	refresh := `ANALYZE webtrigger_deliveries`
	if onPostgres(db) {
		refresh = `VACUUM ANALYZE webtrigger_deliveries` // as autovacuum does: block ranges get their bounds
	}
	const into = `INSERT INTO webtrigger_deliveries (run_id, assistant_id, host, state, retry, created_at, due_at)
		SELECT i, CAST(i % 10 AS text), 'host' || CAST(i % 20 AS text), `
	for from := int64(1); from <= n; from += 100_000 {
		to := min(n, from+100_000-1)
		execute(t, db,
			into+`CASE WHEN i % 200 = 0 THEN 'failed' ELSE 'delivered' END, 0, `+second(db, "i")+`, `+second(db, "i")+` FROM `+series(db, from+3, to, 4),
			into+`'delivered', 0, `+second(db, "i + 60")+`, `+second(db, "i + 60")+` FROM `+series(db, from+999, to, 1000))
	}
	execute(t, db, refresh)
}

// fillRest adds what the console shows beside n runs and their deliveries: open runs,
// conversations with keys, keys, tasks, a long run and the audit log.
func fillRest(t *testing.T, db *bun.DB, n int64) {
	t.Helper()
	yes, null, hash := "1", "'null'", "randomblob(32)"
	if onPostgres(db) {
		yes, hash = "true", "decode(lpad(to_hex(i), 64, '0'), 'hex')"
	}
	open := max(30, n/1000)
	execute(t, db,
		`INSERT INTO webtrigger_channels (assistant_id, enabled, allow_callback_urls) SELECT CAST(i AS text), `+yes+`, `+yes+` FROM `+series(db, 0, 9, 1),
		`INSERT INTO webtrigger_api_keys (assistant_id, name, prefix, hash, created_at)
			SELECT CAST(i % 10 AS text), 'Key ' || CAST(i AS text), 'abcd1234', `+hash+`, `+second(db, "i")+` FROM `+series(db, 1, 1000, 1),
		`INSERT INTO webtrigger_task_definitions (assistant_id, name, instructions, output_type, allowed_tools, approve_tools, active, created_at, updated_at)
			SELECT CAST(i % 10 AS text), 'Task ' || CAST(i AS text), 'Write.', 'text', `+null+`, `+null+`, `+yes+`, `+second(db, "i")+`, `+second(db, "i")+` FROM `+series(db, 1, 1000, 1),
		fmt.Sprintf(`INSERT INTO webtrigger_runs (id, run_key, conversation_id, assistant_id, key_id, base_url, callback_url, callback_host,
				trace_parent, request_id, subject, message, message_id, first_event_id, created_at)
			SELECT id + %d, %s, id + %[1]d, assistant_id, key_id, base_url, callback_url, callback_host, trace_parent, request_id, subject, message, 1, 1, created_at
			FROM webtrigger_runs WHERE id <= %[3]d`, n, map[bool]string{true: "gen_random_uuid()", false: "'open ' || id"}[onPostgres(db)], open),
		fmt.Sprintf(`INSERT INTO webtrigger_queue (run_id, conversation_id, key_id, token, batch, last_sequence, started_sequence, waits_since, started_at,
				attempts, state, native, bounded, shared, assistant_id, process_id, wake_at)
			SELECT id, id, 1, 1, 0, 1, 0, created_at, created_at, 1, CASE id %% 3 WHEN 0 THEN 'q' WHEN 1 THEN 'r' ELSE 'w' END, %s, %[1]s, NOT %[1]s, assistant_id,
				CASE WHEN id %% 3 = 1 THEN 'p' END, CASE WHEN id %% 3 = 2 THEN created_at END FROM webtrigger_runs WHERE id > %d`, yes, n),
		`INSERT INTO webtrigger_inputs (run_id, created_at, expires_at, request)
			SELECT run_id, waits_since, waits_since, '{"kind":"question","question":"Which account?"}' FROM webtrigger_queue WHERE state = 'w'`,
		`INSERT INTO webtrigger_conversations (id, assistant_id, key, subject, created_at, first_run_id, open_runs, last_event_id, last_message_id)
			SELECT i, CAST(i % 10 AS text), 'ticket ' || CAST(i AS text), '', `+second(db, "i")+`, i, 0, 1, 1 FROM `+series(db, 20, n, 20),
		fmt.Sprintf(`UPDATE webtrigger_runs SET conversation_id = id - 1 WHERE id %% 20 = 1 AND id > 1 AND id <= %d`, n),
		fmt.Sprintf(`INSERT INTO webtrigger_messages (conversation_id, id, run_id, role, content, created_at) SELECT %d, i, %[1]d, 'assistant', 'Here is the report.', %s FROM %s`,
			n, second(db, "i"), series(db, 2, 300, 1)),
		fmt.Sprintf(`INSERT INTO webtrigger_events (conversation_id, id, run_id, sequence, type, payload, created_at) SELECT %d, i, %[1]d, i, 'x_step', '{"n":1}', %s FROM %s`,
			n, second(db, "i"), series(db, 2, 1000, 1)),
		fmt.Sprintf(`UPDATE webtrigger_ends SET last_sequence = 1001, last_message_id = 300, result_message_id = 300 WHERE run_id = %d`, n),
		`INSERT INTO webtrigger_audit (at, actor, action, object, request_id) SELECT `+second(db, "i")+`, 'user' || CAST(i % 50 AS text), 'run.cancel', 'run/' || CAST(i AS text), '' FROM `+series(db, 1, n/10, 1),
		`ANALYZE`)
}
