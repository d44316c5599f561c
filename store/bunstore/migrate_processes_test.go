package bunstore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// Runs that were running before the migration end with the next sweep: by their stop,
// or by a heartbeat timeout. Queued ones continue. After a rollback their leases of the
// previous version have expired.
func TestMigrateProcesses_runningRuns_endWithTheNextSweep(t *testing.T) {
	t.Parallel()
	onPrevious(t, func(t *testing.T, db *bun.DB, s *bunstore.Store, _ *previousRows) {
		ctx := t.Context()
		require.NoError(t, s.MigrateBefore(ctx, "20261129000002"))
		running := `SELECT count(*) FROM webtrigger_queue WHERE state = 'r'`
		require.Equal(t, 2, count(t, db, running))
		require.NoError(t, s.Migrate(ctx))
		require.NoError(t, s.Rollback(ctx))
		require.Equal(t, 2, count(t, db, running+` AND expires_at IS NOT NULL`))
		require.NoError(t, s.Migrate(ctx))
		require.Equal(t, 2, count(t, db, running+` AND process_id = 'migrated'`))
		require.Equal(t, 1, count(t, db, `SELECT count(*) FROM webtrigger_processes WHERE id = 'migrated' AND lost_at IS NOT NULL`))

		migrated := webtrigger.Process{ID: "migrated", Lease: time.Hour, MaxAttempts: 9}
		require.NoError(t, s.RegisterProcess(ctx, migrated))
		require.False(t, renewed(t, s, migrated).Registered)
		ended := make(map[int64]webtrigger.RunStatus)
		for _, run := range sweptBy(t, s, registered(t, s, time.Hour)) {
			ended[run.ID] = run.Status
		}
		require.Equal(t, map[int64]webtrigger.RunStatus{5: webtrigger.RunTimedOut, 10: webtrigger.RunCancelled}, ended)
		require.Zero(t, count(t, db, running))
		continues(t, s)
	})
}

// Without running runs, no process is left over.
func TestMigrateProcesses_noRunningRuns_noProcess(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		db := open()
		migrated(t, db, nil)
		require.Zero(t, count(t, db, `SELECT count(*) FROM webtrigger_processes`))
	})
}
