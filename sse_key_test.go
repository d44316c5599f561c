package webtrigger_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/ssetest"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// keyPath is the stream of a feed's conversation for API keys.
func (f *feed) keyPath(query string) string {
	return "/api/v1/web-triggers/" + strconv.FormatInt(f.run.ConversationID, 10) + "/events" + query
}

func newKey(t *testing.T, svc *webtrigger.Service, assistantID string) (key webtrigger.Key, bearer string) {
	t.Helper()
	key, secret, err := svc.CreateKey(t.Context(), assistantID, webtrigger.KeySpec{Name: "Watcher"})
	require.NoError(t, err)
	return key, "Bearer " + secret
}

func TestKeyStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, siteConfig{authorize: func(*http.Request, webtrigger.Access) error { return errors.New("not asked") }})
		f := newFeed(t, s.store, 0)
		other := newFeed(t, s.store, f.run.ConversationID)
		_, bearer := newKey(t, s.svc, "1")
		auth := []string{"Authorization", bearer}
		whole := s.Open(f.keyPath(""), auth...)
		require.Equal(t, 200, whole.Response.StatusCode)
		require.Equal(t, "text/event-stream", whole.Response.Header.Get("Content-Type"))
		require.Equal(t, "no-store, no-transform", whole.Response.Header.Get("Cache-Control"))
		require.NotEmpty(t, whole.Response.Header.Get("X-Request-Id"))
		require.Equal(t, ssetest.IDs(1, 4), whole.Take(t, 4))
		run := s.Open(f.keyPath("?run_id="+other.run.Key+"&after_sequence=1"), auth...)
		require.Equal(t, ssetest.IDs(4, 4), run.Take(t, 1))
		f.append(1)
		require.Equal(t, ssetest.IDs(5, 5), whole.Take(t, 1))
		f.finish()
		require.Equal(t, ssetest.IDs(6, 6), whole.Take(t, 1))
		other.finish()
		require.Equal(t, ssetest.IDs(7, 7), whole.Rest(t))
		require.Equal(t, ssetest.IDs(7, 7), run.Rest(t))
		require.Equal(t, ssetest.IDs(4, 7), s.Open(f.keyPath("?after_event_id=2"), append(auth, "Last-Event-ID", "3")...).Rest(t))
		require.Equal(t, 204, s.Open(f.keyPath("?after_event_id=7"), auth...).Response.StatusCode)
		require.Equal(t, 404, s.Open(f.keyPath("?run_id=4711"), auth...).Response.StatusCode)
		require.Equal(t, 405, s.Do("POST", f.keyPath(""), auth...).Response.StatusCode)
	})
}

// A key has so many streams at a time and no more; what another key does is
// nothing to it.
func TestKeyStreamCap(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{0, 3, -1} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, siteConfig{streams: webtrigger.StreamOptions{PerKey: limit}})
			a, b := newFeed(t, s.store, 0), newFeed(t, s.store, 0)
			_, bearer := newKey(t, s.svc, "1")
			_, second := newKey(t, s.svc, "1")
			open, allowed := []*ssetest.Reader{}, limit
			if limit <= 0 {
				allowed = 100
			}
			for i := range allowed {
				open = append(open, s.Open([]*feed{a, b}[i%2].keyPath("?after_event_id=2"), "Authorization", bearer))
				require.Equal(t, 200, open[i].Response.StatusCode)
			}
			more := s.Open(a.keyPath(""), "Authorization", bearer)
			if limit < 0 {
				require.Equal(t, 200, more.Response.StatusCode)
				return
			}
			require.Equal(t, 429, more.Response.StatusCode)
			require.Equal(t, "5", more.Response.Header.Get("Retry-After"))
			require.Equal(t, "application/problem+json", more.Response.Header.Get("Content-Type"))
			require.Equal(t, 200, s.Open(a.keyPath(""), "Authorization", second).Response.StatusCode)
			require.Equal(t, 200, s.Open(a.path("")).Response.StatusCode, "the host's sessions are not counted")

			open[0].Close()
			synctest.Wait()
			require.Equal(t, 200, s.Open(a.keyPath(""), "Authorization", bearer).Response.StatusCode)
			require.Equal(t, 429, s.Open(a.keyPath(""), "Authorization", bearer).Response.StatusCode)
		})
	}
}

// A store that is away when keys are checked again ends nothing.
func TestKeyStreamSurvivesStoreErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &keyless{Store: memstore.New(nil)}
		s := newSite(t, siteConfig{store: store})
		f := newFeed(t, store, 0)
		_, bearer := newKey(t, s.svc, "1")
		r := s.Open(f.keyPath("?after_event_id=2"), "Authorization", bearer)
		store.away.Store(true)
		r.Beats(t, 4)
		store.away.Store(false)
		f.append(1)
		require.Equal(t, ssetest.IDs(3, 3), r.Take(t, 1))
	})
}

// keyless is a store that may be unable to check keys.
type keyless struct {
	webtrigger.Store
	away atomic.Bool
}

func (s *keyless) Authenticate(ctx context.Context, hash webtrigger.KeyHash, triggerID int64) (webtrigger.Grant, error) {
	if s.away.Load() {
		return webtrigger.Grant{}, fmt.Errorf("authenticate: %w", webtrigger.ErrUnavailable)
	}
	return s.Store.Authenticate(ctx, hash, triggerID)
}
