package webtrigger_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// limited is a bundle with limits and an API key of assistant 1.
func limited(t *testing.T, limits webtrigger.Limits) (b *bundle, secret string) {
	t.Helper()
	b = setup(t, nil, &webtrigger.Options{BaseURL: "https://app.example.com", Limits: limits, Workers: 1})
	b.fake = true
	_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
	require.NoError(t, err)
	return b, secret
}

// post triggers assistant 1 over HTTP.
func (b *bundle) post(secret, message string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(b.ctx, http.MethodPost, triggerPath, strings.NewReader(`{"message":"`+message+`"}`))
	r.Header.Set("Authorization", "Bearer "+secret)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	b.svc.ServeHTTP(w, r)
	return w
}

// A bucket fills evenly: a token a third of the window, and no more than three.
func TestRateFillsEvenly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, secret := limited(t, webtrigger.Limits{TriggersPerKey: 3})
		passes := func(n int, retryAfter string) {
			t.Helper()
			for range n {
				require.Equal(t, http.StatusAccepted, b.post(secret, "say x").Code)
			}
			w := b.post(secret, "say x")
			require.Equal(t, http.StatusTooManyRequests, w.Code)
			require.Equal(t, retryAfter, w.Header().Get("Retry-After"))
			require.Equal(t, `"key";r=0;t=`+retryAfter, w.Header().Get("RateLimit"))
			require.Equal(t, `"key";q=3;w=60`, w.Header().Get("RateLimit-Policy"))
		}
		passes(3, "20")
		time.Sleep(500 * time.Millisecond)
		passes(0, "20") // rounded up: who obeys is not refused again
		time.Sleep(19 * time.Second)
		passes(0, "1")
		time.Sleep(500 * time.Millisecond)
		passes(1, "20")
		time.Sleep(50 * time.Second)
		passes(2, "10")
		time.Sleep(time.Hour)
		w := b.post(secret, "say x")
		require.Equal(t, `"key";r=2;t=20`, w.Header().Get("RateLimit"))
		time.Sleep(5 * time.Second)
		require.Equal(t, `"key";r=1;t=15`, b.post(secret, "say x").Header().Get("RateLimit"))
		passes(1, "15")
	})
}

// Triggers that come at once do not pass the limit together.
func TestRateOfSimultaneousTriggers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, secret := limited(t, webtrigger.Limits{TriggersPerKey: 10, Window: time.Hour})
		codes := make([]int, 100)
		var done sync.WaitGroup
		for i := range codes {
			done.Go(func() { codes[i] = b.post(secret, "say "+strconv.Itoa(i)).Code })
		}
		done.Wait()
		accepted := 0
		for _, code := range codes {
			if code == http.StatusAccepted {
				accepted++
			}
		}
		require.Equal(t, 10, accepted)
		state, err := b.svc.QueueState(b.ctx)
		require.NoError(t, err)
		require.Equal(t, 10, state.Queued)
	})
}

// blindStore finds no request that stood already before it stores.
type blindStore struct{ webtrigger.Store }

func (blindStore) Replay(context.Context, string, webtrigger.Idempotency) (webtrigger.Run, error) {
	return webtrigger.Run{}, webtrigger.ErrNotFound
}

// A copy that turns out to be one only when it is stored is not counted either.
func TestRateDoesNotCountReplays(t *testing.T) {
	t.Parallel()
	b := setupOn(t, blindStore{memstore.New(nil)}, nil, &webtrigger.Options{Limits: webtrigger.Limits{TriggersPerKey: 3, Window: time.Hour}})
	_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
	require.NoError(t, err)
	for range 10 {
		r := httptest.NewRequestWithContext(b.ctx, http.MethodPost, triggerPath, strings.NewReader(`{"message":"x"}`))
		r.Header.Set("Authorization", "Bearer "+secret)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", "k")
		w := httptest.NewRecorder()
		b.svc.ServeHTTP(w, r)
		require.Equal(t, http.StatusAccepted, w.Code)
	}
	require.Equal(t, `"key";r=1;t=1200`, b.post(secret, "x").Header().Get("RateLimit"))
}

// A trigger that the host makes has no rate, but a place in the queue; a run that
// is executed at once needs none.
func TestQueueLimitHoldsForEveryTrigger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, secret := limited(t, webtrigger.Limits{TriggersPerKey: 1, QueuedPerAssistant: 2})
		b.trigger("hang")
		b.trigger("hang")
		_, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "x"})
		require.ErrorIs(t, err, webtrigger.ErrQueueFull)
		_, err = b.svc.TriggerVia(b.ctx, b.store, "1", webtrigger.TriggerRequest{Message: "x"})
		require.ErrorIs(t, err, webtrigger.ErrQueueFull)
		r := httptest.NewRequestWithContext(b.ctx, http.MethodPost, "/", strings.NewReader(`{"message":"x"}`))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		b.svc.ServeTrigger(w, r, "1")
		require.Equal(t, http.StatusTooManyRequests, w.Code)
		require.Contains(t, w.Body.String(), `"code":"queue_full"`)

		defer b.work()() // takes the first one
		require.Equal(t, http.StatusAccepted, b.post(secret, "hang").Code)
		_, err = b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "x"})
		require.ErrorIs(t, err, webtrigger.ErrQueueFull)
	})
}

func TestRunThatIsTakenAtAcceptNeedsNoPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := limited(t, webtrigger.Limits{QueuedPerAssistant: 1})
		defer b.work()()
		running := b.trigger("hang")
		require.Equal(t, webtrigger.RunRunning, b.run(running.ID).Status)
		b.trigger("hang") // waits
		_, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "x"})
		require.ErrorIs(t, err, webtrigger.ErrQueueFull)
		_, err = b.svc.CancelRun(b.ctx, running.ID, "")
		require.NoError(t, err)
		synctest.Wait()
		b.trigger("hang")
	})
}

// A request is known for a day from when it was accepted, however often it is
// repeated, and is a new one afterwards.
func TestIdempotencyKeyIsForgottenAfterADay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, nil, nil)
		_, secret, err := b.svc.CreateKey(b.ctx, "1", webtrigger.KeySpec{Name: "Make"})
		require.NoError(t, err)
		post := func(body string) (*httptest.ResponseRecorder, bool) {
			r := httptest.NewRequestWithContext(b.ctx, http.MethodPost, triggerPath, strings.NewReader(body))
			r.Header.Set("Authorization", "Bearer "+secret)
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Idempotency-Key", "k")
			w := httptest.NewRecorder()
			b.svc.ServeHTTP(w, r)
			return w, w.Header().Get("Idempotent-Replayed") == "true"
		}
		first, replayed := post(`{"message":"x"}`)
		require.False(t, replayed)
		for range 3 {
			time.Sleep(8*time.Hour - time.Microsecond)
			again, replayed := post(`{"message":"x"}`)
			require.True(t, replayed)
			require.Equal(t, first.Body.String(), again.Body.String())
			refused, _ := post(`{"message":"y"}`)
			require.Equal(t, http.StatusUnprocessableEntity, refused.Code)
		}
		time.Sleep(3 * time.Microsecond)
		next, replayed := post(`{"message":"y"}`)
		require.Equal(t, http.StatusAccepted, next.Code)
		require.False(t, replayed)
		require.Contains(t, next.Body.String(), `"trigger_id":2,`)
	})
}
