package webtrigger_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

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
