// Package ssetest has a server in memory and a reader of event streams, for tests.
package ssetest

import (
	"bufio"
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/memnet"
)

// Options configures a [Server].
type Options struct {
	HTTP2    bool
	Timeouts time.Duration // ReadTimeout and WriteTimeout of the server
}

// Server is an HTTP server on a network in memory.
type Server struct {
	HTTP   *http.Server
	t      *testing.T
	client *http.Client
}

// NewServer starts a server. It is closed when the test ends.
func NewServer(t *testing.T, handler http.Handler, o Options) *Server {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!o.HTTP2)
	protocols.SetUnencryptedHTTP2(o.HTTP2)
	network := memnet.New()
	s := &Server{t: t, HTTP: &http.Server{Handler: handler, Protocols: protocols, ReadTimeout: o.Timeouts, WriteTimeout: o.Timeouts}}
	served := make(chan error, 1)
	go func() { served <- s.HTTP.Serve(network) }()
	transport := &http.Transport{DialContext: network.Dial, Protocols: protocols, DisableKeepAlives: !o.HTTP2,
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}}
	s.client = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = s.HTTP.Close()
		<-served
	})
	return s
}

// Open requests a stream, or whatever else path and headers lead to. The reader is
// closed when the test ends.
func (s *Server) Open(path string, header ...string) *Reader {
	s.t.Helper()
	return s.Do(http.MethodGet, path, header...)
}

// Do is Open with another method.
func (s *Server) Do(method, path string, header ...string) *Reader {
	s.t.Helper()
	r, err := s.request(method, path, header...)
	require.NoError(s.t, err)
	return r
}

// TryOpen is Open for goroutines other than the test's.
func (s *Server) TryOpen(path string, header ...string) (*Reader, error) {
	return s.request(http.MethodGet, path, header...)
}

func (s *Server) request(method, path string, header ...string) (*Reader, error) {
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
	r := &Reader{Response: resp, lines: bufio.NewReader(resp.Body), cancel: cancel}
	s.t.Cleanup(r.Close)
	return r, nil
}
