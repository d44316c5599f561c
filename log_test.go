package webtrigger_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// records are the log's lines about runs, by their message.
func records(t *testing.T, log *bytes.Buffer) map[string][]map[string]any {
	t.Helper()
	found := make(map[string][]map[string]any)
	for line := range bytes.Lines(log.Bytes()) {
		var record map[string]any
		require.NoError(t, json.Unmarshal(line, &record))
		if record["run_id"] != nil {
			message := record["msg"].(string)
			found[message] = append(found[message], record)
		}
	}
	return found
}

// Whatever a process does for a run that another one has accepted, its log names
// the request that triggered it.
func TestLogNamesTheRequestOnEveryReplica(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(nil)
		front := setupOn(t, store, nil, nil)
		_, secret, err := front.svc.CreateKey(front.ctx, "1", webtrigger.KeySpec{Name: "Make"})
		require.NoError(t, err)
		post := func(requestID, body string) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, triggerPath, strings.NewReader(body))
			r.Header.Set("Authorization", "Bearer "+secret)
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("X-Request-Id", requestID)
			w := httptest.NewRecorder()
			front.svc.ServeHTTP(w, r)
			require.Equal(t, http.StatusAccepted, w.Code, w.Body)
		}
		post("zap/1", `{"message":"say x","callback_url":"https://93.184.215.14/hook"}`)
		post("zap/2", `{"message":"panic !"}`)
		post("zap/3", `{"message":"say never"}`)
		_, err = store.ClaimRuns(t.Context(), webtrigger.Claim{Worker: "lost", Lease: time.Second, Limit: 1, RunID: 3})
		require.NoError(t, err)

		var log bytes.Buffer
		back := setupOn(t, store, nil, &webtrigger.Options{Logger: slog.New(slog.NewJSONHandler(&log, nil))})
		back.fake = true
		back.svc.StubCallbacks(func() error { return nil }, func([]byte) (int, error) { return http.StatusTeapot, nil })
		stop := back.work()
		time.Sleep(time.Minute)
		stop()
		said := records(t, &log)
		for message, requestID := range map[string]string{
			"run started": "zap/1", "run ended": "zap/1", "callback not delivered": "zap/1",
			"runner panicked": "zap/2", "run swept": "zap/3",
		} {
			require.True(t, slices.ContainsFunc(said[message], func(r map[string]any) bool { return r["request_id"] == requestID }), message)
		}
		for message, list := range said {
			for _, record := range list {
				require.NotEmpty(t, record["run_key"], message)
				require.Equal(t, "zap/"+strconv.Itoa(int(record["run_id"].(float64))), record["request_id"], message)
			}
		}
	})
}

// A trigger from Go carries the host's id, where that is one that a header may
// have.
func TestRequestIDFromGo(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	for given, kept := range map[string]string{
		"req-1": "req-1", "": "", "two words": "", "x\n": "", strings.Repeat("a", 128): strings.Repeat("a", 128), strings.Repeat("a", 129): "",
	} {
		run, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: "x", RequestID: given})
		require.NoError(t, err)
		require.Equal(t, kept, run.RequestID)
		require.Equal(t, kept, b.run(run.ID).RequestID)
	}
}
