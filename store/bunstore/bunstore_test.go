package bunstore_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/driver/pgdriver"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
	"github.com/webtrigger-go/webtrigger/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSQLite(t *testing.T) {
	t.Parallel()
	made := madeSQLite(t)
	storetest.Run(t, func(t *testing.T) webtrigger.Store {
		name := filepath.Join(memoryDir(t), "test.db")
		require.NoError(t, os.WriteFile(name, made, 0o600))
		return opened(t, sqliteOpen(t, name), nil)
	})
}

// madeSQLite is a database file in which the tables stand: making them takes most
// of a rule's time.
func madeSQLite(t *testing.T) []byte {
	t.Helper()
	name := filepath.Join(memoryDir(t), "made.db")
	pool, err := sql.Open("sqlite", "file:"+name)
	require.NoError(t, err)
	store, err := bunstore.New(bun.NewDB(pool, sqlitedialect.New()), nil)
	require.NoError(t, err)
	require.NoError(t, store.Migrate(t.Context()))
	require.NoError(t, store.Close())
	require.NoError(t, pool.Close()) // puts everything into the file
	made, err := os.ReadFile(name)
	require.NoError(t, err)
	return made
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	storetest.Run(t, newStores(t, nil))
}

// newStores returns a function that makes stores on one database.
func newStores(t *testing.T, opts *bunstore.Options) func(t *testing.T) webtrigger.Store {
	db := postgresDB(t, pgtest.Shared(t).DSN(schemas.ForRules(t)))
	return schemas.Stores(db, db, opts)
}

// sqliteDB is a database in a file of its own, in memory where that is possible:
// every commit waits for the disk. params follow the name of the file.
func sqliteDB(t *testing.T, params string) *bun.DB {
	t.Helper()
	return sqliteOpen(t, filepath.Join(memoryDir(t), "test.db")+params)
}

// sqliteOpen opens a file.
func sqliteOpen(t *testing.T, name string) *bun.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+name)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return bun.NewDB(db, sqlitedialect.New())
}

// memoryDir is a directory for the length of a test, in memory where the system
// has a place for that.
func memoryDir(t *testing.T) string {
	t.Helper()
	const shared = "/dev/shm" // Linux
	dir, err := os.MkdirTemp(shared, "webtrigger-sqlite-")
	if os.Getenv("TMPDIR") != "" || err != nil {
		_ = os.Remove(dir)
		return t.TempDir()
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// postgresDB is a pool on a database.
func postgresDB(t *testing.T, dsn string) *bun.DB {
	t.Helper()
	db := sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(dsn)))
	db.SetMaxOpenConns(20)
	db.SetMaxIdleConns(20)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return bun.NewDB(db, pgdialect.New())
}

// migrated is a store with its tables.
func migrated(t *testing.T, db *bun.DB, opts *bunstore.Options) *bunstore.Store {
	t.Helper()
	s := opened(t, db, opts)
	require.NoError(t, s.Migrate(t.Context()))
	return s
}

// New returns an error for invalid options.
func TestNew_invalidOptions_returnsError(t *testing.T) {
	t.Parallel()
	db := sqliteDB(t, "")
	for want, opts := range map[string]bunstore.Options{
		"Options.TablePrefix": {TablePrefix: "1st_"},
		"Options.Schema":      {Schema: "app"},
		"Options.MaxBatch":    {MaxBatch: -1},
		"Options.Enqueue":     {Enqueue: func(context.Context, bun.Tx, []bunstore.RunRef) error { return nil }},
	} {
		_, err := bunstore.New(db, &opts)
		require.ErrorContains(t, err, want)
	}
}
