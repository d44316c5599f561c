// The race detector watches every step of the post-quantum key exchange, which would take most of the test's time.
//
//go:debug tlsmlkem=0

package callbacktest_test

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/driver/pgdriver"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/callbacktest"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRaceInMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	store := memstore.New(nil)
	callbacktest.Race(t, [callbacktest.Replicas]webtrigger.Store{store, store, store}, callbacktest.Runs(t, 2500))
}

// Each replica has a pool and a store of its own. The suite has fewer runs here than in memory for its time's sake;
// make callbacks-long has 100,000 of each.
func TestRaceOnPostgres(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	dsn := schemas.Database(t)
	var stores [callbacktest.Replicas]webtrigger.Store
	for i := range stores {
		stores[i] = postgres(t, dsn)
	}
	callbacktest.Race(t, stores, callbacktest.Runs(t, 500))
}

func TestKillsInMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	clock := new(callbacktest.Time)
	callbacktest.Kills(t, memstore.New(&memstore.Options{Clock: clock}), clock.Pass, callbacktest.Runs(t, 200))
}

// The clock of Postgres cannot be put forward, but what leases and claims remember of it can be put back.
func TestKillsOnPostgres(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	dsn := schemas.Database(t)
	db := pool(t, dsn)
	pass := func(d time.Duration) {
		const texts = `UPDATE webtrigger_processes SET expires_at = expires_at - interval '%[1]d seconds',
				contact_since = contact_since - interval '%[1]d seconds';
			UPDATE webtrigger_deliveries SET attempted_at = attempted_at - interval '%[1]d seconds',
				leased_until = leased_until - interval '%[1]d seconds' WHERE state IN ('pending', 'sending')`
		_, err := db.ExecContext(t.Context(), fmt.Sprintf(texts, int(d.Seconds())))
		require.NoError(t, err)
	}
	callbacktest.Kills(t, postgres(t, dsn), pass, callbacktest.Runs(t, 100))
}

func postgres(t *testing.T, dsn string) *bunstore.Store {
	t.Helper()
	s, err := bunstore.New(pool(t, dsn), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.Migrate(t.Context()))
	return s
}

func pool(t *testing.T, dsn string) *bun.DB {
	t.Helper()
	db := sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(dsn)))
	db.SetMaxOpenConns(20)
	db.SetMaxIdleConns(20)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return bun.NewDB(db, pgdialect.New())
}
