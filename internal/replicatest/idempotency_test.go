package replicatest_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// A thousand copies of one request, at once, on three replicas: one run, one
// answer. Each replica rejects another body, and the record expires after its
// time.
func TestOneKeyMakesOneRun(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil, webtrigger.Options{NoWorkers: true}, nil)
	const body, other = `{"message": "once"}`, `{"message":"once"}`
	post := func(i int, body string) *httptest.ResponseRecorder {
		return s.replicas[i%3].ask(t.Context(), s.secret, http.MethodPost, triggerPath, body, "Idempotency-Key", "k")
	}
	answers := make([]*httptest.ResponseRecorder, 1000)
	together(len(answers), func(i int) { answers[i] = post(i, body) })
	fresh := 0
	for _, w := range answers {
		require.Equal(t, http.StatusAccepted, w.Code, w.Body)
		require.Equal(t, answers[0].Body.String(), w.Body.String())
		require.Equal(t, answers[0].Header().Get("Location"), w.Header().Get("Location"))
		if w.Header().Get("Idempotent-Replayed") == "" {
			fresh++
		}
	}
	require.Equal(t, 1, fresh)
	require.Equal(t, 1, s.runs())
	for i := range s.replicas {
		w := post(i, other)
		require.Equal(t, http.StatusUnprocessableEntity, w.Code)
		require.Contains(t, w.Body.String(), `"code":"idempotency_key_reused"`)
		require.Equal(t, answers[0].Body.String(), post(i, body).Body.String())
	}
	require.Equal(t, 1, s.runs())

	_, err := s.db.ExecContext(t.Context(), `UPDATE webtrigger_idempotency_keys SET expires_at = expires_at - interval '23 hours 59 minutes'`)
	require.NoError(t, err)
	require.Equal(t, answers[0].Body.String(), post(1, body).Body.String())
	_, err = s.db.ExecContext(t.Context(), `UPDATE webtrigger_idempotency_keys SET expires_at = expires_at - interval '1 minute'`)
	require.NoError(t, err)
	w := post(2, other)
	require.Equal(t, http.StatusAccepted, w.Code)
	require.Empty(t, w.Header().Get("Idempotent-Replayed"))
	require.Equal(t, 2, s.runs())
}

// dying is a store whose process ends between the commit of a trigger and the
// answer to it.
type dying struct{ *bunstore.Store }

var errDied = errors.New("the process has ended")

func (d dying) CreateTrigger(ctx context.Context, t webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	if _, err := d.Store.CreateTrigger(ctx, t); err != nil {
		return webtrigger.CreatedTrigger{}, err
	}
	return webtrigger.CreatedTrigger{}, errors.Join(errDied, webtrigger.ErrUnavailable)
}

// A trigger whose answer was lost after the commit is found by its key: the retry
// on any replica is the answer that was lost.
func TestRetryAfterALostAnswerIsTheSameTrigger(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil, webtrigger.Options{NoWorkers: true}, nil)
	doomed, err := webtrigger.New(dying{s.replicas[0].store.Store}, nil, &webtrigger.Options{NoWorkers: true, BaseURL: "https://app.example.com"})
	require.NoError(t, err)
	const body = `{"message": "once"}`
	lost := (&replica{Service: doomed}).ask(t.Context(), s.secret, http.MethodPost, triggerPath, body, "Idempotency-Key", "k")
	require.Equal(t, http.StatusServiceUnavailable, lost.Code)
	require.Equal(t, "1", lost.Header().Get("Retry-After"))
	require.Equal(t, 1, s.runs())
	var first string
	for _, r := range s.replicas {
		w := r.ask(t.Context(), s.secret, http.MethodPost, triggerPath, body, "Idempotency-Key", "k")
		require.Equal(t, http.StatusAccepted, w.Code)
		require.Equal(t, "true", w.Header().Get("Idempotent-Replayed"))
		if first == "" {
			first = w.Body.String()
		}
		require.Equal(t, first, w.Body.String())
	}
	require.Equal(t, 1, s.runs())
}
