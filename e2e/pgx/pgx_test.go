package pgx_test

import (
	"database/sql"
	"os"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger/internal/pgfaults"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
	"github.com/webtrigger-go/webtrigger/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The rules in which a driver can make a difference: what is written and read, in
// batches and in transactions, and how it reports errors. WEBTRIGGER_PGX_ALL
// has all of them.
func TestStore(t *testing.T) {
	t.Parallel()
	groups := []string{"json", "text", "times", "triggers", "idempotency", "bounds", "batches", "fencing", "outcomes", "contexts", "copies"}
	if os.Getenv("WEBTRIGGER_PGX_ALL") != "" {
		groups = nil
	}
	db := open(t, pgtest.Database(t))
	storetest.Run(t, schemas.Stores(db, db, nil), groups...)
}

// open opens a pool of pgx.
func open(t *testing.T, dsn string) *bun.DB {
	t.Helper()
	pool, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	pool.SetMaxOpenConns(20)
	pool.SetMaxIdleConns(20)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	return bun.NewDB(pool, pgdialect.New())
}

func TestServerFaults(t *testing.T) {
	t.Parallel()
	t.Run("direct", func(t *testing.T) {
		t.Parallel()
		pgfaults.Run(t, open, nil)
	})
	t.Run("pgbouncer", func(t *testing.T) {
		t.Parallel()
		opts := &bunstore.Options{NoPreparedStatements: true, NoNotify: true}
		pgfaults.Run(t, pgfaults.Pooled(t, open, "&default_query_exec_mode=exec"), opts, pgfaults.ThroughPooler...)
	})
}
