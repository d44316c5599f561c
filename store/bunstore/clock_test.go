package bunstore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// wrongClock is that of a machine whose time is off.
type wrongClock time.Duration

func (c wrongClock) Now() time.Time { return time.Now().Add(time.Duration(c)) }

// Replicas whose clocks are an hour off, either way, steal nothing, end nothing
// early and hold nothing for longer: leases and stamps go by Postgres's clock.
func TestWrongClocks(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	right := migrated(t, postgresDB(t, dsn), nil)
	for _, off := range []time.Duration{-time.Hour, time.Hour} {
		wrong := migrated(t, postgresDB(t, dsn), &bunstore.Options{Clock: wrongClock(off)})
		for _, c := range []struct{ holder, other *bunstore.Store }{{right, wrong}, {wrong, right}} {
			ctx, before := t.Context(), time.Now()
			accepted, err := c.holder.CreateTrigger(ctx, newTrigger())
			require.NoError(t, err)
			require.WithinDuration(t, before, accepted.Run.CreatedAt, 10*time.Minute)
			claim := webtrigger.Claim{Worker: "holder", Lease: time.Minute, Limit: 1, RunID: accepted.Run.ID}
			held, err := c.holder.ClaimRuns(ctx, claim)
			require.NoError(t, err)
			require.Len(t, held, 1)

			stolen, err := c.other.ClaimRuns(ctx, claim)
			require.NoError(t, err)
			require.Empty(t, stolen)
			swept, err := c.other.SweepRuns(ctx, webtrigger.Sweep{MaxAttempts: 1, MaxQueueTime: time.Minute, Limit: 10, Audit: true})
			require.NoError(t, err)
			require.Empty(t, swept)
			renewed, err := c.holder.RenewLeases(ctx, []webtrigger.Lease{held[0].Lease}, time.Millisecond)
			require.NoError(t, err)
			require.True(t, renewed[0].Renewed)
			require.Eventually(t, func() bool {
				swept, err := c.other.SweepRuns(ctx, webtrigger.Sweep{MaxAttempts: 1, Limit: 10})
				return err == nil && len(swept) == 1 && swept[0].ID == accepted.Run.ID
			}, 10*time.Second, 10*time.Millisecond)
			_, err = c.holder.FinishRun(ctx, held[0].Lease, webtrigger.Finish{Outcome: webtrigger.Outcome{Status: webtrigger.RunCompleted}})
			require.ErrorIs(t, err, webtrigger.ErrLeaseLost)
		}
	}
}
