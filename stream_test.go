package webtrigger_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

func TestStreamReplaysThenFollows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, siteConfig{})
		f := newFeed(t, s.store, 0)
		f.append(1)
		r := s.open(f.ofRun(""))
		synctest.Wait() // until Watch listens
		require.Equal(t, 200, r.resp.StatusCode)
		require.Equal(t, "text/event-stream", r.resp.Header.Get("Content-Type"))
		require.Equal(t, "no-store, no-transform", r.resp.Header.Get("Cache-Control"))
		require.Equal(t, "no", r.resp.Header.Get("X-Accel-Buffering"))
		require.Equal(t, ids(1, 2), r.take(t, 2))
		e, err := r.event()
		require.NoError(t, err)
		require.JSONEq(t, `"x_step"`, strconv.Quote(e.Type))
		require.Equal(t, `{"html":"<b>&amp;</b>","n":1e22}`, string(e.Payload), "lexemes stay as stored")
		require.Equal(t, []any{int64(3), int64(3), f.run.ID, f.run.Key, f.run.ConversationID},
			[]any{e.ID, e.Sequence, e.RunID, e.RunKey, e.ConversationID})
		require.Equal(t, "2000-01-01T00:00:00+00:00", e.CreatedAt)
		for id := int64(4); id < 20; id++ {
			f.append(1)
			require.Equal(t, ids(id, id), r.take(t, 1))
		}
		f.finish()
		require.Equal(t, ids(20, 20), r.rest(t))
		require.Equal(t, 1, r.retries)
		require.Zero(t, time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)), "hints, not polls")
	})
}

// A payload with line breaks stays one frame; an event without JSON is shown
// with null, so that nobody hangs on it.
func TestStreamFramesAnyPayload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, siteConfig{})
		f := newFeed(t, s.store, 0)
		f.appendPayload(1, "{\"a\":\r\n\n[1,\r2],\"b\":\"\u2028 \\u0000\"}")
		f.appendPayload(1, "{broken")
		f.finish()
		r := s.open(f.path("?after_event_id=2"))
		e, err := r.event()
		require.NoError(t, err)
		require.Equal(t, "{\"a\":[1,2],\"b\":\"\u2028 \\u0000\"}", string(e.Payload))
		e, err = r.event()
		require.NoError(t, err)
		require.Equal(t, "null", string(e.Payload))
		require.Equal(t, ids(5, 5), r.rest(t))
	})
}

func TestStreamResumesAnywhere(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteConfig{window: [3]int{3, 1 << 20, 4}})
	other := newFeed(t, s.store, 0)
	other.append(2) // ids 1 to 4: sequences and ids differ in what follows
	f := newFeed(t, s.store, other.run.ConversationID)
	f.append(6)
	f.finish()
	const first, last = 5, 13
	for at := int64(0); at <= last; at++ {
		id, sequence := strconv.FormatInt(at, 10), strconv.FormatInt(max(at-first+1, 0), 10)
		for name, open := range map[string]func() *reader{
			"header":           func() *reader { return s.open(f.ofRun(""), "Last-Event-ID", id) },
			"query":            func() *reader { return s.open(f.ofRun("&after_event_id=" + id)) },
			"query and header": func() *reader { return s.open(f.ofRun("&after_event_id=1"), "Last-Event-ID", id) },
			"header and query": func() *reader { return s.open(f.ofRun("&after_event_id="+id), "Last-Event-ID", "1") },
			"sequence":         func() *reader { return s.open(f.ofRun("&after_sequence=" + sequence)) },
			"all": func() *reader {
				return s.open(f.ofRun("&after_event_id=1&after_sequence="+sequence), "Last-Event-ID", "2")
			},
			"sequence, header": func() *reader { return s.open(f.ofRun("&after_sequence=1"), "Last-Event-ID", id) },
			"by key":           func() *reader { return s.open(f.path("?run_id="+strings.ToUpper(f.run.Key)), "Last-Event-ID", id) },
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
				require.Equal(t, 204, r.resp.StatusCode, "%s at %d", name, at)
				require.Equal(t, "no-store", r.resp.Header.Get("Cache-Control"))
				continue
			}
			require.Equal(t, ids(from, last), r.rest(t), "%s at %d", name, at)
		}
	}
}

// A cursor beyond what there is hides what comes, and does not keep the stream
// open after the end.
func TestStreamEndsBehindAFutureCursor(t *testing.T) {
	t.Parallel()
	for _, cursor := range []string{"&after_event_id=1000", "&after_sequence=1000", "&after_event_id=9223372036854775807"} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, siteConfig{})
			f := newFeed(t, s.store, 0)
			other := newFeed(t, s.store, f.run.ConversationID)
			r := s.open(f.ofRun(cursor))
			require.Equal(t, 200, r.resp.StatusCode)
			f.append(2)
			synctest.Wait()
			f.finish()
			require.Empty(t, r.rest(t))
			require.Equal(t, 204, s.open(f.ofRun(cursor)).resp.StatusCode)
			other.finish()
			require.Equal(t, 204, s.open(f.path("?after_event_id=1000")).resp.StatusCode)
		})
	}
}

func TestStreamOfAConversation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, siteConfig{})
		a := newFeed(t, s.store, 0) // 1, 2
		b := newFeed(t, s.store, a.run.ConversationID)
		whole, onlyA, onlyB := s.open(a.path("")), s.open(a.ofRun("")), s.open(b.ofRun(""))
		a.append(1) // 5
		b.append(1) // 6
		a.finish()  // 7
		require.Equal(t, []int64{1, 2, 5, 7}, onlyA.rest(t))
		require.Equal(t, ids(1, 7), whole.take(t, 7))
		b.append(1) // 8
		b.finish()  // 9
		require.Equal(t, []int64{8, 9}, whole.rest(t))
		require.Equal(t, []int64{3, 4, 6, 8, 9}, onlyB.rest(t))
		require.Equal(t, 204, s.open(a.path("?after_event_id=9")).resp.StatusCode)

		c := newFeed(t, s.store, a.run.ConversationID) // 10, 11: the conversation goes on
		again := s.open(a.path("?after_event_id=9"))
		c.finish()
		require.Equal(t, ids(10, 12), again.rest(t))
	})
}

func TestStreamRefusals(t *testing.T) {
	t.Parallel()
	store := memstore.New(nil)
	s, err := webtrigger.New(store, nil, &webtrigger.Options{Workers: -1})
	require.NoError(t, err)
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
		{"GET", "user", base + "/", 404},
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
	require.Zero(t, s.Tails(), "no refusal leaves a subscriber behind")
	require.Panics(t, func() { s.EventsHandler(nil) })
}

func TestStreamIgnoresUnusableLastEventID(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteConfig{})
	f := newFeed(t, s.store, 0)
	f.finish()
	for _, header := range []string{"", "x", "-1", "+1", "1.5", "9223372036854775808", "1, 2"} {
		require.Equal(t, ids(1, 3), s.open(f.path(""), "Last-Event-ID", header).rest(t), header)
	}
	require.Equal(t, ids(3, 3), s.open(f.path(""), "Last-Event-ID", "2").rest(t))
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
		require.Equal(t, ids(1, 3), s.open(c.prefix+f.path("")).rest(t))
	}
}

// hiding is a writer of a middleware that shows nothing but the three methods.
type hiding struct{ inner http.ResponseWriter }

func (w hiding) Header() http.Header         { return w.inner.Header() }
func (w hiding) Write(b []byte) (int, error) { return w.inner.Write(b) }
func (w hiding) WriteHeader(status int)      { w.inner.WriteHeader(status) }

type flushing struct{ hiding }

func (w flushing) Flush() { w.inner.(http.Flusher).Flush() }

type deadlines struct{ hiding }

func (w deadlines) SetWriteDeadline(at time.Time) error {
	return http.NewResponseController(w.inner).SetWriteDeadline(at)
}

type unwrapping struct{ hiding }

func (w unwrapping) Unwrap() http.ResponseWriter { return w.inner }

func TestStreamNeedsAWriterThatFlushesAndHasDeadlines(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		wrap   func(http.ResponseWriter) http.ResponseWriter
		status int
	}{
		"neither":        {func(w http.ResponseWriter) http.ResponseWriter { return hiding{w} }, 500},
		"only flush":     {func(w http.ResponseWriter) http.ResponseWriter { return flushing{hiding{w}} }, 500},
		"only deadlines": {func(w http.ResponseWriter) http.ResponseWriter { return deadlines{hiding{w}} }, 500},
		"through Unwrap": {func(w http.ResponseWriter) http.ResponseWriter { return unwrapping{hiding{unwrapping{hiding{w}}}} }, 200},
	} {
		s := newSite(t, siteConfig{wrap: func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(c.wrap(w), r) })
		}})
		f := newFeed(t, s.store, 0)
		f.finish()
		r := s.open(f.path(""))
		require.Equal(t, c.status, r.resp.StatusCode, name)
		if c.status == 200 {
			require.Equal(t, ids(1, 3), r.rest(t))
			continue
		}
		require.Equal(t, "application/problem+json", r.resp.Header.Get("Content-Type"), name)
		require.Equal(t, 204, s.open(f.path("?after_event_id=3")).resp.StatusCode, "a 204 needs neither")
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
		r := s.open(f.path("?after_event_id=2"))
		start := time.Now()
		for i := 1; i <= 3; i++ {
			_, err := r.next()
			require.ErrorIs(t, err, errHeartbeat)
			require.Equal(t, time.Duration(i)*10*time.Second, time.Since(start))
		}
		require.Empty(t, r.rest(t))
		require.Equal(t, 40*time.Second, time.Since(start))
	})
}

func TestStreamOutlivesServerTimeouts(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			first := true
			s := newSite(t, siteConfig{http2: http2, timeouts: 2 * time.Second, authorize: func(*http.Request, webtrigger.Access) error {
				if !first {
					time.Sleep(4 * time.Second) // a slow one
				}
				first = false
				return nil
			}})
			f := newFeed(t, s.store, 0)
			r := s.open(f.path("?after_event_id=2"))
			_, err := r.next()
			require.ErrorIs(t, err, errHeartbeat, "after a silence longer than any timeout")
			go func() {
				for range 12 {
					time.Sleep(5 * time.Second) // fake time
					f.append(1)
				}
				f.finish()
			}()
			start := time.Now()
			require.Equal(t, ids(3, 15), r.rest(t))
			require.InDelta(t, 60, time.Since(start).Seconds(), 4)
		})
	}
}

// One reader stalls: it is cut by the write deadline, and the other gets
// everything at once.
func TestStreamCutsAStalledReader(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, siteConfig{http2: http2})
			f, quick := newFeed(t, s.store, 0), newSite(t, siteConfig{store: s.store})
			stalled, reading := s.open(f.path("")), s.open(f.path(""))
			if http2 { // one connection must not be shared with the stalled one
				reading = quick.open(f.path(""))
			}
			synctest.Wait()
			start := time.Now()
			for range 8 {
				f.appendPayload(5, `{"text":"`+strings.Repeat("x", 20_000)+`"}`)
			}
			f.finish()
			require.Equal(t, ids(1, 43), reading.rest(t))
			require.Zero(t, time.Since(start))
			for s.svc.Tails() > 0 { // the handler has returned when nobody watches
				time.Sleep(time.Second)
			}
			require.InDelta(t, 10, time.Since(start).Seconds(), 1)
			for {
				if _, err := stalled.event(); err != nil {
					require.NotErrorIs(t, errors.Join(err), io.EOF, "an aborted stream does not look like an ended one")
					break
				}
			}
		})
	}
}

func TestCloseStreams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, siteConfig{})
		s.server.RegisterOnShutdown(s.svc.CloseStreams)
		f := newFeed(t, s.store, 0)
		a, b := s.open(f.path("")), s.open(f.ofRun(""))
		require.Equal(t, ids(1, 2), a.take(t, 2))
		done := make(chan error, 1)
		s.svc.CloseStreams()
		require.Empty(t, a.rest(t))
		require.Equal(t, ids(1, 2), b.rest(t))
		refused := s.open(f.path(""))
		require.Equal(t, 503, refused.resp.StatusCode)
		require.Equal(t, "1", refused.resp.Header.Get("Retry-After"))
		require.Equal(t, "application/problem+json", refused.resp.Header.Get("Content-Type"))
		_, err := io.Copy(io.Discard, refused.resp.Body)
		require.NoError(t, err)
		go func() { done <- s.server.Shutdown(context.Background()) }()
		require.NoError(t, <-done) // calls CloseStreams once more
	})
}

func TestStreamOverTheNetwork(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		store := memstore.New(nil)
		svc, err := webtrigger.New(store, nil, &webtrigger.Options{Workers: -1})
		require.NoError(t, err)
		server := httptest.NewUnstartedServer(svc.EventsHandler(everyone))
		server.EnableHTTP2 = http2
		server.StartTLS()
		t.Cleanup(server.Close)
		f := newFeed(t, store, 0)
		resp, err := server.Client().Get(server.URL + f.path(""))
		require.NoError(t, err)
		require.Equal(t, http2, resp.ProtoMajor == 2)
		r := &reader{resp: resp, lines: bufio.NewReader(resp.Body), cancel: func() {}}
		t.Cleanup(r.close)
		require.Equal(t, ids(1, 2), r.take(t, 2))
		f.append(3)
		require.Equal(t, ids(3, 5), r.take(t, 3))
		f.finish()
		require.Equal(t, ids(6, 6), r.rest(t))

		resp, err = server.Client().Head(server.URL + f.path(""))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	}
}
