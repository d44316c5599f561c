package streams_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/needs"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// patience is how long a test waits for events that take milliseconds.
const patience = time.Minute

// lacking reports a missing program. If WEBTRIGGER_TEST_ALL is set, it fails the test;
// otherwise the test does what it can.
func lacking(t *testing.T, what string) {
	t.Helper()
	require.False(t, needs.Everything(), what)
	t.Log(what)
}

// host has one run, whose steps the test sends, and a server of its stream, which the
// test may restart while the run continues.
type host struct {
	t     *testing.T
	store *memstore.Store
	run   webtrigger.Run
	steps chan any      // payloads of the Runner's events
	done  chan struct{} // closed when Work has returned

	addr      string
	open      atomic.Int64 // streams
	noContent atomic.Int64 // answers with 204

	front  *webtrigger.Service
	server *http.Server
	served chan error
}

// newHost accepts a run and begins to execute it.
func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, store: memstore.New(nil), steps: make(chan any), done: make(chan struct{}), addr: "127.0.0.1:0"}
	worker, err := webtrigger.New(h.store, webtrigger.RunnerFunc(h.step), &webtrigger.Options{BaseURL: "https://app.example.com"})
	require.NoError(t, err)
	require.NoError(t, worker.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
	h.run, err = worker.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "go"})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		defer close(h.done)
		if err := worker.Work(ctx); err != nil {
			t.Error(err)
		}
	}()
	h.serve()
	t.Cleanup(func() {
		h.kill()
		stop()
		<-h.done
	})
	return h
}

// step is the Runner: one event for each step, and an end when there are no more.
func (h *host) step(ctx context.Context, _ *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
	for {
		select {
		case payload, more := <-h.steps:
			if !more {
				return &webtrigger.Result{Text: "done"}, nil
			}
			if err := emit("x_step", payload); err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// serve starts a server of the stream. Its address stays the same.
func (h *host) serve() {
	h.t.Helper()
	var err error
	h.front, err = webtrigger.New(h.store, nil, &webtrigger.Options{NoWorkers: true, Streams: webtrigger.StreamOptions{WriteTimeout: time.Second}})
	require.NoError(h.t, err)
	events := h.front.EventsHandler(func(*http.Request, webtrigger.Access) error { return nil })
	listener, err := net.Listen("tcp", h.addr)
	require.NoError(h.t, err)
	h.addr = listener.Addr().String()
	h.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.open.Add(1)
		defer h.open.Add(-1)
		seen := &statusWriter{ResponseWriter: w}
		events.ServeHTTP(seen, r)
		if seen.status == http.StatusNoContent {
			h.noContent.Add(1)
		}
	}), WriteTimeout: 2 * time.Second}
	h.server.RegisterOnShutdown(h.front.CloseStreams)
	h.served = make(chan error, 1)
	go func() { h.served <- h.server.Serve(narrow{listener}) }()
}

// restart ends the server as a deployment does and starts another.
func (h *host) restart() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(h.t, h.server.Shutdown(ctx))
	require.ErrorIs(h.t, <-h.served, http.ErrServerClosed)
	h.serve()
}

// cut ends all connections in the middle of their answers and starts another
// server, as after a crash.
func (h *host) cut() {
	h.t.Helper()
	h.kill()
	h.serve()
}

func (h *host) kill() {
	_ = h.server.Close()
	if err := <-h.served; !errors.Is(err, http.ErrServerClosed) {
		h.t.Error(err)
	}
	h.front.CloseStreams()
}

// path is the stream of the run.
func (h *host) path() string {
	return fmt.Sprintf("/conversations/%d/agent-events?run_id=%d", h.run.ConversationID, h.run.ID)
}

// log returns the run's events as the store has them.
func (h *host) log() webtrigger.EventPage {
	h.t.Helper()
	page, err := h.store.Events(context.Background(), webtrigger.EventQuery{ConversationID: h.run.ConversationID, Limit: 100_000})
	require.NoError(h.t, err)
	return page
}

// narrow is a listener whose connections have small send buffers: what a reader
// does not read stays with the host.
type narrow struct{ net.Listener }

func (l narrow) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(16 << 10)
	}
	return c, err
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	once   sync.Once
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.once.Do(func() { w.status = status })
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
