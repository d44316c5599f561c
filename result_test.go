package webtrigger_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// wholeStore counts reads of whole runs and of whole conversations.
type wholeStore struct {
	webtrigger.Store
	whole atomic.Int64
}

func (s *wholeStore) RunByID(ctx context.Context, id int64) (webtrigger.Run, error) {
	s.whole.Add(1)
	return s.Store.RunByID(ctx, id)
}

func (s *wholeStore) Conversation(ctx context.Context, id int64) (webtrigger.Conversation, error) {
	s.whole.Add(1)
	return s.Store.Conversation(ctx, id)
}

// unlimited accepts the deadlines that a stream sets.
type unlimited struct{ *httptest.ResponseRecorder }

func (unlimited) SetWriteDeadline(time.Time) error { return nil }

// A result is read where it is shown, and a large one apart from the authentication.
// Streams, lists and requests that are denied do not read it.
func TestResult_anySize_isReadOnlyWhereShown(t *testing.T) {
	t.Parallel()
	store := &wholeStore{Store: memstore.New(nil)}
	b := setupOn(t, store, webtrigger.RunnerFunc(func(_ context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		size, err := strconv.Atoi(task.Input.Message)
		return &webtrigger.Result{Text: strings.Repeat("x", size)}, err
	}), nil)
	_, bearer := newKey(t, b.svc, "1")
	session := b.svc.EventsHandler(func(*http.Request, webtrigger.Access) error { return webtrigger.ErrUnauthenticated })
	for _, c := range []struct {
		size  int
		reads int64
	}{{0, 0}, {webtrigger.MaxGrantResultBytes, 0}, {webtrigger.MaxGrantResultBytes + 1, 1}, {webtrigger.MaxResultBytes, 1}} {
		call := func(reads int64, status int, handler http.Handler, method, path, body string, header ...string) string {
			t.Helper()
			r := httptest.NewRequestWithContext(b.ctx, method, path, strings.NewReader(body))
			r.Header.Set("Authorization", bearer)
			r.Header.Set("Content-Type", "application/json")
			for i := 0; i < len(header); i += 2 {
				r.Header.Set(header[i], header[i+1])
			}
			w := httptest.NewRecorder()
			before := store.whole.Load()
			handler.ServeHTTP(unlimited{w}, r)
			require.Equal(t, status, w.Code, path)
			require.Equal(t, reads, store.whole.Load()-before, "%s of %d bytes", path, c.size)
			return w.Body.String()
		}
		body, key := `{"message":"`+strconv.Itoa(c.size)+`"}`, "key-"+strconv.Itoa(c.size)
		call(0, http.StatusAccepted, b.svc, "POST", triggerPath, body, "Idempotency-Key", key)
		runs, err := b.svc.Runs(b.ctx, webtrigger.RunQuery{Page: webtrigger.Page{Limit: 1}})
		require.NoError(t, err)
		run := runs[0]
		require.NoError(t, b.svc.Execute(b.ctx, run.ID))
		before := store.whole.Load()
		require.NoError(t, b.svc.Execute(b.ctx, run.ID), "it has ended")
		_, err = b.svc.Runs(b.ctx, webtrigger.RunQuery{})
		require.NoError(t, err)
		require.Equal(t, before, store.whole.Load())

		trigger := "/api/v1/web-triggers/" + strconv.FormatInt(run.ConversationID, 10)
		want := `"result":"` + strings.Repeat("x", c.size) + `"`
		require.Contains(t, call(c.reads, http.StatusOK, b.svc, "GET", trigger+"/status", ""), want)
		require.Contains(t, call(c.reads, http.StatusOK, b.svc, "POST", trigger+"/cancel", ""), want)
		call(0, http.StatusAccepted, b.svc, "POST", triggerPath, body, "Idempotency-Key", key)
		require.Contains(t, call(c.reads, http.StatusOK, b.svc, "POST", triggerPath, body, "Idempotency-Key", key, "Prefer", "wait=5"), want)
		call(0, http.StatusOK, b.svc, "HEAD", trigger+"/events?run_id="+run.Key, "")
		path := "/conversations/" + strconv.FormatInt(run.ConversationID, 10) + "/agent-events"
		call(0, http.StatusUnauthorized, session, "GET", path, "")
	}
}

// A Host header is stored with the trigger, so it has a bound. A configured base URL
// makes it irrelevant.
func TestTrigger_longHost_isRejected(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"", "https://app.example.com"} {
		b := setupOn(t, memstore.New(nil), nil, &webtrigger.Options{BaseURL: base})
		_, bearer := newKey(t, b.svc, "1")
		for length, status := range map[int]int{260: http.StatusAccepted, 261: http.StatusBadRequest, 100_000: http.StatusBadRequest} {
			r := httptest.NewRequestWithContext(b.ctx, "POST", triggerPath, strings.NewReader(`{"message":"x"}`))
			r.Host = strings.Repeat("h", length)
			r.Header.Set("Authorization", bearer)
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			b.svc.ServeHTTP(w, r)
			if base != "" {
				status = http.StatusAccepted
			}
			require.Equal(t, status, w.Code)
			if status == http.StatusBadRequest {
				require.Contains(t, w.Body.String(), `"url_too_long"`)
				require.NotContains(t, w.Body.String(), "hhh")
				require.NotContains(t, b.svc.TriggerURL(r, "1"), "hhh")
			}
		}
	}
}
