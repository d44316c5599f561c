package bunstore_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// A call whose caller leaves, at whatever instant, leaves no transaction open
// behind it: the next call works.
func TestSQLiteCallersLeave(t *testing.T) {
	t.Parallel()
	store := migrated(t, sqliteDB(t, ""), nil)
	random := rand.New(rand.NewPCG(1, 2))
	settings := webtrigger.Channel{AssistantID: "1"}
	for range 500 {
		ctx, cancel := context.WithCancel(t.Context())
		timer := time.AfterFunc(time.Duration(random.IntN(300))*time.Microsecond, cancel)
		_, err := store.LeaseDeliveries(ctx, webtrigger.DeliveryQuery{Lease: time.Second, Limit: 1})
		if err != nil {
			require.ErrorIs(t, err, context.Canceled)
		}
		timer.Stop()
		cancel()
		require.NoError(t, store.SetChannel(t.Context(), settings))
	}
}
