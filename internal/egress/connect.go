package egress

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// perFamily is how many addresses of one family are tried: more would only spend the deadline.
	perFamily = 2
	// minTry is the least time that one of several addresses gets, as in package net.
	minTry = 2 * time.Second
	// closeGrace is how long a dead peer may hold up the TLS close_notify.
	closeGrace = 200 * time.Millisecond
)

// Connect resolves t, dials one of its checked addresses and completes the TLS handshake (TLS 1.2 or newer, certificate
// verified for the host, ALPN http/1.1). Nothing of the request is written: the caller may still stop with
// [Conn.Close]. The addresses are tried in turn, two of each family at most, sharing what time ctx leaves; TLS is tried
// on the first that connects. The connection does not depend on ctx once Connect has returned.
//
// An error is a *Blocked, or of class "dns", "connect", "tls", "timeout" or "canceled".
func (g *Guard) Connect(ctx context.Context, t *Target) (*Conn, error) {
	addrs, err := g.Resolve(ctx, t)
	if err != nil {
		return nil, err
	}
	raw, err := g.dialAny(ctx, t.port, tries(addrs))
	if err != nil {
		return nil, fail(ctx, ClassConnect, "connect to the callback host", err)
	}
	secure := tls.Client(raw, &tls.Config{
		ServerName: t.Host(),
		RootCAs:    g.roots,
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
	})
	if err := secure.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fail(ctx, ClassTLS, "TLS handshake with the callback host", err)
	}
	return newConn(ctx, t, &gatedConn{Conn: secure, raw: raw, open: make(chan struct{})})
}

// newConn hands the finished connection to net/http, which has nothing left to dial: the proxy of the environment, its
// own resolver and HTTP/2 have no way in.
func newConn(ctx context.Context, t *Target, gated *gatedConn) (*Conn, error) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	transport := &http.Transport{
		DialTLSContext:         func(context.Context, string, string) (net.Conn, error) { return gated, nil },
		Protocols:              protocols,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHead,
	}
	cc, err := transport.NewClientConn(ctx, "https", net.JoinHostPort(t.Host(), "443"))
	if err != nil {
		gated.Close()
		return nil, fail(ctx, ClassInternal, "prepare the connection", err)
	}
	return &Conn{t: t, cc: cc, gated: gated}, nil
}

// tries picks the addresses to dial, in their order.
func tries(addrs []netip.Addr) []netip.Addr {
	var picked []netip.Addr
	var v4, v6 int
	for _, a := range addrs {
		n := &v6
		if a.Is4() {
			n = &v4
		}
		if *n++; *n <= perFamily {
			picked = append(picked, a)
		}
	}
	return picked
}

// dialAny returns the first connection that succeeds, else the first error. If the control hook blocks, it tries no
// further address: an address that passes Resolve and not the hook shows a mistake in this package.
func (g *Guard) dialAny(ctx context.Context, port uint16, addrs []netip.Addr) (net.Conn, error) {
	var first error
	for i, a := range addrs {
		conn, err := g.dialOne(ctx, netip.AddrPortFrom(a, port), len(addrs)-i)
		if err == nil {
			return conn, nil
		}
		if first == nil || Class(err) == ClassBlocked {
			first = err
		}
		if ctx.Err() != nil || Class(err) == ClassBlocked {
			break
		}
	}
	return nil, first
}

func (g *Guard) dialOne(ctx context.Context, to netip.AddrPort, left int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(time.Until(deadline)/time.Duration(left), minTry))
		defer cancel()
	}
	return g.dial(ctx, "tcp", to.String())
}

// gatedConn keeps net/http from reading before the request is written. It would otherwise read ahead while the caller
// commits its claim, take early bytes of the peer for an unsolicited answer, and print them to the process's log.
type gatedConn struct {
	*tls.Conn
	raw   net.Conn
	open  chan struct{}
	once  sync.Once
	wrote atomic.Bool // whether a byte may have left
}

func (c *gatedConn) Read(p []byte) (int, error) {
	<-c.open
	return c.Conn.Read(p)
}

func (c *gatedConn) Write(p []byte) (int, error) {
	c.wrote.Store(true)
	c.once.Do(func() { close(c.open) })
	return c.Conn.Write(p)
}

// Close sends close_notify, but does not wait for a peer that has stopped reading: crypto/tls alone would for 5 seconds,
// and past the caller's deadline.
func (c *gatedConn) Close() error {
	force := time.AfterFunc(closeGrace, func() { c.raw.Close() })
	defer force.Stop()
	err := c.Conn.Close()
	c.once.Do(func() { close(c.open) })
	return err
}
