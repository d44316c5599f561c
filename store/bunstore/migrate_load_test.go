package bunstore_test

import (
	"context"
	"database/sql"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/driver/pgdriver"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/logtest"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// A rolling upgrade behind a long reader, such as pg_dump: several processes migrate,
// requests and workers continue meanwhile, and neither the driver's read timeout nor the
// role's statement timeout ends a migration.
func TestMigrate_underLoadBehindLongReader_failsNoRequest(t *testing.T) {
	t.Parallel()
	ctx, server := t.Context(), pgtest.Shared(t)
	name := server.Database(t)
	db := postgresDB(t, server.DSN(name))
	s := migrated(t, db, nil)
	storeTrigger(t, s)

	reader, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	require.NoError(t, err)
	_, err = reader.ExecContext(ctx, `SELECT count(*) FROM webtrigger_runs, webtrigger_queue`)
	require.NoError(t, err)

	p := registered(t, s, time.Minute)
	loading, stop := context.WithCancel(ctx)
	var load sync.WaitGroup
	defer func() { stop(); load.Wait() }()
	var mu sync.Mutex
	var slowest time.Duration
	for range 4 {
		load.Go(func() {
			for loading.Err() == nil {
				began := time.Now()
				if _, err := s.CreateTrigger(ctx, newTrigger()); err != nil {
					t.Errorf("a trigger failed during the migration: %v", err)
					return
				}
				if _, err := s.ClaimRuns(ctx, webtrigger.Claim{ProcessID: p.ID, Token: webtrigger.NewToken(), Limit: 2}); err != nil {
					t.Errorf("a claim failed during the migration: %v", err)
					return
				}
				mu.Lock()
				slowest = max(slowest, time.Since(began))
				mu.Unlock()
				time.Sleep(5 * time.Millisecond)
			}
		})
	}

	var log logtest.Buffer
	errs := make(chan error, 3)
	for range cap(errs) {
		pool := sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(server.DSN(name)), pgdriver.WithReadTimeout(time.Second),
			pgdriver.WithConnParams(map[string]any{"statement_timeout": "1s"})))
		t.Cleanup(func() { require.NoError(t, pool.Close()) })
		other := opened(t, bun.NewDB(pool, pgdialect.New()), &bunstore.Options{Logger: logTo(&log)})
		other.AddMigrations(testMigrations)
		go func() { errs <- other.Migrate(ctx) }()
	}
	select {
	case err := <-errs:
		t.Fatalf("a migration ended while the reader was there: %v", err)
	case <-time.After(4 * time.Second): // the index is under way
	}
	second, err := db.BeginTx(ctx, nil) // it is in the way of the column, and there before the index is built
	require.NoError(t, err)
	_, err = second.ExecContext(ctx, `SELECT count(*) FROM webtrigger_queue`)
	require.NoError(t, err)
	require.NoError(t, reader.Rollback())
	eventually(t, func() bool { return strings.Contains(log.String(), "migration waits for other transactions") })
	require.NoError(t, second.Rollback())
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
	require.Equal(t, 1, count(t, db, `SELECT count(*) FROM pg_index WHERE indexrelid = 'webtrigger_later'::regclass AND indisvalid`))
	require.Equal(t, 2, count(t, db, `SELECT count(*) FROM information_schema.columns WHERE column_name = 'later'`))
	mu.Lock()
	defer mu.Unlock()
	t.Logf("slowest request: %v", slowest)
	require.Less(t, slowest, 15*time.Second)
}
