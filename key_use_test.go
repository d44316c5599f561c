package webtrigger_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// touchStore counts the writes of uses.
type touchStore struct {
	webtrigger.Store
	touched atomic.Int64
}

func (s *touchStore) TouchKey(ctx context.Context, keyID int64, precision time.Duration) error {
	s.touched.Add(1)
	return s.Store.TouchKey(ctx, keyID, precision)
}

func (b *bundle) ask(secret, path string) int {
	r := httptest.NewRequest("GET", path, nil)
	r.Header.Set("Authorization", "Bearer "+secret)
	w := httptest.NewRecorder()
	b.svc.ServeHTTP(w, r)
	return w.Code
}

func TestAKeyInUseIsStampedOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &touchStore{Store: memstore.New(nil)}
		b := setupOn(t, store, nil, nil)
		key, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
		require.NoError(t, err)
		require.True(t, key.LastUsedAt.IsZero())
		for range 10 * 60 {
			require.Equal(t, http.StatusNotFound, b.ask(secret, "/api/v1/web-triggers/1/status"))
			time.Sleep(time.Second)
		}
		require.EqualValues(t, 10, store.touched.Load())
		used, err := b.svc.Key(b.ctx, key.ID)
		require.NoError(t, err)
		require.LessOrEqual(t, time.Since(used.LastUsedAt), time.Minute)
	})
}

func TestRotateKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, nil, nil)
		old, oldSecret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make", ExpiresAt: time.Now().Add(24 * time.Hour)})
		require.NoError(t, err)
		time.Sleep(time.Hour)
		next, secret, err := b.svc.RotateKey(b.ctx, old.ID, time.Minute)
		require.NoError(t, err)
		require.Equal(t, "Make", next.Name)
		require.Equal(t, "1", next.AssistantID)
		require.Equal(t, secret[:8], next.Prefix)
		require.Equal(t, old.ExpiresAt.Add(time.Hour), next.ExpiresAt)
		const path = "/api/v1/web-triggers/1/status"
		require.Equal(t, http.StatusNotFound, b.ask(oldSecret, path))
		require.Equal(t, http.StatusNotFound, b.ask(secret, path))
		time.Sleep(time.Minute)
		require.Equal(t, http.StatusUnauthorized, b.ask(oldSecret, path))
		require.Equal(t, http.StatusNotFound, b.ask(secret, path))
		_, _, err = b.svc.RotateKey(b.ctx, old.ID, 0)
		require.ErrorIs(t, err, webtrigger.ErrConflict)
		var wrong *webtrigger.RequestError
		_, _, err = b.svc.RotateKey(b.ctx, next.ID, -1)
		require.ErrorAs(t, err, &wrong)
		_, _, err = b.svc.RotateKey(b.ctx, 99, 0)
		require.ErrorIs(t, err, webtrigger.ErrNotFound)
	})
}
