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

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The rules in which a driver can make a difference: what is written and read, in
// batches and in transactions, and what is told of its errors. WEBTRIGGER_PGX_ALL
// has all of them.
func TestStore(t *testing.T) {
	t.Parallel()
	groups := []string{"json", "text", "times", "triggers", "idempotency", "bounds", "claims", "batches", "fencing", "finish", "outcomes", "contexts", "copies"}
	if os.Getenv("WEBTRIGGER_PGX_ALL") != "" {
		groups = nil
	}
	pool, err := sql.Open("pgx", pgtest.Database(t))
	require.NoError(t, err)
	pool.SetMaxOpenConns(20)
	pool.SetMaxIdleConns(20)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	db := bun.NewDB(pool, pgdialect.New())
	storetest.Run(t, schemas.Stores(db, db, nil), groups...)
}
