package egress_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/egress"
)

func TestDeadlines(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		serve func(*receiver, *tls.Conn)
		fails bool
	}{
		"handshake stalls": {func(_ *receiver, conn *tls.Conn) { _, _ = io.Copy(io.Discard, conn.NetConn()) }, true},
		"no answer": {func(r *receiver, conn *tls.Conn) {
			r.read(conn)
			_, _ = io.Copy(io.Discard, conn)
		}, true},
		"nothing read": {func(_ *receiver, conn *tls.Conn) {
			_ = conn.Handshake()
			<-time.After(2 * time.Second)
		}, true},
		"head trickles": {func(r *receiver, conn *tls.Conn) {
			r.read(conn)
			_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
			for err == nil {
				<-time.After(5 * time.Millisecond)
				_, err = io.WriteString(conn, "X")
			}
		}, true},
		"body trickles": {func(r *receiver, conn *tls.Conn) {
			r.read(conn)
			_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			for err == nil {
				<-time.After(5 * time.Millisecond)
				_, err = io.WriteString(conn, "X")
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t, nil, c.serve)
			ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
			defer cancel()
			body := "{}"
			if name == "nothing read" {
				body = strings.Repeat("x", 16<<20) // more than the kernel buffers
			}
			start := time.Now()
			got, err := r.post(t, ctx, "/?token=geheim", nil, body)
			require.Less(t, time.Since(start), 1500*time.Millisecond)
			if !c.fails {
				require.NoError(t, err)
				require.True(t, got.Truncated)
				require.NotEmpty(t, got.Body)
				return
			}
			require.Equal(t, egress.ClassTimeout, egress.Class(err), "%v", err)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.NotContains(t, err.Error(), "geheim")
		})
	}
}

func TestCancelInterruptsPost(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	r := newReceiver(t, nil, func(r *receiver, conn *tls.Conn) {
		r.read(conn)
		cancel()
		_, _ = io.Copy(io.Discard, conn)
	})
	_, err := r.post(t, ctx, "/", nil, "{}")
	require.Equal(t, egress.ClassCanceled, egress.Class(err))
}

func TestCloseInterruptsPost(t *testing.T) {
	t.Parallel()
	read := make(chan struct{})
	r := newReceiver(t, nil, func(r *receiver, conn *tls.Conn) {
		r.read(conn)
		close(read)
		_, _ = io.Copy(io.Discard, conn)
	})
	g := r.guard(t)
	conn, err := g.Connect(t.Context(), parse(t, g, r.url("/")))
	require.NoError(t, err)
	go func() {
		<-read
		conn.Close()
	}()
	_, err = conn.Post(t.Context(), nil, []byte("{}"))
	require.Error(t, err)
}

// jammedConn is a connection whose peer has stopped reading: once jammed, a write ends only with the connection.
type jammedConn struct {
	net.Conn
	jammed atomic.Bool
	once   sync.Once
	closed chan struct{}
}

func (c *jammedConn) Write(p []byte) (int, error) {
	if c.jammed.Load() {
		<-c.closed
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

func (c *jammedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func TestCloseDoesNotWaitForThePeer(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil, nil)
	var jam *jammedConn
	g := newGuard(t, egress.Policy{
		Allow: allow(t, "127.0.0.0/8"), RootCAs: r.ca.pool, Resolver: r.ns.resolver(),
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			jam = &jammedConn{Conn: conn, closed: make(chan struct{})}
			return jam, nil
		},
	})
	conn, err := g.Connect(t.Context(), parse(t, g, r.url("/")))
	require.NoError(t, err)
	jam.jammed.Store(true)
	start := time.Now()
	_ = conn.Close()
	require.Less(t, time.Since(start), 2*time.Second)
}
