// Package modeltest has fake servers of the vendors of language models, for
// tests: they speak the vendors' wire formats, refuse what the vendors refuse, and
// fail in the ways that the vendors and the networks before them do. What they
// know comes from the vendors' public API descriptions.
package modeltest

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// Network is a network in memory: its connections are pipes. A testing/synctest
// bubble is idle while somebody reads from one, which a socket prevents.
type Network struct {
	conns  chan net.Conn
	closed chan struct{}
	close  sync.Once
}

// NewNetwork returns a network without connections.
func NewNetwork() *Network {
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
	transport := &http.Transport{DialContext: n.dial}
	return &http.Client{Transport: transport}, func() {
		transport.CloseIdleConnections()
		_ = server.Close()
		<-served
	}
}

func (n *Network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
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

// Accept waits for a connection: a Network is the listener of its server. While
// nobody accepts, every dial waits.
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
	return &http.Client{Transport: &http.Transport{DialContext: n.dial}}, func() { _ = n.Close() }
}
