package stream_test

import (
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger/internal/ssetest"
	"github.com/webtrigger-go/webtrigger/internal/stream"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a hub behind a server in memory.
type site struct {
	*ssetest.Server
	hub    *stream.Hub
	source *fake
}

type siteConfig struct {
	source   *fake // nil: a new one
	memory   int   // 0: 64 MiB
	timeout  time.Duration
	allowed  func() error
	wrap     func(http.ResponseWriter) http.ResponseWriter
	http2    bool
	timeouts time.Duration // the server's
	window   [3]int
}

func newHub(source stream.Source, memory int, timeout time.Duration) *stream.Hub {
	if memory == 0 {
		memory = 64 << 20
	}
	if timeout == 0 {
		timeout = stream.MaxWriteTimeout
	}
	return stream.New(source, stream.Options{
		Log: slog.New(slog.DiscardHandler), MemoryBytes: memory, PerKey: 2, MaxWaits: 3, WriteTimeout: timeout,
		NotFound:    func(err error) bool { return errors.Is(err, errNotFound) },
		Unavailable: func(err error) bool { return errors.Is(err, errUnavailable) },
	})
}

func newSite(t *testing.T, c siteConfig) *site {
	t.Helper()
	if c.source == nil {
		c.source = newFake()
	}
	hub := newHub(c.source, c.memory, c.timeout)
	if c.window[0] > 0 {
		hub.SetWindow(c.window[0], c.window[1], c.window[2])
	}
	server := ssetest.NewServer(t, handler(hub, c.allowed, c.wrap), ssetest.Options{HTTP2: c.http2, Timeouts: c.timeouts})
	return &site{server, hub, c.source}
}

// handler serves the stream of the conversation that the path names.
func handler(hub *stream.Hub, allowed func() error, wrap func(http.ResponseWriter) http.ResponseWriter) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if wrap != nil {
			w = wrap(w)
		}
		number := func(text string) int64 {
			n, _ := strconv.ParseInt(text, 10, 64)
			return n
		}
		err := hub.Serve(w, r, stream.Query{
			ConversationID: number(strings.TrimPrefix(r.URL.Path, "/")), RunID: number(r.FormValue("run_id")),
			AfterID: number(r.FormValue("after_event_id")), AfterSequence: number(r.FormValue("after_sequence")),
		}, func() error {
			if allowed == nil {
				return nil
			}
			return allowed()
		}, func() func() { return func() {} })
		var problem *wire.Problem
		switch {
		case err == nil:
		case errors.As(err, &problem):
			w.WriteHeader(problem.Status)
		case errors.Is(err, errNotFound):
			w.WriteHeader(http.StatusNotFound)
		case errors.Is(err, errUnavailable):
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
}
