package bunstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
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

// While another transaction deletes the record of an idempotency key, as sweeps and erasures
// do, other triggers are stored. One with the same key replays a live record at once, and
// waits for an expired one alone.
func TestCreateTrigger_recordBeingDeleted_othersContinue(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(trigger *webtrigger.NewTrigger){
		"of its own":     func(*webtrigger.NewTrigger) {},
		"within a bound": func(trigger *webtrigger.NewTrigger) { trigger.MaxQueued = 100 },
		"of a conversation": func(trigger *webtrigger.NewTrigger) {
			trigger.MaxQueued, trigger.ConversationKey = 100, uuid.NewString()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
			s := migrated(t, db, nil)
			first, err := s.CreateTrigger(ctx, keyed("live", 1))
			require.NoError(t, err)
			expired := keyed("expired", 1)
			expired.Idempotency.TTL = time.Microsecond
			_, err = s.CreateTrigger(ctx, expired)
			require.NoError(t, err)
			release := heldRow(t, db, `DELETE FROM webtrigger_idempotency_keys`)
			make := func(trigger webtrigger.NewTrigger) <-chan creation {
				change(&trigger)
				return creating(t, s, trigger)
			}
			again := make(keyed("expired", 1))
			time.Sleep(100 * time.Millisecond)
			replayed := <-make(keyed("live", 1))
			require.NoError(t, replayed.err)
			require.True(t, replayed.accepted.Replayed)
			require.Equal(t, first.Run.ID, replayed.accepted.Run.ID)
			require.NoError(t, (<-make(keyed("other", 1))).err)
			require.NoError(t, (<-make(newTrigger())).err)
			select {
			case a := <-again:
				t.Fatalf("stored beside the record: %+v", a)
			default:
			}
			release()
			a := <-again
			require.NoError(t, a.err)
			require.False(t, a.accepted.Replayed)
		})
	}
}
