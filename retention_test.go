package webtrigger_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// brokenPurge returns an error with each result of the second page.
type brokenPurge struct {
	webtrigger.Store
	began time.Time
	after []int64
	at    []time.Duration
}

func (s *brokenPurge) Purge(_ context.Context, purge webtrigger.Purge) (webtrigger.Purged, error) {
	s.after, s.at = append(s.after, purge.After), append(s.at, time.Since(s.began))
	switch len(s.after) {
	case 1:
		return webtrigger.Purged{Next: 7}, nil
	case 2, 3, 4:
		return webtrigger.Purged{Next: 7}, webtrigger.ErrUnavailable
	case 5:
		return webtrigger.Purged{Next: 9}, errors.New("run 8: broken")
	}
	return webtrigger.Purged{}, nil
}

// After an error the pass continues at its cursor, later each time. Passes begin at
// irregular times.
func TestPurge_storeFails_passContinuesAtItsCursor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &brokenPurge{Store: memstore.New(nil), began: time.Now()}
		b := setupOn(t, store, nil, &webtrigger.Options{
			BaseURL: "https://app.example.com", Retention: webtrigger.Retention{Completed: time.Hour},
		})
		b.fake = true
		stop := b.work()
		time.Sleep(11 * time.Minute)
		stop()
		require.Equal(t, []int64{0, 7, 7, 7, 7, 9}, store.after[:6])
		require.LessOrEqual(t, store.at[0], time.Minute)
		for i, most := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second} {
			pause := store.at[i+2] - store.at[i+1]
			require.LessOrEqual(t, pause, most)
			require.GreaterOrEqual(t, pause, most/2)
		}
	})
}
