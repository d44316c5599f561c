package bunstore_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
)

// Deliveries that may still be sent get the assistant of their run, again after a
// rollback.
func TestMigrateTurns_openDeliveries_haveTheirAssistant(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/previous.json")
	require.NoError(t, err)
	var p previousRows
	require.NoError(t, json.Unmarshal(text, &p))
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		ctx, db := t.Context(), open()
		s := opened(t, db, nil)
		require.NoError(t, s.MigrateBefore(ctx, "20261129000001"))
		p.fill(t, db)
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
