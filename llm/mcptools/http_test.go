package mcptools_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/llm/mcptools"
)

// handler is the test server over HTTP in this process.
func handler(t *testing.T) http.Handler {
	server := testServer()
	t.Cleanup(func() { // sessions do not end with their connections
		for session := range server.Sessions() {
			_ = session.Close()
		}
	})
	return sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, nil)
}

// listen serves a handler; its client is closed with it.
func listen(t *testing.T, handler http.Handler) *mcptools.HTTP {
	t.Helper()
	server := httptest.NewServer(handler)
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.CloseClientConnections()
		server.Close()
	})
	return &mcptools.HTTP{URL: server.URL + "/mcp", Client: &http.Client{Transport: transport}}
}

func TestHTTP_headers_goToServerOnly(t *testing.T) {
	t.Parallel()
	var stranger atomic.Value
	elsewhere := listen(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { stranger.Store(r.Header.Get("Authorization")) }))
	inner := handler(t)
	var rejected atomic.Int32
	dialer := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer sesame" {
			rejected.Add(1)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	dialer.Header = http.Header{"authorization": {"Bearer sesame"}}
	server := connect(t, dialer, nil)
	said, err := call(t, server, "echo", `{"text":"x"}`)
	require.NoError(t, err)
	require.Equal(t, "echo: x", said)
	require.Zero(t, rejected.Load())

	// A client of the host may follow redirects, but without the secret.
	dialer.URL = strings.TrimSuffix(dialer.URL, "/mcp") + "/moved"
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err = mcptools.Connect(ctx, dialer, nil)
	require.Error(t, err)
	require.Equal(t, "", stranger.Load())

	stranger = atomic.Value{}
	dialer.Client = nil
	_, err = mcptools.Connect(ctx, dialer, nil)
	require.ErrorContains(t, err, "redirects")
	require.Nil(t, stranger.Load(), "the default client must not follow redirects")
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// older hides the newest protocol, which has no sessions, from clients.
func older(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var request struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
		}
		_ = json.Unmarshal(body, &request)
		if request.Method == "server/discover" {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"unknown method"}}`, request.ID)
			return
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		next.ServeHTTP(w, r)
	})
}

// A restarted server has no earlier sessions. It rejects the call, which is repeated
// in a new session.
func TestHTTP_restartedServer_repeatsCallOnce(t *testing.T) {
	t.Parallel()
	var now atomic.Pointer[http.Handler]
	restart := func() {
		h := older(handler(t))
		now.Store(&h)
	}
	restart()
	dialer := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*now.Load()).ServeHTTP(w, r) }))
	server := connect(t, dialer, nil)
	said, err := call(t, server, "calls", `{}`)
	require.NoError(t, err)
	require.Equal(t, "1", said)
	restart()
	said, err = call(t, server, "calls", `{}`)
	require.NoError(t, err)
	require.Equal(t, "1", said, "the new server must get the call once")

	restart() // parallel calls share one new session or fail, and later calls succeed
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() { _, _ = call(t, server, "echo", `{"text":"x"}`) })
	}
	all.Wait()
	require.Eventually(t, func() bool {
		said, err := call(t, server, "echo", `{"text":"x"}`)
		return err == nil && said == "echo: x"
	}, patience, time.Millisecond)
}

// If a server is unavailable for a while, only the calls of that time fail.
func TestHTTP_unavailableServer_recovers(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	inner := handler(t)
	dialer := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			panic(http.ErrAbortHandler)
		}
		inner.ServeHTTP(w, r)
	}))
	server := connect(t, dialer, nil)
	down.Store(true)
	_, err := call(t, server, "echo", `{"text":"x"}`)
	require.Error(t, err)
	down.Store(false)
	said, err := call(t, server, "echo", `{"text":"x"}`)
	require.NoError(t, err)
	require.Equal(t, "echo: x", said)
}

// A response without an end does not fill the memory.
func TestHTTP_endlessResponse_isBounded(t *testing.T) {
	t.Parallel()
	inner := handler(t)
	var sent atomic.Int64
	dialer := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(body), `"raw"`) {
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			inner.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		chunk := []byte(strings.Repeat(" ", 1<<20))
		for r.Context().Err() == nil {
			n, err := w.Write(chunk)
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	}))
	server := connect(t, dialer, nil)
	_, err := call(t, server, "raw", `{}`)
	require.Error(t, err)
	require.Less(t, sent.Load(), int64(64<<20))
	require.Eventually(t, func() bool {
		said, err := call(t, server, "echo", `{"text":"x"}`)
		return err == nil && said == "echo: x"
	}, patience, time.Millisecond)
}

func TestCall_inputRequired_returnsError(t *testing.T) {
	t.Parallel()
	server := sdk.NewServer(&sdk.Implementation{Name: "test", Version: "1"}, nil)
	server.AddTool(&sdk.Tool{Name: "ask", InputSchema: json.RawMessage(`{"type":"object"}`)},
		func(context.Context, *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
			return &sdk.CallToolResult{InputRequests: sdk.InputRequestMap{"name": &sdk.ElicitParams{Message: "Who are you?"}}}, nil
		})
	connected := connect(t, inMemory(server), nil)
	_, err := call(t, connected, "ask", `{}`)
	require.ErrorContains(t, err, "input")
}
