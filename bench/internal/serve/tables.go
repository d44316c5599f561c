package serve

import (
	"context"
	"encoding/hex"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/webtrigger-go/webtrigger/bench/internal/postgres"
)

// tables are what a hand-written trigger channel would have at least.
const tables = `
CREATE TABLE api_keys (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, assistant_id text NOT NULL, name text NOT NULL,
	hash bytea NOT NULL UNIQUE, revoked_at timestamptz);
CREATE TABLE conversations (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, assistant_id text NOT NULL, key_id bigint NOT NULL,
	subject text NOT NULL, metadata jsonb, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE messages (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, conversation_id bigint NOT NULL,
	role text NOT NULL, content text NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON messages (conversation_id);
CREATE TABLE runs (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, run_key uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE,
	conversation_id bigint NOT NULL, status text NOT NULL, callback_url text, result text,
	created_at timestamptz NOT NULL DEFAULT now(), completed_at timestamptz) WITH (fillfactor = 70);
CREATE INDEX ON runs (conversation_id);
CREATE INDEX ON runs (id) WHERE status = 'queued';
CREATE TABLE events (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, run_id bigint NOT NULL, sequence bigint NOT NULL,
	type text NOT NULL, payload jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
CREATE UNIQUE INDEX ON events (run_id, sequence);
INSERT INTO api_keys (assistant_id, name, hash) SELECT '1', 'bench', sha256($KEY$);
INSERT INTO api_keys (assistant_id, name, hash) SELECT g, 'key ' || g, sha256(g::text::bytea) FROM generate_series(2, 1000) g;
`

// CreateTables makes the tables of the references in an empty database.
func CreateTables(ctx context.Context, dsn string) error {
	return postgres.Exec(ctx, dsn, strings.Replace(tables, "$KEY$", "'"+Key+"'::bytea", 1))
}

// AcceptScript is the whole of an accept as one statement, for pgbench.
func AcceptScript(message string) string {
	return `
WITH k AS (SELECT id, assistant_id FROM api_keys
		WHERE hash = decode('` + hex.EncodeToString(keyHash[:]) + `', 'hex') AND assistant_id = '1' AND revoked_at IS NULL),
	c AS (INSERT INTO conversations (assistant_id, key_id, subject, metadata)
		SELECT assistant_id, id, 'Weekly Report', '{"source": "zapier", "zap_id": "456"}' FROM k RETURNING id),
	m AS (INSERT INTO messages (conversation_id, role, content) SELECT id, 'user', '` + message + `' FROM c)
INSERT INTO runs (conversation_id, status, callback_url) SELECT id, 'queued', 'https://hooks.example.com/abc123' FROM c
RETURNING conversation_id, id, run_key;
`
}

// newPool returns the connections of a reference or a peer. pgx prepares every
// statement that it sends.
func newPool(ctx context.Context, dsn string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	config.MaxConns = poolSize
	return pgxpool.NewWithConfig(ctx, config)
}

// newTables is newPool in a database that has the references' tables.
func newTables(ctx context.Context, dsn string) (*pgxpool.Pool, error) {
	if err := CreateTables(ctx, dsn); err != nil {
		return nil, err
	}
	return newPool(ctx, dsn)
}
