package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/client"
	"github.com/webtrigger-go/webtrigger/internal/memnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a server on a network in memory and returns a client of it. wrap
// replaces the client's end of each connection. If it is nil, the end stays as it is.
func serve(t *testing.T, handler http.Handler, wrap func(net.Conn) (net.Conn, error), opts client.Options) *client.Client {
	t.Helper()
	network := memnet.New()
	caller, stop := network.Serve(handler)
	t.Cleanup(stop)
	transport := caller.Transport.(*http.Transport)
	transport.DisableKeepAlives = true
	if wrap != nil {
		transport.DialContext = func(ctx context.Context, kind, address string) (net.Conn, error) {
			conn, err := network.Dial(ctx, kind, address)
			if err != nil {
				return nil, err
			}
			return wrap(conn)
		}
	}
	caller.Timeout = 20 * time.Second // streams and Wait outlive it
	opts.HTTPClient = caller
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

// newFeed starts a run, in a new conversation for 0. It has two events then. If another
// run of the conversation has not ended, the new one has one event and must be claimed.
func newFeed(t *testing.T, store webtrigger.Store, conversationID int64) *feed {
	t.Helper()
	worker := webtrigger.Process{ID: "test", Lease: 24 * time.Hour, MaxAttempts: 1}
	require.NoError(t, store.RegisterProcess(t.Context(), worker))
	accepted, err := store.CreateTrigger(t.Context(), webtrigger.NewTrigger{
		RunKey: uuid.NewString(), AssistantID: "1", ConversationID: conversationID,
		Input: webtrigger.RunInput{Message: "go"}, BaseURL: "https://app.example.com",
		Claim: &webtrigger.Claimant{ProcessID: worker.ID, Token: webtrigger.NewToken()},
	})
	require.NoError(t, err)
	f := &feed{store: store, run: accepted.Run}
	if accepted.Lease != nil {
		f.lease = *accepted.Lease
	}
	return f
}

// claim starts a run that was behind another one.
func (f *feed) claim(t *testing.T) {
	t.Helper()
	runs, err := f.store.ClaimRuns(t.Context(), webtrigger.Claim{ProcessID: "test", Token: webtrigger.NewToken(), Limit: 1, RunID: f.run.ID})
	require.NoError(t, err)
	require.Len(t, runs, 1)
	f.lease = runs[0].Lease
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
