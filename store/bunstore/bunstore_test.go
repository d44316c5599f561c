package bunstore_test

import (
	"database/sql"
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
	"github.com/webtrigger-go/webtrigger/store/bunstore"
	"github.com/webtrigger-go/webtrigger/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSQLite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) webtrigger.Store { return migrated(t, sqliteDB(t), nil) })
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) webtrigger.Store { return migrated(t, postgresDB(t, pgtest.Database(t)), nil) })
}

// sqliteDB is a database in a file of its own.
func sqliteDB(t *testing.T) *bun.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "test.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return bun.NewDB(db, sqlitedialect.New())
}

// postgresDB is a pool on a database.
func postgresDB(t *testing.T, dsn string) *bun.DB {
	t.Helper()
	db := sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(dsn)))
	db.SetMaxOpenConns(10)
	db.SetMaxIdleConns(10)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return bun.NewDB(db, pgdialect.New())
}

// migrated is a store with its tables.
func migrated(t *testing.T, db *bun.DB, opts *bunstore.Options) *bunstore.Store {
	t.Helper()
	s, err := bunstore.New(db, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.Migrate(t.Context()))
	return s
}
