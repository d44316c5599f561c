package bunstore_test

import (
	"testing"

	"github.com/webtrigger-go/webtrigger/internal/pgfaults"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// TestServerFaults runs the rules about servers, sessions and settings with
// pgdriver; e2e/pgx runs them with pgx.
func TestServerFaults(t *testing.T) {
	t.Parallel()
	t.Run("prepared", func(t *testing.T) {
		t.Parallel()
		pgfaults.Run(t, postgresDB, nil)
	})
	t.Run("text", func(t *testing.T) {
		t.Parallel()
		pgfaults.Run(t, postgresDB, &bunstore.Options{NoPreparedStatements: true})
	})
	t.Run("pgbouncer", func(t *testing.T) {
		t.Parallel()
		opts := &bunstore.Options{NoPreparedStatements: true, NoNotify: true}
		pgfaults.Run(t, pgfaults.Pooled(t, postgresDB, ""), opts, pgfaults.ThroughPooler...)
	})
}
