package webtrigger_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

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
		Take: &webtrigger.Take{Worker: "test", Lease: 24 * time.Hour},
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

// memory is a network in memory, so that servers work in a synctest bubble.
type memory struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error   { m.once.Do(func() { close(m.closed) }); return nil }
func (m *memory) Addr() net.Addr { return &net.IPAddr{} }

func (m *memory) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case m.conns <- server:
		return client, nil
	case <-m.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// site is a host with the stream mounted, over a network in memory.
type site struct {
	t      *testing.T
	svc    *webtrigger.Service
	store  webtrigger.Store
	server *http.Server
	client *http.Client
}

type siteConfig struct {
	store     webtrigger.Store // nil: a memstore
	streams   webtrigger.StreamOptions
	authorize webtrigger.Authorizer
	wrap      func(http.Handler) http.Handler
	http2     bool
	timeouts  time.Duration // the server's
	window    [3]int
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
	svc, err := webtrigger.New(c.store, nil, &webtrigger.Options{Workers: -1, Streams: c.streams})
	require.NoError(t, err)
	if c.window[0] > 0 {
		svc.SetStreamWindow(c.window[0], c.window[1], c.window[2])
	}
	events := svc.EventsHandler(c.authorize)
	var handler http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/v1/web-triggers/") {
			svc.ServeHTTP(w, r)
			return
		}
		events.ServeHTTP(w, r)
	})
	if c.wrap != nil {
		handler = c.wrap(handler)
	}
	network := &memory{conns: make(chan net.Conn), closed: make(chan struct{})}
	s := &site{t: t, svc: svc, store: c.store}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!c.http2)
	protocols.SetUnencryptedHTTP2(c.http2)
	s.server = &http.Server{Handler: handler, Protocols: protocols, ReadTimeout: c.timeouts, WriteTimeout: c.timeouts}
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(network) }()
	transport := &http.Transport{DialContext: network.dial, Protocols: protocols, DisableKeepAlives: !c.http2,
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}}
	s.client = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = s.server.Close()
		<-served
	})
	return s
}

// open requests a stream or whatever else path and headers lead to. The reader
// is closed when the test ends.
func (s *site) open(path string, header ...string) *reader {
	s.t.Helper()
	r, err := s.tryOpen(path, header...)
	require.NoError(s.t, err)
	return r
}

// do is open with another method.
func (s *site) do(method, path string, header ...string) *reader {
	s.t.Helper()
	r, err := s.request(method, path, header...)
	require.NoError(s.t, err)
	return r
}

func (s *site) tryOpen(path string, header ...string) (*reader, error) {
	return s.request("GET", path, header...)
}

func (s *site) request(method, path string, header ...string) (*reader, error) {
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, method, "http://app.example.com"+path, nil)
	if err != nil {
		cancel()
		return nil, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.client.Do(req)
	if err != nil {
		cancel()
		return nil, err
	}
	r := &reader{resp: resp, lines: bufio.NewReader(resp.Body), cancel: cancel}
	s.t.Cleanup(r.close)
	return r, nil
}

// reader reads a stream as a client does.
type reader struct {
	resp    *http.Response
	lines   *bufio.Reader
	cancel  context.CancelFunc
	retries int
}

func (r *reader) close() {
	r.cancel()
	_ = r.resp.Body.Close()
}

// shown is an event as the stream shows it.
type shown struct {
	Type           string          `json:"event_type"`
	Sequence       int64           `json:"sequence"`
	ID             int64           `json:"id"`
	RunID          int64           `json:"run_id"`
	RunKey         string          `json:"run_key"`
	ConversationID int64           `json:"conversation_id"`
	Payload        json.RawMessage `json:"payload"`
	CreatedAt      string          `json:"created_at"`
}

// next returns the next event; io.EOF where the stream ended between two frames.
func (r *reader) next() (e shown, err error) {
	id, data, err := r.frame()
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		return e, fmt.Errorf("%q: %w", data, err)
	}
	if e.ID != id {
		return e, fmt.Errorf("id line %d of event %d", id, e.ID)
	}
	return e, nil
}

// frame returns the id and the data of the next event.
func (r *reader) frame() (id int64, data string, err error) {
	var lines []string
	for {
		line, err := r.lines.ReadString('\n')
		if err == io.EOF && (line != "" || len(lines) > 0) {
			return 0, "", fmt.Errorf("the stream ended inside a frame: %q %q", lines, line)
		}
		if err != nil {
			return 0, "", err
		}
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			lines = append(lines, line)
			continue
		}
		switch {
		case len(lines) == 1 && lines[0] == ": heartbeat":
			return 0, "", errHeartbeat
		case len(lines) == 1 && lines[0] == "retry: 3000":
			r.retries++
		case len(lines) == 2 && lines[0] == "event: gap" && strings.HasPrefix(lines[1], "data: "):
			gap := &gapError{}
			return 0, "", errors.Join(json.Unmarshal([]byte(lines[1][len("data: "):]), gap), gap)
		case len(lines) == 2 && strings.HasPrefix(lines[0], "id: ") && strings.HasPrefix(lines[1], "data: "):
			id, err := strconv.ParseInt(lines[0][len("id: "):], 10, 64)
			return id, lines[1][len("data: "):], err
		default:
			return 0, "", fmt.Errorf("an unknown frame: %q", lines)
		}
		lines = lines[:0]
	}
}

var errHeartbeat = errors.New("heartbeat")

// gapError is a gap frame.
type gapError struct {
	ConversationID int64 `json:"conversation_id"`
	FromID         int64 `json:"from_id"`
	ToID           int64 `json:"to_id"`
}

func (g *gapError) Error() string { return fmt.Sprintf("gap from %d to %d", g.FromID, g.ToID) }

// gap reads a gap frame, over heartbeats.
func (r *reader) gap(t *testing.T) (from, to int64) {
	t.Helper()
	_, err := r.event()
	var gap *gapError
	require.ErrorAs(t, err, &gap)
	return gap.FromID, gap.ToID
}

// event returns the next event, over some heartbeats.
func (r *reader) event() (e shown, err error) {
	for range 10 {
		if e, err = r.next(); !errors.Is(err, errHeartbeat) {
			return e, err
		}
	}
	return e, errors.New("nothing but heartbeats")
}

// beats reads n heartbeats, ten seconds each. A client who does not read is cut.
func (r *reader) beats(t *testing.T, n int) {
	t.Helper()
	for range n {
		_, err := r.next()
		require.ErrorIs(t, err, errHeartbeat)
	}
}

// take returns the ids of the next n events.
func (r *reader) take(t *testing.T, n int) []int64 {
	t.Helper()
	ids := make([]int64, n)
	for i := range ids {
		e, err := r.event()
		require.NoError(t, err, "event %d of %d", i, n)
		ids[i] = e.ID
	}
	return ids
}

// rest returns the ids of all events until the stream ends, which it must do
// cleanly.
func (r *reader) rest(t *testing.T) []int64 {
	t.Helper()
	ids := []int64{}
	for {
		e, err := r.event()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return ids
		}
		require.NoError(t, err)
		ids = append(ids, e.ID)
	}
}

// ids is from, from+1 … to.
func ids(from, to int64) []int64 {
	list := []int64{}
	for id := from; id <= to; id++ {
		list = append(list, id)
	}
	return list
}
