// Package memnet is a network in memory for tests.
package memnet

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// Network is a network in memory with one server. Its connections are pipes. While a
// goroutine reads from a pipe, a testing/synctest bubble is idle. A socket prevents
// that.
type Network struct {
	conns  chan net.Conn
	closed chan struct{}
	close  sync.Once
}

// New returns a network without connections.
func New() *Network {
	return &Network{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Serve starts an HTTP server on the network and returns a client whose every
// request reaches it, whatever host it names. stop ends both; call it inside the
// bubble.
func (n *Network) Serve(handler http.Handler) (client *http.Client, stop func()) {
	server := &http.Server{Handler: handler}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(n)
	}()
	transport := &http.Transport{DialContext: n.Dial}
	return &http.Client{Transport: transport}, func() {
		transport.CloseIdleConnections()
		_ = server.Close()
		<-served
	}
}

// Dial connects to the server. While it accepts nothing, Dial waits.
func (n *Network) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case n.conns <- far:
		return near, nil
	case <-n.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept waits for a connection: a Network is the listener of its server.
func (n *Network) Accept() (net.Conn, error) {
	select {
	case conn := <-n.conns:
		return conn, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and every dial.
func (n *Network) Close() error {
	n.close.Do(func() { close(n.closed) })
	return nil
}

// Addr is a name for errors.
func (n *Network) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "pipe"} }

// Silent returns a client that dials and never gets through. stop ends its dials,
// which net/http does not give up with the request.
func (n *Network) Silent() (client *http.Client, stop func()) {
	return &http.Client{Transport: &http.Transport{DialContext: n.Dial}}, func() { _ = n.Close() }
}
