package bunstore_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/logtest"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

func TestNew_nilDB_returnsError(t *testing.T) {
	t.Parallel()
	_, err := bunstore.New(nil, nil)
	require.ErrorContains(t, err, "db must not be nil")
}

func logTo(log *logtest.Buffer) *slog.Logger { return slog.New(slog.NewTextHandler(log, nil)) }

// Without Migrate the error of every call has the remedy, callers get 503, and the log
// has one line about it.
func TestStore_tablesMissing_namesMigrate(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		ctx := t.Context()
		var log logtest.Buffer
		s := opened(t, open(), &bunstore.Options{Logger: logTo(&log)})
		calls := map[string]func() error{
			"Ping":          func() error { return s.Ping(ctx) },
			"CreateTrigger": func() error { _, err := s.CreateTrigger(ctx, newTrigger()); return err },
			"Run":           func() error { _, err := s.RunByID(ctx, 1); return err },
			"ClaimRuns": func() error {
				_, err := s.ClaimRuns(ctx, webtrigger.Claim{ProcessID: "w", Token: 1, Limit: 1})
				return err
			},
			"RegisterProcess": func() error {
				return s.RegisterProcess(ctx, webtrigger.Process{ID: "w", Lease: time.Minute, MaxAttempts: 1})
			},
			"SetChannel": func() error { return s.SetChannel(ctx, webtrigger.Channel{AssistantID: "1"}) },
			"Events": func() error {
				_, err := s.Events(ctx, webtrigger.EventQuery{ConversationID: 1, Limit: 1})
				return err
			},
		}
		for name, call := range calls {
			for range 3 {
				err := call()
				require.ErrorIs(t, err, webtrigger.ErrUnavailable, name)
				require.ErrorContains(t, err, "call Store.Migrate", name)
			}
		}
		r := httptest.NewRequestWithContext(ctx, "POST", "/api/v1/assistants/1/web-trigger", strings.NewReader(`{"message":"m"}`))
		r.Header.Set("Authorization", "Bearer "+strings.Repeat("0", 64))
		r.Header.Set("Content-Type", "application/json")
		svc, err := webtrigger.New(s, nil, &webtrigger.Options{NoWorkers: true, BaseURL: "https://app.example.com"})
		require.NoError(t, err)
		w := httptest.NewRecorder()
		svc.ServeHTTP(w, r)
		require.Equal(t, http.StatusServiceUnavailable, w.Code, w.Body)
		require.Equal(t, 1, strings.Count(log.String(), "level=ERROR"), log.String())

		require.NoError(t, s.Migrate(ctx))
		require.NoError(t, s.Ping(ctx))
		require.NoError(t, s.Rollback(ctx))
		require.ErrorContains(t, s.Ping(ctx), "is not applied")
	})
}

// A newer schema is logged once; the store continues, because upgrades are rolling.
func TestPing_newerTables_logsOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		newer := opened(t, open(), nil)
		newer.AddMigrations(testMigrations)
		require.NoError(t, newer.Migrate(t.Context()))
		var log logtest.Buffer
		s := opened(t, open(), &bunstore.Options{Logger: logTo(&log)})
		require.NoError(t, s.Migrate(t.Context()))
		for range 3 {
			require.NoError(t, s.Ping(t.Context()))
			storeTrigger(t, s)
		}
		require.Equal(t, 1, strings.Count(log.String(), "tables are newer"), log.String())
		require.NoError(t, newer.Rollback(t.Context()))
	})
}

// testMigrations are those of a later version: an index on a filled table, and a column.
var testMigrations = fstest.MapFS{
	"migrations/postgres/20991231000001_index.up.sql": {Data: []byte(
		"DROP INDEX CONCURRENTLY IF EXISTS {{.Index}}later\n--bun:split\nCREATE INDEX CONCURRENTLY {{.Index}}later ON {{.Prefix}}runs (assistant_id, created_at)")},
	"migrations/postgres/20991231000001_index.down.sql":     {Data: []byte("DROP INDEX CONCURRENTLY IF EXISTS {{.Index}}later")},
	"migrations/postgres/20991231000002_column.tx.up.sql":   {Data: []byte("ALTER TABLE {{.Prefix}}runs ADD COLUMN later integer; ALTER TABLE {{.Prefix}}queue ADD COLUMN later integer")},
	"migrations/postgres/20991231000002_column.tx.down.sql": {Data: []byte("ALTER TABLE {{.Prefix}}runs DROP COLUMN later; ALTER TABLE {{.Prefix}}queue DROP COLUMN later")},
	"migrations/sqlite/20991231000002_column.tx.up.sql":     {Data: []byte("ALTER TABLE {{.Prefix}}runs ADD COLUMN later integer")},
	"migrations/sqlite/20991231000002_column.tx.down.sql":   {Data: []byte("ALTER TABLE {{.Prefix}}runs DROP COLUMN later")},
}

// A database whose encoding is not UTF8 is rejected, whatever the client's encoding is.
func TestMigrate_encodingNotUTF8_isRejected(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	name := server.Database(t) + "_latin1"
	psql := func(text string) {
		t.Helper()
		_, err := server.Psql("postgres", text)
		require.NoError(t, err)
	}
	psql(`CREATE DATABASE ` + name + ` TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'`)
	t.Cleanup(func() { require.NoError(t, server.DropDatabase(name)) })
	s := opened(t, postgresDB(t, server.DSN(name)), nil)
	for _, check := range []func(context.Context) error{s.Migrate, s.Ping} {
		require.ErrorContains(t, check(t.Context()), "UTF8")
	}
	psql(`ALTER DATABASE ` + name + ` SET client_encoding = 'UTF8'`)
	for _, check := range []func(context.Context) error{s.Migrate, s.Ping} {
		require.ErrorContains(t, check(t.Context()), "database encoding is LATIN1")
	}
}

// pgdriver does not connect with these settings. The error names the remedy.
func TestMigrate_settingsThatPgdriverRejects_nameTheRemedy(t *testing.T) {
	t.Parallel()
	for _, setting := range []string{`standard_conforming_strings = off`, `client_encoding = 'LATIN1'`} {
		server := pgtest.Shared(t)
		name := server.Database(t)
		_, err := server.Psql("postgres", `ALTER DATABASE `+name+` SET `+setting)
		require.NoError(t, err)
		s := opened(t, postgresDB(t, server.DSN(name)), nil)
		require.ErrorContains(t, s.Migrate(t.Context()), "ALTER ROLE")
		require.ErrorContains(t, s.Ping(t.Context()), "ALTER ROLE")
	}
}

// It runs alone: other tests use the default logger too.
func TestNew_nilLogger_discardsRecords(t *testing.T) {
	var log logtest.Buffer
	before := slog.Default()
	slog.SetDefault(logTo(&log))
	defer slog.SetDefault(before)
	s := opened(t, sqliteDB(t, ""), nil)
	require.ErrorIs(t, s.Ping(t.Context()), webtrigger.ErrUnavailable, "the missing tables are logged, if there is a logger")
	require.Empty(t, log.String())
}
