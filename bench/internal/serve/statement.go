package serve

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/webtrigger-go/webtrigger/bench/internal/child"
)

// acceptStatement stores a trigger of a key that is known already.
const acceptStatement = `
WITH c AS (INSERT INTO conversations (assistant_id, key_id, subject, metadata) VALUES ('1', 1, $1, $2) RETURNING id),
	m AS (INSERT INTO messages (conversation_id, role, content) SELECT id, 'user', $3::text FROM c)
INSERT INTO runs (conversation_id, status, callback_url) SELECT id, 'queued', $4::text FROM c RETURNING conversation_id`

// serveStatement accepts with one prepared statement, which is the least that a
// durable accept takes.
func serveStatement(ctx context.Context, c Config) (*child.Server, error) {
	pool, err := newTables(ctx, c.DSN)
	if err != nil {
		return nil, err
	}
	return &child.Server{Measured: front(func(ctx context.Context, t *trigger) (id int64, err error) {
		err = pool.QueryRow(ctx, acceptStatement, t.Subject, t.metadata(), t.Message, t.CallbackURL).Scan(&id)
		return id, err
	})}, nil
}

// statusStatement reads a status by the key of the row that names it.
const statusStatement = `
SELECT r.status, r.result, r.created_at, r.completed_at FROM conversations c JOIN runs r ON r.conversation_id = c.id
WHERE c.id = $1 AND c.assistant_id = '1' ORDER BY r.id LIMIT 1`

// fillStatements store finished runs, with a result of about 400 bytes.
const (
	fillConversations = `INSERT INTO conversations (assistant_id, key_id, subject) SELECT '1', 1, 'Weekly Report' FROM generate_series(1, $1::int)`
	fillRuns          = `INSERT INTO runs (conversation_id, status, result, completed_at)
		SELECT g, 'completed', repeat('Here is the summary of the report. ', 12), now() FROM generate_series(1, $1::int) g`
)

// serveSelect answers polls with one prepared SELECT each. The key is checked in
// memory.
func serveSelect(ctx context.Context, c Config) (*child.Server, error) {
	pool, err := newTables(ctx, c.DSN)
	if err != nil {
		return nil, err
	}
	for _, fill := range []string{fillConversations, fillRuns} {
		if _, err := pool.Exec(ctx, fill, c.Rows); err != nil {
			return nil, err
		}
	}
	if _, err := pool.Exec(ctx, `ANALYZE`); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/web-triggers/{id}/status", func(w http.ResponseWriter, r *http.Request) {
		if !authorized(r) {
			http.Error(w, "no such key", http.StatusUnauthorized)
			return
		}
		id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
		if err != nil {
			http.Error(w, "no such trigger", http.StatusNotFound)
			return
		}
		status := struct {
			TriggerID   int64      `json:"trigger_id"`
			Status      string     `json:"status"`
			Result      *string    `json:"result"`
			CreatedAt   time.Time  `json:"created_at"`
			CompletedAt *time.Time `json:"completed_at"`
		}{TriggerID: id}
		err = pool.QueryRow(r.Context(), statusStatement, id).Scan(&status.Status, &status.Result, &status.CreatedAt, &status.CompletedAt)
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(status)
	})
	return &child.Server{
		Measured: mux,
		Do: func(context.Context, int) (child.Counters, error) {
			return child.Counters{"first": 1, "last": float64(c.Rows)}, nil
		},
	}, nil
}
