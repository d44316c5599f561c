package openapi_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/openapi"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// TestLive checks the responses of a running service over TCP, including its streams
// and their frames.
func TestLive(t *testing.T) {
	t.Parallel()
	c := newContract(t, openapi.JSON())
	streams := 0
	for _, x := range live(t) {
		require.Empty(t, c.check(x), "%s %s\n%s", x.method, x.target, x.answerBody)
		if x.answer.Get("Content-Type") == "text/event-stream" {
			streams++
			require.Contains(t, string(x.answerBody), `"event_type":"run_completed"`)
		}
	}
	require.Equal(t, 2, streams)
	for _, seen := range []string{
		"POST /api/v1/assistants/{assistant_id}/web-trigger 202", "GET /api/v1/web-triggers/{trigger_id}/status 200",
		"GET /api/v1/web-triggers/{trigger_id}/status 304", "POST /api/v1/web-triggers/{trigger_id}/cancel 200",
		"GET /api/v1/web-triggers/{trigger_id}/events 204", "GET /conversations/{conversation_id}/agent-events 401 unauthenticated",
	} {
		require.True(t, c.seen[seen], seen)
	}
}

// live calls every operation of a service and returns the exchanges.
func live(t *testing.T) (all []exchange) {
	t.Helper()
	got := make(chan exchange, 1)
	receiver := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- exchange{request: r.Header.Clone(), requestBody: body}
	}))
	defer receiver.Close()
	roots := x509.NewCertPool()
	roots.AddCert(receiver.Certificate())
	runner := webtrigger.RunnerFunc(func(_ context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
		err := emit("x_step", map[string]any{"n": 1})
		return &webtrigger.Result{Text: "echo: " + task.Prompt, Usage: &webtrigger.Usage{InputTokens: 1, OutputTokens: 2}}, err
	})
	svc, err := webtrigger.New(memstore.New(nil), runner, &webtrigger.Options{
		Callback: webtrigger.CallbackOptions{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, RootCAs: roots},
	})
	require.NoError(t, err)
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true, AllowCallbackURLs: true}))
	_, key, err := svc.CreateKey(t.Context(), "1", webtrigger.KeySpec{Name: "contract"})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	worked := make(chan error, 1)
	go func() { worked <- svc.Work(ctx) }()
	defer func() {
		stop()
		require.NoError(t, <-worked)
	}()
	mux := http.NewServeMux()
	mux.Handle("/api/v1/", svc)
	mux.Handle("/conversations/", svc.EventsHandler(func(r *http.Request, _ webtrigger.Access) error {
		if r.Header.Get("Cookie") == "" {
			return webtrigger.ErrUnauthenticated
		}
		return nil
	}))
	server := httptest.NewServer(mux)
	defer server.Close()

	do := func(method, path, body string, header ...string) exchange {
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+key)
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		answer, err := server.Client().Do(r)
		require.NoError(t, err)
		defer answer.Body.Close()
		read, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		x := exchange{name: method + " " + path, method: method, target: r.URL.String(), request: r.Header,
			requestBody: []byte(body), status: answer.StatusCode, answer: answer.Header, answerBody: read}
		all = append(all, x)
		return x
	}
	const trigger, status, events = "/api/v1/assistants/1/web-trigger", "/api/v1/web-triggers/1/status", "/api/v1/web-triggers/1/events"
	sent := fmt.Sprintf(`{"message": "h\u00e9llo", "context": {"a": 1e22}, "metadata": [null], "callback_url": %q}`, receiver.URL+"/hook")
	do(http.MethodPost, trigger, sent, "Idempotency-Key", `"once"`)
	do(http.MethodPost, trigger, sent, "Idempotency-Key", "once")
	do(http.MethodPost, trigger, `{"message": "other"}`, "Idempotency-Key", "once")
	do(http.MethodGet, events, "")
	do(http.MethodGet, events+"?run_id=1&after_sequence=0&after_event_id=9", "")
	do(http.MethodGet, "/conversations/1/agent-events?run_id=1", "", "Cookie", "session=1", "Last-Event-ID", "1")
	do(http.MethodGet, "/conversations/1/agent-events", "")
	read := do(http.MethodGet, status, "")
	do(http.MethodGet, status, "", "If-None-Match", read.answer.Get("ETag"))
	do(http.MethodHead, status, "")
	do(http.MethodPost, "/api/v1/web-triggers/1/cancel", "")
	do(http.MethodPost, trigger, `{}`)
	do(http.MethodDelete, trigger, "")
	do(http.MethodGet, "/api/v1/nothing", "")

	select {
	case x := <-got:
		callback(t, x)
	case <-time.After(30 * time.Second):
		require.FailNow(t, "no callback came")
	}
	return all
}

// callback checks a callback against the document, and that an additional field is
// detected.
func callback(t *testing.T, x exchange) {
	t.Helper()
	c := newContract(t, openapi.JSON())
	where := []string{"paths", "/api/v1/assistants/{assistant_id}/web-trigger", "post", "callbacks", "runEnded",
		"{$request.body#/callback_url}", "post", "requestBody", "content", "application/json", "schema"}
	require.Empty(t, c.json(where, x.requestBody, "callback"))
	added := slices.Concat([]byte(`{"new_field":1,`), x.requestBody[1:])
	require.NotEmpty(t, c.json(where, added, "callback"))
}
