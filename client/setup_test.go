package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// network is a network in memory with one server on it, so that both sides work
// in a synctest bubble.
type network struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	wrap   func(net.Conn) (net.Conn, error) // the client's end; nil: as it is
}

func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *network) Close() error   { n.once.Do(func() { close(n.closed) }); return nil }
func (n *network) Addr() net.Addr { return &net.IPAddr{} }

func (n *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case n.conns <- far:
	case <-n.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if n.wrap != nil {
		return n.wrap(near)
	}
	return near, nil
}

// serve starts a server in memory and returns a client of it.
func serve(t *testing.T, handler http.Handler, wrap func(net.Conn) (net.Conn, error), opts client.Options) *client.Client {
	t.Helper()
	n := &network{conns: make(chan net.Conn), closed: make(chan struct{}), wrap: wrap}
	server := &http.Server{Handler: handler}
	served := make(chan error, 1)
	go func() { served <- server.Serve(n) }()
	transport := &http.Transport{DialContext: n.dial, DisableKeepAlives: true}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = server.Close()
		<-served
	})
	opts.HTTPClient = &http.Client{Transport: transport, Timeout: 20 * time.Second} // streams and Wait outlive it
	c, err := client.New("http://app.example.com/base/", "secret", &opts)
	require.NoError(t, err)
	return c
}

// feed is a run whose events the test writes.
type feed struct {
	store webtrigger.Store
	run   webtrigger.Run
	lease webtrigger.Lease
	batch int64
}

// newFeed starts a run, in a new conversation for 0. It has two events then.
func newFeed(t *testing.T, store webtrigger.Store, conversationID int64) *feed {
	t.Helper()
	accepted, err := store.CreateTrigger(t.Context(), webtrigger.NewTrigger{
		RunKey: uuid.NewString(), AssistantID: "1", ConversationID: conversationID,
		Input: webtrigger.RunInput{Message: "go"}, BaseURL: "https://app.example.com",
		Claim: &webtrigger.Claimant{Worker: "test", Lease: 24 * time.Hour},
	})
	require.NoError(t, err)
	return &feed{store: store, run: accepted.Run, lease: *accepted.Lease}
}

func (f *feed) append(t *testing.T, n int) {
	t.Helper()
	f.batch++
	events := make([]webtrigger.NewEvent, n)
	for i := range events {
		events[i] = webtrigger.NewEvent{Type: "x_step", Payload: json.RawMessage(fmt.Sprintf(`{"batch":%d,"text":"a\r\u2028"}`, f.batch))}
	}
	require.NoError(t, f.store.AppendEvents(t.Context(), f.lease, webtrigger.EventBatch{Number: f.batch, Events: events}))
}

func (f *feed) finish(t *testing.T) {
	t.Helper()
	_, err := f.store.FinishRun(t.Context(), f.lease, webtrigger.Finish{Outcome: webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: "ok"}})
	require.NoError(t, err)
}

// mortal is a connection that breaks when so many bytes were read from it.
type mortal struct {
	net.Conn
	left int
}

func (m *mortal) Read(p []byte) (int, error) {
	if m.left <= 0 {
		_ = m.Close()
		return 0, errors.New("the connection broke")
	}
	n, err := m.Conn.Read(p[:min(len(p), m.left)])
	m.left -= n
	return n, err
}

// ids is from, from+1 … to.
func ids(from, to int64) (list []int64) {
	for id := from; id <= to; id++ {
		list = append(list, id)
	}
	return list
}
