package webtrigger_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/ssetest"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

func TestStreamReplaysThenFollows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, siteConfig{})
		f := newFeed(t, s.store, 0)
		f.append(1)
		r := s.Open(f.ofRun(""))
		synctest.Wait() // until Watch listens
		require.Equal(t, 200, r.Response.StatusCode)
		require.Equal(t, "text/event-stream", r.Response.Header.Get("Content-Type"))
		require.Equal(t, "no-store, no-transform", r.Response.Header.Get("Cache-Control"))
		require.Equal(t, "no", r.Response.Header.Get("X-Accel-Buffering"))
		require.Equal(t, ssetest.IDs(1, 2), r.Take(t, 2))
		e, err := r.Event()
		require.NoError(t, err)
		require.JSONEq(t, `"x_step"`, strconv.Quote(e.Type))
		require.Equal(t, `{"html":"<b>&amp;</b>","n":1e22}`, string(e.Payload), "lexemes stay as stored")
		require.Equal(t, []any{int64(3), int64(3), f.run.ID, f.run.Key, f.run.ConversationID},
			[]any{e.ID, e.Sequence, e.RunID, e.RunKey, e.ConversationID})
		require.Equal(t, "2000-01-01T00:00:00+00:00", e.CreatedAt)
		for id := int64(4); id < 20; id++ {
			f.append(1)
			require.Equal(t, ssetest.IDs(id, id), r.Take(t, 1))
		}
		f.finish()
		require.Equal(t, ssetest.IDs(20, 20), r.Rest(t))
		require.Equal(t, 1, r.Retries)
		require.Zero(t, time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)), "hints, not polls")
	})
}

func TestStreamResumesAnywhere(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteConfig{streams: webtrigger.StreamOptions{MemoryBytes: 600}})
	other := newFeed(t, s.store, 0)
	other.append(2) // ids 1 to 4
	other.finish()  // 5: sequences and ids differ in what follows
	f := newFeed(t, s.store, other.run.ConversationID)
	f.append(6)
	f.finish()
	const first, last = 6, 14
	for at := int64(0); at <= last; at++ {
		id, sequence := strconv.FormatInt(at, 10), strconv.FormatInt(max(at-first+1, 0), 10)
		for name, open := range map[string]func() *ssetest.Reader{
			"header":           func() *ssetest.Reader { return s.Open(f.ofRun(""), "Last-Event-ID", id) },
			"query":            func() *ssetest.Reader { return s.Open(f.ofRun("&after_event_id=" + id)) },
			"query and header": func() *ssetest.Reader { return s.Open(f.ofRun("&after_event_id=1"), "Last-Event-ID", id) },
			"header and query": func() *ssetest.Reader { return s.Open(f.ofRun("&after_event_id="+id), "Last-Event-ID", "1") },
			"sequence":         func() *ssetest.Reader { return s.Open(f.ofRun("&after_sequence=" + sequence)) },
			"all": func() *ssetest.Reader {
				return s.Open(f.ofRun("&after_event_id=1&after_sequence="+sequence), "Last-Event-ID", "2")
			},
			"sequence, header": func() *ssetest.Reader { return s.Open(f.ofRun("&after_sequence=1"), "Last-Event-ID", id) },
			"by key": func() *ssetest.Reader {
				return s.Open(f.path("?run_id="+strings.ToUpper(f.run.Key)), "Last-Event-ID", id)
			},
		} {
			from := max(at+1, first)
			switch { // what the constant cursor of the case hides
			case name == "sequence, header":
				from = max(from, first+1)
			case name == "query and header", name == "header and query":
				from = max(from, 2)
			}
			r := open()
			if from > last {
				require.Equal(t, 204, r.Response.StatusCode, "%s at %d", name, at)
				require.Equal(t, "no-store", r.Response.Header.Get("Cache-Control"))
				continue
			}
			require.Equal(t, ssetest.IDs(from, last), r.Rest(t), "%s at %d", name, at)
		}
	}
}

func TestStream_denied_returnsProblem(t *testing.T) {
	t.Parallel()
	store := memstore.New(nil)
	s, err := webtrigger.New(store, nil, &webtrigger.Options{NoWorkers: true})
	require.NoError(t, err)
	t.Cleanup(s.CloseStreams)
	f, foreign, ended := newFeed(t, store, 0), newFeed(t, store, 0), newFeed(t, store, 0)
	ended.finish()
	var asked []webtrigger.Access
	authorize := func(r *http.Request, a webtrigger.Access) error {
		asked = append(asked, a)
		switch r.Header.Get("Session") {
		case "":
			return fmt.Errorf("look up session: %w", webtrigger.ErrUnauthenticated)
		case "admin":
			return nil
		case "user":
			if a.AssistantID == "1" {
				return nil
			}
		}
		return errors.New("denied")
	}
	base := "/conversations/" + strconv.FormatInt(f.run.ConversationID, 10) + "/agent-events"
	run := base + "?run_id=" + strconv.FormatInt(f.run.ID, 10)
	const absent = "/conversations/4711/agent-events"
	var notFound string
	for _, c := range []struct {
		method, session, path string
		status                int
	}{
		{"GET", "admin", "/conversations/4711/agent-events", 404}, // what all other 404s look like
		{"GET", "user", absent, 404},
		{"GET", "other", base, 404},
		{"GET", "other", base + "?after_event_id=x", 404},
		{"GET", "user", absent + "?after_event_id=x", 404},
		{"GET", "user", base + "?run_id=4711", 404},
		{"GET", "user", base + "?run_id=" + strconv.FormatInt(foreign.run.ID, 10), 404},
		{"GET", "user", base + "?run_id=" + foreign.run.Key, 404},
		{"GET", "user", base + "?run_id=0f1e2d3c-0000-4000-8000-000000000000", 404},
		{"GET", "user", base + "?run_id={" + f.run.Key + "}", 404},
		{"GET", "user", base + "?run_id=x", 404},
		{"GET", "user", base + "?run_id=", 404},
		{"GET", "user", base + "?run_id=-1", 404},
		{"GET", "user", base + "?run_id=9223372036854775808", 404},
		{"GET", "user", "/conversations/x/agent-events", 404},
		{"GET", "user", "/conversations//agent-events", 404},
		{"GET", "user", "/conversations/0/agent-events", 404},
		{"GET", "user", "/conversations/-1/agent-events", 404},
		{"GET", "user", "/conversations/01/agent-events", 404},
		{"GET", "user", "/conversations/9223372036854775808/agent-events", 404},
		{"GET", "user", base + "//", 404}, // one slash is let pass
		{"GET", "user", "/runs/1/agent-events", 404},
		{"GET", "user", "//1/agent-events", 404},
		{"GET", "user", "/conversations/1/events", 404},
		{"GET", "user", "/agent-events", 404},
		{"POST", "", "/conversations/x/agent-events", 404},

		{"POST", "", base, 405},
		{"DELETE", "admin", absent, 405},

		{"GET", "", base, 401},
		{"GET", "", absent, 401},
		{"GET", "", base + "?after_event_id=x", 401},
		{"GET", "", base + "?run_id=4711", 401},

		{"GET", "user", base + "?after_event_id=x", 400},
		{"GET", "user", base + "?after_event_id=", 400},
		{"GET", "user", base + "?after_event_id=-1", 400},
		{"GET", "user", base + "?after_event_id=%2B1", 400},
		{"GET", "user", base + "?after_event_id=1.0", 400},
		{"GET", "user", base + "?after_event_id=9223372036854775808", 400},
		{"GET", "user", base + "?after_event_id=1&after_event_id=1", 400},
		{"GET", "user", base + "?after_sequence=1", 400},
		{"GET", "user", run + "&after_sequence=-1", 400},
		{"GET", "user", run + "&after_sequence=1&after_sequence=1", 400},
		{"GET", "user", run + "&run_id=1", 400},
		{"GET", "user", base + "?%zz", 400},
		{"GET", "user", base + "?run_id=4711&after_sequence=x", 400}, // before 404
		{"GET", "admin", absent + "?after_event_id=x", 400},

		{"GET", "user", "/conversations/" + strconv.FormatInt(ended.run.ConversationID, 10) + "/agent-events?after_event_id=3", 204},
		{"HEAD", "user", "/conversations/" + strconv.FormatInt(ended.run.ConversationID, 10) + "/agent-events?after_event_id=3", 204},
	} {
		name := c.method + " " + c.path + " by " + c.session
		r := httptest.NewRequest(c.method, "/", nil)
		r.URL.Path, r.URL.RawQuery, _ = strings.Cut(c.path, "?")
		if c.session != "" {
			r.Header.Set("Session", c.session)
		}
		w := httptest.NewRecorder()
		s.EventsHandler(authorize).ServeHTTP(w, r)
		require.Equal(t, c.status, w.Code, name)
		require.NotEmpty(t, w.Header().Get("X-Request-Id"), name)
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"), name)
		switch c.status {
		case 404:
			if notFound == "" {
				notFound = w.Body.String()
			}
			require.Equal(t, notFound, w.Body.String(), name)
		case 405:
			require.Equal(t, "GET, HEAD", w.Header().Get("Allow"), name)
		case 204:
			require.Empty(t, w.Body.String(), name)
		}
	}
	require.Contains(t, asked, webtrigger.Access{Action: webtrigger.ActionReadEvents, AssistantID: "1", ConversationID: f.run.ConversationID})
	require.Contains(t, asked, webtrigger.Access{Action: webtrigger.ActionReadEvents, ConversationID: 4711})
	require.Panics(t, func() { s.EventsHandler(nil) })
}

func TestStreamIgnoresUnusableLastEventID(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteConfig{})
	f := newFeed(t, s.store, 0)
	f.finish()
	for _, header := range []string{"", "x", "-1", "+1", "1.5", "9223372036854775808", "1, 2"} {
		require.Equal(t, ssetest.IDs(1, 3), s.Open(f.path(""), "Last-Event-ID", header).Rest(t), header)
	}
	require.Equal(t, ssetest.IDs(3, 3), s.Open(f.path(""), "Last-Event-ID", "2").Rest(t))
}

func TestStreamUnderAnyRouter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		prefix string
		wrap   func(http.Handler) http.Handler
	}{
		{"", func(h http.Handler) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("GET /conversations/{conversation_id}/agent-events", h)
			return mux
		}},
		{"/a/b", nil},
		{"/api", func(h http.Handler) http.Handler { return http.StripPrefix("/api", h) }},
		{"", func(h http.Handler) http.Handler { return http.StripPrefix("/conversations", h) }},
		{"", func(h http.Handler) http.Handler { return http.StripPrefix("/conversations/", h) }},
	} {
		s := newSite(t, siteConfig{wrap: c.wrap})
		f := newFeed(t, s.store, 0)
		f.finish()
		require.Equal(t, ssetest.IDs(1, 3), s.Open(c.prefix+f.path("")).Rest(t))
	}
}

func TestStreamHeartbeatAsksTheAuthorizerAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		s := newSite(t, siteConfig{authorize: func(*http.Request, webtrigger.Access) error {
			if asked++; asked > 4 {
				return webtrigger.ErrUnauthenticated
			}
			return nil
		}})
		f := newFeed(t, s.store, 0)
		r := s.Open(f.path("?after_event_id=2"))
		start := time.Now()
		for i := 1; i <= 3; i++ {
			_, err := r.Next()
			require.ErrorIs(t, err, ssetest.ErrHeartbeat)
			require.Equal(t, time.Duration(i)*10*time.Second, time.Since(start))
		}
		require.Empty(t, r.Rest(t))
		require.Equal(t, 40*time.Second, time.Since(start))
	})
}

func TestCloseStreams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, siteConfig{})
		s.HTTP.RegisterOnShutdown(s.svc.CloseStreams)
		f := newFeed(t, s.store, 0)
		a, b := s.Open(f.path("")), s.Open(f.ofRun(""))
		require.Equal(t, ssetest.IDs(1, 2), a.Take(t, 2))
		done := make(chan error, 1)
		s.svc.CloseStreams()
		require.Empty(t, a.Rest(t))
		require.Equal(t, ssetest.IDs(1, 2), b.Rest(t))
		refused := s.Open(f.path(""))
		require.Equal(t, 503, refused.Response.StatusCode)
		require.Equal(t, "1", refused.Response.Header.Get("Retry-After"))
		require.Equal(t, "application/problem+json", refused.Response.Header.Get("Content-Type"))
		_, err := io.Copy(io.Discard, refused.Response.Body)
		require.NoError(t, err)
		go func() { done <- s.HTTP.Shutdown(context.Background()) }()
		require.NoError(t, <-done) // calls CloseStreams once more
	})
}

func TestStreamOverTheNetwork(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		store := memstore.New(nil)
		svc, err := webtrigger.New(store, nil, &webtrigger.Options{NoWorkers: true})
		require.NoError(t, err)
		t.Cleanup(svc.CloseStreams)
		server := httptest.NewUnstartedServer(svc.EventsHandler(everyone))
		server.EnableHTTP2 = http2
		server.StartTLS()
		t.Cleanup(server.Close)
		f := newFeed(t, store, 0)
		resp, err := server.Client().Get(server.URL + f.path(""))
		require.NoError(t, err)
		require.Equal(t, http2, resp.ProtoMajor == 2)
		r := ssetest.NewReader(resp)
		t.Cleanup(r.Close)
		require.Equal(t, ssetest.IDs(1, 2), r.Take(t, 2))
		f.append(3)
		require.Equal(t, ssetest.IDs(3, 5), r.Take(t, 3))
		f.finish()
		require.Equal(t, ssetest.IDs(6, 6), r.Rest(t))

		resp, err = server.Client().Head(server.URL + f.path(""))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	}
}

// A connection whose cursor is before purged events gets a 410 with the id
// after which it can resume.
func TestStreamPurgedBeforeItBegins(t *testing.T) {
	t.Parallel()
	store := memstore.New(nil)
	s := newSite(t, siteConfig{store: store, streams: webtrigger.StreamOptions{MemoryBytes: 600}})
	f := newFeed(t, store, 0) // 1, 2
	f.append(4)               // 3 to 6
	f.finish()                // 7
	other := newFeed(t, store, f.run.ConversationID)
	other.append(2) // 8 to 11
	other.finish()  // 12
	_, err := store.PurgeEvents(t.Context(), f.run.ID, 5)
	require.NoError(t, err)

	for _, c := range []struct {
		path, header string
		purgedTo     int64 // 0: not a 410
		want         []int64
	}{
		{f.path(""), "", 5, nil},
		{f.path(""), "4", 5, nil},
		{f.path("?after_event_id=4"), "", 5, nil},
		{f.path("?after_event_id=1"), "4", 5, nil},
		{f.path("?after_event_id=1"), "5", 0, ssetest.IDs(6, 12)},
		{f.path("?after_event_id=5"), "2", 0, ssetest.IDs(6, 12)},
		{f.path("?after_event_id=12"), "", 0, nil}, // 204
		{f.ofRun(""), "", 5, nil},
		{f.ofRun("&after_sequence=4"), "", 5, nil},
		{f.ofRun("&after_sequence=5"), "", 0, []int64{6, 7}},
		{f.ofRun("&after_sequence=1"), "5", 0, []int64{6, 7}},
		{other.ofRun(""), "", 0, ssetest.IDs(8, 12)}, // nothing of this run was purged
	} {
		name := c.path + " " + c.header
		r := s.Open(c.path, "Last-Event-ID", c.header)
		if c.purgedTo == 0 {
			if c.want == nil {
				require.Equal(t, 204, r.Response.StatusCode, name)
				continue
			}
			require.Equal(t, 200, r.Response.StatusCode, name)
			require.Equal(t, c.want, r.Rest(t), name)
			continue
		}
		require.Equal(t, 410, r.Response.StatusCode, name)
		require.Equal(t, "application/problem+json", r.Response.Header.Get("Content-Type"), name)
		var problem struct {
			Code     string `json:"code"`
			PurgedTo int64  `json:"purged_to"`
		}
		require.NoError(t, json.NewDecoder(r.Response.Body).Decode(&problem), name)
		require.Equal(t, "events_purged", problem.Code, name)
		require.Equal(t, c.purgedTo, problem.PurgedTo, name)
	}
	require.Zero(t, s.open.Load())
}

func TestStreamOptions(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]webtrigger.StreamOptions{
		"negative memory":     {MemoryBytes: -1},
		"negative timeout":    {WriteTimeout: -1},
		"a timeout over 10 s": {WriteTimeout: 10*time.Second + 1},
	} {
		_, err := webtrigger.New(newSite(t, siteConfig{}).store, nil, &webtrigger.Options{NoWorkers: true, Streams: o})
		require.Error(t, err, name)
	}
}

// feed is a run whose events the test writes.
type feed struct {
	t     *testing.T
	store webtrigger.Store
	run   webtrigger.Run
	lease webtrigger.Lease

	mu    sync.Mutex
	batch int64
}

// newFeed starts a run, in a new conversation for 0. It has two events then. If another
// run of the conversation has not ended, the new one has one event and must be claimed.
func newFeed(t *testing.T, store webtrigger.Store, conversationID int64) *feed {
	t.Helper()
	accepted, err := store.CreateTrigger(t.Context(), webtrigger.NewTrigger{
		RunKey: uuid.NewString(), AssistantID: "1", ConversationID: conversationID,
		Input: webtrigger.RunInput{Message: "go"}, BaseURL: "https://app.example.com",
		Claim: &webtrigger.Claimant{ProcessID: deadProcess(t, store, 24*time.Hour, 1), Token: webtrigger.NewToken()},
	})
	require.NoError(t, err)
	f := &feed{t: t, store: store, run: accepted.Run}
	if accepted.Lease != nil {
		f.lease = *accepted.Lease
	}
	return f
}

// claim starts a run that was behind another one.
func (f *feed) claim() {
	runs, err := f.store.ClaimRuns(f.t.Context(), webtrigger.Claim{
		ProcessID: deadProcess(f.t, f.store, 24*time.Hour, 1), Token: webtrigger.NewToken(), Limit: 1, RunID: f.run.ID})
	require.NoError(f.t, err)
	require.Len(f.t, runs, 1)
	f.lease = runs[0].Lease
}

// append stores n events in one batch.
func (f *feed) append(n int) { f.appendPayload(n, `{"html":"<b>&amp;</b>","n":1e22}`) }

func (f *feed) appendPayload(n int, payload string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.batch++
	events := make([]webtrigger.NewEvent, n)
	for i := range events {
		events[i] = webtrigger.NewEvent{Type: "x_step", Payload: json.RawMessage(payload)}
	}
	if err := f.store.AppendEvents(context.Background(), f.lease, webtrigger.EventBatch{Number: f.batch, Events: events}); err != nil {
		f.t.Error(err)
	}
}

func (f *feed) finish() {
	_, err := f.store.FinishRun(context.Background(), f.lease, webtrigger.Finish{Outcome: webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: "ok"}})
	if err != nil {
		f.t.Error(err)
	}
}

func (f *feed) path(query string) string {
	return "/conversations/" + strconv.FormatInt(f.run.ConversationID, 10) + "/agent-events" + query
}

// ofRun is the path of the run's own stream.
func (f *feed) ofRun(query string) string {
	return f.path("?run_id=" + strconv.FormatInt(f.run.ID, 10) + query)
}

// site is a host with the stream mounted, over a network in memory.
type site struct {
	*ssetest.Server
	svc   *webtrigger.Service
	store webtrigger.Store
	open  atomic.Int64 // streams
}

type siteConfig struct {
	store     webtrigger.Store // nil: a memstore
	streams   webtrigger.StreamOptions
	authorize webtrigger.Authorizer
	wrap      func(http.Handler) http.Handler
}

func everyone(*http.Request, webtrigger.Access) error { return nil }

func newSite(t *testing.T, c siteConfig) *site {
	t.Helper()
	if c.store == nil {
		c.store = memstore.New(nil)
	}
	if c.authorize == nil {
		c.authorize = everyone
	}
	s := &site{store: c.store}
	var err error
	s.svc, err = webtrigger.New(c.store, nil, &webtrigger.Options{NoWorkers: true, Streams: c.streams, Hooks: webtrigger.Hooks{
		Stream: func(context.Context, webtrigger.StreamInfo) (context.Context, func(webtrigger.StreamOutcome)) {
			s.open.Add(1)
			return nil, func(webtrigger.StreamOutcome) { s.open.Add(-1) }
		},
	}})
	require.NoError(t, err)
	t.Cleanup(s.svc.CloseStreams) // which ends its watch of the store
	events := s.svc.EventsHandler(c.authorize)
	var handler http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/v1/web-triggers/") {
			s.svc.ServeHTTP(w, r)
			return
		}
		events.ServeHTTP(w, r)
	})
	if c.wrap != nil {
		handler = c.wrap(handler)
	}
	s.Server = ssetest.NewServer(t, handler, ssetest.Options{})
	return s
}

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
		require.Equal(t, ssetest.IDs(1, 3), whole.Take(t, 3))
		run := s.Open(f.keyPath("?run_id="+other.run.Key+"&after_sequence=1"), auth...)
		f.append(1)
		require.Equal(t, ssetest.IDs(4, 4), whole.Take(t, 1))
		f.finish()
		require.Equal(t, ssetest.IDs(5, 5), whole.Take(t, 1))
		other.claim()
		require.Equal(t, ssetest.IDs(6, 6), run.Take(t, 1))
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

// If the store is unavailable when keys are checked again, streams continue.
func TestKeyStreamSurvivesStoreErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &keyless{Store: memstore.New(nil)}
		s := newSite(t, siteConfig{store: store})
		f := newFeed(t, store, 0)
		_, bearer := newKey(t, s.svc, "1")
		r := s.Open(f.keyPath("?after_event_id=2"), "Authorization", bearer)
		store.unavailable.Store(true)
		r.Beats(t, 4)
		store.unavailable.Store(false)
		f.append(1)
		require.Equal(t, ssetest.IDs(3, 3), r.Take(t, 1))
	})
}

// keyless is a store that may be unable to check keys.
type keyless struct {
	webtrigger.Store
	unavailable atomic.Bool
}

func (s *keyless) Authenticate(ctx context.Context, hash webtrigger.KeyHash, triggerID, runID int64) (webtrigger.Grant, error) {
	if s.unavailable.Load() {
		return webtrigger.Grant{}, fmt.Errorf("authenticate: %w", webtrigger.ErrUnavailable)
	}
	return s.Store.Authenticate(ctx, hash, triggerID, runID)
}

// visitor is a reader who may read streams until end is called.
type visitor struct {
	path   func(*feed, string) string
	header []string
	end    func()
	denied int // the status from then on
}

// visitors lose their access later, each on a site of its own.
var visitors = map[string]func(*testing.T) (*site, visitor){
	"session": func(t *testing.T) (*site, visitor) {
		var ended atomic.Bool
		s := newSite(t, siteConfig{authorize: func(r *http.Request, _ webtrigger.Access) error {
			if ended.Load() || r.Header.Get("Cookie") != "session=1" {
				return webtrigger.ErrUnauthenticated
			}
			return nil
		}})
		return s, visitor{(*feed).path, []string{"Cookie", "session=1"}, func() { ended.Store(true) }, 401}
	},
	"demoted": func(t *testing.T) (*site, visitor) {
		var left atomic.Bool
		s := newSite(t, siteConfig{authorize: func(*http.Request, webtrigger.Access) error {
			if left.Load() {
				return errors.New("no longer of this team")
			}
			return nil
		}})
		return s, visitor{(*feed).path, nil, func() { left.Store(true) }, 404}
	},
	"key": func(t *testing.T) (*site, visitor) {
		s := newSite(t, siteConfig{})
		key, bearer := newKey(t, s.svc, "1")
		return s, visitor{(*feed).keyPath, []string{"Authorization", bearer}, func() {
			_, err := s.svc.RevokeKey(t.Context(), key.ID)
			require.NoError(t, err)
		}, 401}
	},
}

// The end of a session, of a user's access or of a key closes a stream within 15 s,
// whether the stream is idle, its reader is slow, or events arrive all the time.
func TestStream_accessEnded_closesWithin15s(t *testing.T) {
	t.Parallel()
	for who, enter := range visitors {
		for _, kind := range []string{"resting", "slow", "busy"} {
			t.Run(who+"/"+kind, func(t *testing.T) {
				t.Parallel()
				for at := range 12 {
					synctest.Test(t, func(t *testing.T) {
						s, v := enter(t)
						deny(t, s, v, kind, time.Duration(at)*time.Second)
					})
				}
			})
		}
	}
}

// deny opens a stream of a kind, ends the visitor's permission at the given time,
// and waits until the stream is closed.
func deny(t *testing.T, s *site, v visitor, kind string, at time.Duration) {
	f := newFeed(t, s.store, 0)
	if kind == "slow" {
		f.appendPayload(500, `{"text":"`+strings.Repeat("x", 1000)+`"}`)
	}
	r := s.Open(v.path(f, "?after_event_id=2"), v.header...)
	require.Equal(t, 200, r.Response.StatusCode)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer r.Close()
	defer cancel()
	if kind == "busy" {
		all.Go(func() {
			for ctx.Err() == nil {
				time.Sleep(100 * time.Millisecond) // fake time
				f.append(1)
			}
		})
	}
	var last atomic.Int64 // when the last event came
	all.Go(func() {
		for {
			if kind == "slow" {
				time.Sleep(250 * time.Millisecond) // a burst takes about 8 s
			}
			_, err := r.Next()
			switch {
			case err == nil:
				last.Store(time.Now().UnixNano())
			case !errors.Is(err, ssetest.ErrHeartbeat):
				return
			}
		}
	})
	time.Sleep(at)
	if kind != "resting" && at > 0 {
		require.NotZero(t, last.Load(), "events come")
	}
	ended := time.Now()
	v.end()
	for s.open.Load() > 0 { // until the handler has returned
		time.Sleep(50 * time.Millisecond)
		require.LessOrEqual(t, time.Since(ended), 15*time.Second, "%v after the start", at)
	}
	r.Close()
	require.Less(t, last.Load(), ended.Add(15*time.Second).UnixNano())
	require.Equal(t, v.denied, s.Open(v.path(f, ""), v.header...).Response.StatusCode)
}

// While the authorizer is unavailable, the stream stays open and sends no events.
func TestStreamWaitsForTheAuthorizer(t *testing.T) {
	t.Parallel()
	for _, then := range []string{"allowed", "denied"} {
		synctest.Test(t, func(t *testing.T) {
			var word atomic.Pointer[error]
			say := func(err error) { word.Store(&err) }
			say(nil)
			s := newSite(t, siteConfig{authorize: func(*http.Request, webtrigger.Access) error { return *word.Load() }})
			f := newFeed(t, s.store, 0)
			r := s.Open(f.path("?after_event_id=2"))
			r.Beats(t, 1)
			say(fmt.Errorf("look up session: %w", webtrigger.ErrUnavailable))
			time.Sleep(9 * time.Second)
			f.append(1)
			r.Beats(t, 5) // and not the event
			start := time.Now()
			if then == "denied" {
				say(webtrigger.ErrUnauthenticated)
				require.Empty(t, r.Rest(t))
			} else {
				say(nil)
				require.Equal(t, ssetest.IDs(3, 3), r.Take(t, 1))
			}
			require.LessOrEqual(t, time.Since(start), time.Second)
			say(webtrigger.ErrUnavailable)
			require.Equal(t, 503, s.Open(f.path("")).Response.StatusCode)
		})
	}
}
