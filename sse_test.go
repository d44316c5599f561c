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
	other.append(2) // ids 1 to 4: sequences and ids differ in what follows
	f := newFeed(t, s.store, other.run.ConversationID)
	f.append(6)
	f.finish()
	const first, last = 5, 13
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

func TestStreamRefusals(t *testing.T) {
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
		return errors.New("refused")
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
		{"GET", "stranger", base, 404},
		{"GET", "stranger", base + "?after_event_id=x", 404},
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

// A connection whose cursor lies before what was purged gets a 410 with the id
// after which it can resume.
func TestStreamPurgedBeforeItBegins(t *testing.T) {
	t.Parallel()
	store := memstore.New(nil)
	s := newSite(t, siteConfig{store: store, streams: webtrigger.StreamOptions{MemoryBytes: 600}})
	f := newFeed(t, store, 0) // 1, 2
	f.append(4)               // 3 to 6
	other := newFeed(t, store, f.run.ConversationID)
	other.append(2) // 7 to 10
	f.finish()      // 11
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
		{f.ofRun("&after_sequence=5"), "", 0, []int64{6, 11}},
		{f.ofRun("&after_sequence=1"), "5", 0, []int64{6, 11}},
		{other.ofRun(""), "", 0, append(ssetest.IDs(7, 10), 12)}, // nothing of this run was purged
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

// newFeed starts a run, in a new conversation for 0. It has two events then.
func newFeed(t *testing.T, store webtrigger.Store, conversationID int64) *feed {
	t.Helper()
	accepted, err := store.CreateTrigger(t.Context(), webtrigger.NewTrigger{
		RunKey: uuid.NewString(), AssistantID: "1", ConversationID: conversationID,
		Input: webtrigger.RunInput{Message: "go"}, BaseURL: "https://app.example.com",
		Claim: &webtrigger.Claimant{ProcessID: deadProcess(t, store, 24*time.Hour, 1), Token: webtrigger.NewToken()},
	})
	require.NoError(t, err)
	require.NotNil(t, accepted.Lease)
	return &feed{t: t, store: store, run: accepted.Run, lease: *accepted.Lease}
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
