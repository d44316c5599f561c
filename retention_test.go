package webtrigger_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

func TestRetention(t *testing.T) {
	keep := webtrigger.Retention{Events: time.Hour, Completed: 24 * time.Hour, Failed: 48 * time.Hour}
	bubble(t, nil, webtrigger.Options{Retention: keep}, func(b *bundle) {
		stop := b.work()
		done, failed := b.trigger("say done"), b.trigger("fail")
		synctest.Wait()
		events := func(run webtrigger.Run) webtrigger.EventPage {
			page, err := b.store.Events(b.ctx, webtrigger.EventQuery{ConversationID: run.ConversationID, Limit: 100})
			require.NoError(t, err)
			return page
		}

		time.Sleep(50 * time.Minute)
		require.NotEmpty(t, events(done).Events, "younger than its age")
		time.Sleep(30 * time.Minute)
		require.Empty(t, events(done).Events)
		require.Equal(t, events(done).LastID, events(done).PurgedTo)
		require.Equal(t, webtrigger.RunCompleted, b.run(done.ID).Status, "the run stays")

		time.Sleep(24 * time.Hour)
		_, err := b.svc.RunByID(b.ctx, done.ID)
		require.ErrorIs(t, err, webtrigger.ErrNotFound)
		require.Equal(t, webtrigger.RunFailed, b.run(failed.ID).Status, "its state is kept longer")
		time.Sleep(24 * time.Hour)
		_, err = b.svc.RunByID(b.ctx, failed.ID)
		require.ErrorIs(t, err, webtrigger.ErrNotFound)
		stop()
	})
}

func TestNothingIsForgottenByDefault(t *testing.T) {
	bubble(t, nil, webtrigger.Options{}, func(b *bundle) {
		stop := b.work()
		done := b.trigger("say done")
		time.Sleep(24 * time.Hour)
		require.Equal(t, webtrigger.RunCompleted, b.run(done.ID).Status)
		stop()
	})
}

func TestRetentionRefusesNegativeAges(t *testing.T) {
	t.Parallel()
	for _, keep := range []webtrigger.Retention{{Events: -1}, {Completed: -1}, {Failed: -1}, {Cancelled: -1}, {TimedOut: -1}} {
		_, err := webtrigger.New(memstore.New(nil), nil, &webtrigger.Options{Workers: -1, Retention: keep})
		require.ErrorContains(t, err, "Retention")
	}
}

func TestEraseTrigger(t *testing.T) {
	bubble(t, nil, webtrigger.Options{Workers: 1}, func(b *bundle) {
		stop := b.work()
		hangs := b.trigger("hang")
		require.ErrorIs(t, b.svc.EraseTrigger(b.ctx, hangs.ConversationID), webtrigger.ErrConflict)
		_, err := b.svc.CancelRun(b.ctx, hangs.ID, "")
		require.NoError(t, err)
		synctest.Wait()
		require.NoError(t, b.svc.EraseTrigger(b.ctx, hangs.ConversationID))
		require.ErrorIs(t, b.svc.EraseTrigger(b.ctx, hangs.ConversationID), webtrigger.ErrNotFound)

		req := httptest.NewRequest(http.MethodGet, hangs.StatusURL(), nil)
		_, key, err := b.svc.CreateKey(b.ctx, hangs.AssistantID, webtrigger.KeySpec{Name: "key"})
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+key)
		rec := httptest.NewRecorder()
		b.svc.ServeHTTP(rec, req)
		require.Equal(t, http.StatusNotFound, rec.Code)
		stop()
	})
}
