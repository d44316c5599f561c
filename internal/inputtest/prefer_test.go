package inputtest

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// A caller that sends the ETag of the waiting run waits until the run ends or asks again.
// Without it, or with another one, it gets the request at once.
func TestStatus_preferWaitWithETagOfWaitingRun_waitsForTheNextState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		svc := newService(t, memstore.New(nil), webtrigger.RunnerFunc(func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
			for range 2 {
				if _, err := webtrigger.AskInput(ctx, task, webtrigger.InputRequest{Question: "Which?"}); err != nil {
					return nil, err
				}
			}
			return &webtrigger.Result{Text: "done"}, nil
		}), webtrigger.Options{})
		stop := working(t, svc)
		defer stop()
		defer svc.CloseStreams()
		id := trigger(t, svc)
		_, secret, err := svc.CreateKey(t.Context(), "1", webtrigger.KeySpec{Name: "n8n"})
		require.NoError(t, err)
		time.Sleep(time.Minute)
		status := func(etag string) (code int, tag string, took time.Duration) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("/api/v1/web-triggers/%d/status", id), nil)
			r.Header.Set("Authorization", "Bearer "+secret)
			r.Header.Set("Prefer", "wait=30")
			if etag != "" {
				r.Header.Set("If-None-Match", etag)
			}
			w, start := httptest.NewRecorder(), time.Now()
			svc.ServeHTTP(w, r)
			require.Equal(t, "wait=30", w.Header().Get("Preference-Applied"))
			if w.Code == http.StatusOK && w.Header().Get("Retry-After") == "" {
				require.Contains(t, w.Body.String(), `"run_status":"completed"`)
			}
			return w.Code, w.Header().Get("ETag"), time.Since(start)
		}
		code, first, took := status("")
		require.Equal(t, http.StatusOK, code)
		require.Zero(t, took)
		code, _, took = status(`"other"`)
		require.Equal(t, http.StatusOK, code)
		require.Zero(t, took)
		code, tag, took := status(first)
		require.Equal(t, http.StatusNotModified, code)
		require.Equal(t, first, tag)
		require.Equal(t, 30*time.Second, took, "nothing changes")

		answer := func(said string) {
			_, err := svc.AnswerInput(t.Context(), id, open(t, svc, id).ID, text(said))
			require.NoError(t, err)
		}
		time.AfterFunc(10*time.Second, func() { answer("one") })
		code, second, took := status(first)
		require.Equal(t, http.StatusOK, code)
		require.NotEqual(t, first, second, "the next request")
		require.Equal(t, 10*time.Second, took)
		code, _, took = status(first)
		require.Equal(t, http.StatusOK, code)
		require.Zero(t, took, "the caller does not know the second request")
		time.AfterFunc(10*time.Second, func() { answer("two") })
		code, _, took = status(second)
		require.Equal(t, http.StatusOK, code)
		require.Equal(t, 10*time.Second, took, "the end")
	})
}
