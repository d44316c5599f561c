package bunstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// sent is an ended run whose callback has been sent and was not confirmed.
func sent(t *testing.T, s *bunstore.Store, key string) (run webtrigger.Run, deliveryID int64) {
	t.Helper()
	trigger := callbackTrigger()
	trigger.ConversationKey = key
	created, err := s.CreateTrigger(t.Context(), trigger)
	require.NoError(t, err)
	finished(t, s, claimed(t, s, created.Run.ID).Lease)
	return created.Run, lastDelivery(t, s, created.Run.ID).ID
}

// lastDelivery sends the pending delivery of a run. Its outcome is recorded as failed.
func lastDelivery(t *testing.T, s *bunstore.Store, runID int64) webtrigger.Delivery {
	t.Helper()
	leased, err := s.LeaseDeliveries(t.Context(), webtrigger.DeliveryQuery{Token: webtrigger.NewToken(), Lease: time.Minute, Limit: 1})
	require.NoError(t, err)
	require.Len(t, leased, 1)
	require.Equal(t, runID, leased[0].Run.ID)
	require.NoError(t, s.ClaimDelivery(t.Context(), leased[0].Lease))
	require.NoError(t, s.FinishDelivery(t.Context(), leased[0].Lease, webtrigger.DeliveryOutcome{State: webtrigger.DeliveryFailed}))
	return leased[0].Delivery
}

// redelivering is a redelivery, or a retry, before its commit: it has the earlier delivery locked.
func redelivering(t *testing.T, db *bun.DB, deliveryID int64) (commit func()) {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	for _, text := range []string{`SELECT FROM webtrigger_deliveries WHERE id = %d FOR UPDATE`,
		`INSERT INTO webtrigger_deliveries (run_id, assistant_id, host, state, retry, created_at, due_at)
			SELECT run_id, assistant_id, host, 'pending', 0, now(), now() FROM webtrigger_deliveries WHERE id = %d`} {
		_, err = tx.ExecContext(t.Context(), fmt.Sprintf(text, deliveryID))
		require.NoError(t, err)
	}
	return func() { require.NoError(t, tx.Commit()) }
}

// An erasure that meets a redelivery, or the retry of a delivery, leaves no delivery.
func TestEraseTrigger_redeliveryInProgress_leavesNoDelivery(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	run, deliveryID := sent(t, s, "")
	commit := redelivering(t, db, deliveryID)
	erased := make(chan error, 1)
	go func() { erased <- s.EraseTrigger(ctx, run.ConversationID) }()
	awaitBlocked(t, db, 1)
	commit()
	require.NoError(t, <-erased)
	require.Zero(t, count(t, db, `SELECT count(*) FROM webtrigger_deliveries`))
}

// Retention leaves a trigger whose redelivery is in progress, and does not wait for it.
func TestPurge_redeliveryInProgress_isSent(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]string{"single": "", "with a key": "k"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
			s := migrated(t, db, nil)
			run, deliveryID := sent(t, s, key)
			purge := func() (n int) {
				limited, cancel := context.WithTimeout(ctx, time.Minute)
				defer cancel()
				done, err := s.Purge(limited, webtrigger.Purge{Keep: webtrigger.Retention{Completed: 1}, Limit: 10})
				require.NoError(t, err)
				return done.Triggers
			}
			commit := redelivering(t, db, deliveryID)
			require.Zero(t, purge())
			commit()
			require.Zero(t, purge())
			lastDelivery(t, s, run.ID)
			require.Equal(t, 1, purge())
			require.Zero(t, count(t, db, `SELECT count(*) FROM webtrigger_deliveries`))
		})
	}
}

// A delivery without its run does not keep others from being swept.
func TestSweepDeliveries_runMissing_othersAreSwept(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		ctx, db := t.Context(), open()
		s := migrated(t, db, nil)
		var runs []int64
		for range 2 {
			created, err := s.CreateTrigger(ctx, callbackTrigger())
			require.NoError(t, err)
			finished(t, s, claimed(t, s, created.Run.ID).Lease)
			leased, err := s.LeaseDeliveries(ctx, webtrigger.DeliveryQuery{Token: webtrigger.NewToken(), Lease: time.Minute, Limit: 1})
			require.NoError(t, err)
			require.NoError(t, s.ClaimDelivery(ctx, leased[0].Lease))
			runs = append(runs, created.Run.ID)
		}
		_, err := db.ExecContext(ctx, `DELETE FROM webtrigger_runs WHERE id = ?`, runs[0])
		require.NoError(t, err)
		swept, err := s.SweepDeliveries(ctx, 0, 10)
		require.NoError(t, err)
		require.Len(t, swept, 1)
		require.Equal(t, runs[1], swept[0].RunID)
	})
}
