package bunstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
)

// A sweep deletes expired records faster than a busy service creates them.
func TestSweepRuns_expiredRecords_areDeletedInBatches(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		db := open()
		s := migrated(t, db, nil)
		p := registered(t, s, time.Hour)
		for i := range 1201 {
			trigger := webtrigger.NewTrigger{
				RunKey: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), AssistantID: "1", BaseURL: "https://app.example.com",
				Input:       webtrigger.RunInput{Subject: "s", Message: "m"},
				Idempotency: &webtrigger.Idempotency{Key: fmt.Sprint(i), TTL: time.Microsecond},
			}
			if i == 1200 {
				trigger.Idempotency.TTL = time.Hour
			}
			_, err := s.CreateTrigger(t.Context(), trigger)
			require.NoError(t, err)
		}
		_, err := s.SweepRuns(t.Context(), webtrigger.Sweep{ProcessID: p.ID, Limit: 10})
		require.NoError(t, err)
		require.EqualValues(t, 1, count(t, db, `SELECT count(*) FROM webtrigger_idempotency_keys`))
	})
}
