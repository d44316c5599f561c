package bunstore_test

import (
	"os"
	"testing"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
	"github.com/webtrigger-go/webtrigger/store/storetest"
)

// PgBouncer in transaction mode supports neither LISTEN nor prepared statements: both
// options, on few connections. These groups have every kind of statement and lock; the
// whole contract runs if WEBTRIGGER_PGBOUNCER_ALL is set.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	bouncer := server.PgBouncer(t, &pgtest.BouncerOptions{PoolSize: 10})
	name := schemas.ForRules(t)
	direct, pooled := postgresDB(t, server.DSN(name)), postgresDB(t, bouncer.DSN(name))
	groups := []string{"take", "text", "idempotency", "bounds", "lanes", "claims", "fencing", "batches", "steps", "tail", "watch"}
	if os.Getenv("WEBTRIGGER_PGBOUNCER_ALL") != "" {
		groups = nil
	}
	storetest.Run(t, schemas.Stores(direct, pooled, &bunstore.Options{NoNotify: true, NoPreparedStatements: true}), groups...)
}

// Each option alone, on the rules of what it changes.
func TestPostgresOptions(t *testing.T) {
	t.Parallel()
	for name, variant := range map[string]struct {
		opts   *bunstore.Options
		groups []string
	}{
		"without notifications":       {&bunstore.Options{NoNotify: true}, []string{"watch", "tail", "take"}},
		"without batches":             {&bunstore.Options{MaxBatch: 1}, []string{"batches"}},
		"without prepared statements": {&bunstore.Options{NoPreparedStatements: true}, []string{"json", "text", "times", "batches", "finish"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, newStores(t, variant.opts), variant.groups...)
		})
	}
}
