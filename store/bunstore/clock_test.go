package bunstore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// wrongClock is that of a machine whose time is off.
type wrongClock time.Duration

func (c wrongClock) Now() time.Time { return time.Now().Add(time.Duration(c)) }

// Replicas whose clocks are an hour off, either way, steal nothing, end nothing
// early and hold nothing for longer: leases and stamps go by Postgres's clock.
func TestWrongClocks(t *testing.T) {
	t.Parallel()
	dsn := schemas.Database(t)
	right := migrated(t, postgresDB(t, dsn), nil)
	for _, off := range []time.Duration{-time.Hour, time.Hour} {
		wrong := migrated(t, postgresDB(t, dsn), &bunstore.Options{Clock: wrongClock(off)})
		for _, c := range []struct{ holder, other *bunstore.Store }{{right, wrong}, {wrong, right}} {
			ctx, before := t.Context(), time.Now()
			accepted, err := c.holder.CreateTrigger(ctx, newTrigger())
			require.NoError(t, err)
			require.WithinDuration(t, before, accepted.Run.CreatedAt, 10*time.Minute)
			holder, other := registered(t, c.holder, time.Minute), registered(t, c.other, time.Minute)
			claim := webtrigger.Claim{ProcessID: holder.ID, Token: webtrigger.NewToken(), Limit: 1, RunID: accepted.Run.ID}
			held, err := c.holder.ClaimRuns(ctx, claim)
			require.NoError(t, err)
			require.Len(t, held, 1)

			claim.ProcessID = other.ID
			stolen, err := c.other.ClaimRuns(ctx, claim)
			require.NoError(t, err)
			require.Empty(t, stolen)
			swept, err := c.other.SweepRuns(ctx, webtrigger.Sweep{ProcessID: other.ID, MaxQueueTime: time.Minute, Limit: 10, Audit: true})
			require.NoError(t, err)
			require.Empty(t, swept)
			holder.Lease = time.Millisecond
			renewed, err := c.holder.RenewProcess(ctx, holder)
			require.NoError(t, err)
			require.Equal(t, []webtrigger.HeldClaim{{Lease: held[0].Lease}}, renewed.Claims)
			require.Eventually(t, func() bool {
				swept, err := c.other.SweepRuns(ctx, webtrigger.Sweep{ProcessID: other.ID, Limit: 10})
				return err == nil && len(swept) == 1 && swept[0].ID == accepted.Run.ID
			}, 10*time.Second, 10*time.Millisecond)
			_, err = c.holder.FinishRun(ctx, held[0].Lease, webtrigger.Finish{Outcome: webtrigger.Outcome{Status: webtrigger.RunCompleted}})
			require.ErrorIs(t, err, webtrigger.ErrLeaseLost)
		}
	}
}
