package bunstore_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// Deliveries that may still be sent get the assistant of their run, again after a
// rollback.
func TestMigrateTurns_openDeliveries_haveTheirAssistant(t *testing.T) {
	t.Parallel()
	onPrevious(t, func(t *testing.T, db *bun.DB, s *bunstore.Store, _ *previousRows) {
		ctx := t.Context()
		require.NoError(t, s.MigrateBefore(ctx, "20261129000004"))
		may := `FROM webtrigger_deliveries d JOIN webtrigger_runs r ON r.id = d.run_id WHERE d.state IN ('pending', 'sending', 'unknown')`
		require.Positive(t, count(t, db, `SELECT count(*) `+may))
		for range 2 {
			require.NoError(t, s.Migrate(ctx))
			require.Zero(t, count(t, db, `SELECT count(*) `+may+` AND d.assistant_id <> r.assistant_id`))
			require.NoError(t, s.Rollback(ctx))
		}
	})
}
