package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/admin"
	"github.com/webtrigger-go/webtrigger/internal/logtest"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

const mount = "/admin/api"

// host is an application with the admin API mounted: its sessions are the names
// in the header X-User. "root" may do everything, "of-N" everything with
// assistant N; without the header, the user is not signed in.
type host struct {
	t       *testing.T
	ctx     context.Context
	clock   *clock
	store   *memstore.Store
	front   webtrigger.Store // what the service sees: store, unless a test has changed it
	svc     *webtrigger.Service
	url     string // of the mounted API
	wire    http.RoundTripper
	service *webtrigger.Options
	log     *logtest.Buffer

	mu     sync.Mutex
	access []webtrigger.Access // what the authorizer was asked
}

type change func(*host, *admin.Options)

func setup(t *testing.T, changes ...change) *host {
	t.Helper()
	h := &host{t: t, ctx: t.Context(), clock: &clock{now: start}, log: new(logtest.Buffer)}
	h.store = memstore.New(&memstore.Options{Clock: h.clock})
	h.front = h.store
	h.service = &webtrigger.Options{
		BaseURL:       "https://app.example.com",
		Logger:        slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		CompileSchema: compile,
		Callback:      webtrigger.CallbackOptions{Resolver: noResolver()},
	}
	opts := &admin.Options{}
	for _, c := range changes {
		c(h, opts)
	}
	svc, err := webtrigger.New(h.front, webtrigger.RunnerFunc(hang), h.service)
	require.NoError(t, err)
	t.Cleanup(svc.CloseStreams) // which ends its watch of the store
	h.svc = svc
	api, err := admin.New(svc, h.authorize, opts)
	require.NoError(t, err)
	server := httptest.NewServer(http.StripPrefix(mount, api))
	t.Cleanup(server.Close)
	h.url, h.wire = server.URL+mount, server.Client().Transport
	for _, id := range []string{"1", "2"} {
		require.NoError(t, svc.SetChannel(h.ctx, webtrigger.Channel{AssistantID: id, Enabled: true, AllowCallbackURLs: true}))
	}
	return h
}

func (h *host) authorize(r *http.Request, access webtrigger.Access) error {
	h.mu.Lock()
	h.access = append(h.access, access)
	h.mu.Unlock()
	user := r.Header.Get("X-User")
	webtrigger.SetActor(r, user)
	switch {
	case user == "":
		return webtrigger.ErrUnauthenticated
	case user == "root", access.AssistantID != "" && user == "of-"+access.AssistantID:
		return nil
	}
	return errors.New("forbidden")
}

// asked returns what the authorizer was asked since the last call.
func (h *host) asked() []webtrigger.Access {
	h.mu.Lock()
	defer h.mu.Unlock()
	asked := h.access
	h.access = nil
	return asked
}

// answer is a response of the API.
type answer struct {
	t      *testing.T
	Status int
	Header http.Header
	Body   string
}

// decode reads the body, numbers as they are written.
func (a *answer) decode() map[string]any {
	a.t.Helper()
	var v map[string]any
	d := json.NewDecoder(strings.NewReader(a.Body))
	d.UseNumber()
	require.NoError(a.t, d.Decode(&v), a.Body)
	return v
}

// problem is the body of a problem response.
type problem struct {
	Type, Title, Detail, Code string
	Status                    int
	Errors                    []struct{ Pointer, Detail string }
}

func (a *answer) problem() (p problem) {
	a.t.Helper()
	require.NoError(a.t, json.Unmarshal([]byte(a.Body), &p), a.Body)
	return p
}

// do sends a request as root. A call is "METHOD /path"; a body, if there is one,
// is sent as JSON. Further headers come in pairs.
func (h *host) do(call, body string, headers ...string) *answer {
	h.t.Helper()
	method, path, _ := strings.Cut(call, " ")
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(h.ctx, method, h.url+path, content)
	require.NoError(h.t, err)
	r.Header.Set("X-User", "root")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := h.wire.RoundTrip(r)
	require.NoError(h.t, err)
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	require.NoError(h.t, err)
	a := &answer{h.t, response.StatusCode, response.Header, string(got)}
	h.checkHeaders(a)
	return a
}

// checkHeaders holds an answer to what all answers share.
func (h *host) checkHeaders(a *answer) {
	h.t.Helper()
	require.NotEmpty(h.t, a.Header.Get("X-Request-Id"))
	require.Contains(h.t, a.Header.Get("Cache-Control"), "no-store")
	switch {
	case a.Status >= 400:
		require.Equal(h.t, "application/problem+json", a.Header.Get("Content-Type"), a.Body)
		if a.Body != "" { // as after HEAD
			p := a.problem()
			require.Equal(h.t, a.Status, p.Status)
			require.Equal(h.t, http.StatusText(a.Status), p.Title)
			require.True(h.t, strings.HasSuffix(p.Type, "#"+p.Code), p.Type)
		}
	case a.Status == http.StatusNoContent:
		require.Empty(h.t, a.Body)
	}
}

// trigger starts a run of an assistant.
func (h *host) trigger(assistantID string, req webtrigger.TriggerRequest) webtrigger.Run {
	h.t.Helper()
	if req.Message == "" {
		req.Message = "Hello"
	}
	run, err := h.svc.Trigger(h.ctx, assistantID, req)
	require.NoError(h.t, err)
	return run
}

// take makes the oldest queued run running.
func (h *host) take() webtrigger.ClaimedRun {
	h.t.Helper()
	worker := webtrigger.Process{ID: "test", Lease: time.Hour, MaxAttempts: 1}
	require.NoError(h.t, h.store.RegisterProcess(h.ctx, worker))
	claimed, err := h.store.ClaimRuns(h.ctx, webtrigger.Claim{ProcessID: worker.ID, Token: webtrigger.NewToken(), Limit: 1})
	require.NoError(h.t, err)
	require.Len(h.t, claimed, 1)
	return claimed[0]
}

// end takes the oldest queued run and ends it.
func (h *host) end(outcome webtrigger.Outcome) webtrigger.Run {
	h.t.Helper()
	run, err := h.store.FinishRun(h.ctx, h.take().Lease, webtrigger.Finish{Outcome: outcome})
	require.NoError(h.t, err)
	return run
}

// deliver ends the oldest pending delivery; without an outcome it is left under
// way.
func (h *host) deliver(outcome *webtrigger.DeliveryOutcome) {
	h.t.Helper()
	pending, err := h.store.LeaseDeliveries(h.ctx, webtrigger.DeliveryQuery{Token: webtrigger.NewToken(), Lease: time.Hour, Limit: 1})
	require.NoError(h.t, err)
	require.Len(h.t, pending, 1)
	if outcome == nil || outcome.State != webtrigger.DeliveryBlocked {
		require.NoError(h.t, h.store.ClaimDelivery(h.ctx, pending[0].Lease))
	}
	if outcome != nil {
		require.NoError(h.t, h.store.FinishDelivery(h.ctx, pending[0].Lease, *outcome))
	}
}

// hang is a Runner that works until its context ends.
func hang(ctx context.Context, _ *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// compile accepts every schema without the string "bad".
func compile(schema json.RawMessage) (func(json.RawMessage) error, error) {
	if bytes.Contains(schema, []byte(`"bad"`)) {
		return nil, errors.New("no such type: bad")
	}
	return func(json.RawMessage) error { return nil }, nil
}

// noResolver resolves no name and sends no query.
func noResolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no network")
	}}
}

var start = time.Date(2026, 4, 15, 10, 1, 23, 0, time.UTC)

// clock stands still unless it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
