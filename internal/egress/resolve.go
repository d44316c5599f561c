package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
)

// acceptLookup bounds the lookup at accept time: a caller waits for its 202.
const acceptLookup = 2 * time.Second

type resolverConfig struct {
	preferGo, strictErrors bool
	dial                   func(ctx context.Context, network, address string) (net.Conn, error)
}

// CheckTarget is the check at trigger creation. It resolves the host within 2 seconds and returns the *Blocked of its
// addresses, if any. If a name does not resolve in that time, it returns nil: the receiver may start later, and Connect
// checks it again. If ctx ends, it returns nil too.
func (g *Guard) CheckTarget(ctx context.Context, t *Target) error {
	ctx, cancel := context.WithTimeout(ctx, acceptLookup)
	defer cancel()
	if r := (*Blocked)(nil); errors.As(g.resolve(ctx, t), &r) {
		return r
	}
	return nil
}

// Resolve returns the addresses of t, in the order of RFC 6724, after CheckAddr has passed all of them. One blocked
// address blocks the name, else a name could be public for the check and private for the connection. A literal address
// needs no lookup. An error is a *Blocked, or of class "dns", "timeout" or "canceled".
//
// A lookup is one A and one AAAA query (package net repeats a query without an answer). The query has the absolute name,
// so that no search domain multiplies queries or turns a public name into an internal one. Single-label names are
// looked up as they are, if the policy allows them.
func (g *Guard) Resolve(ctx context.Context, t *Target) ([]netip.Addr, error) {
	addrs := []netip.Addr{t.addr}
	if t.name != "" {
		var err error
		if addrs, err = g.lookup(ctx, t.name); err != nil {
			return nil, fail(ctx, ClassDNS, "resolve the callback host", err)
		}
	}
	for _, a := range addrs {
		if err := g.CheckAddr(a); err != nil {
			return nil, err
		}
	}
	return addrs, nil
}

func (g *Guard) resolve(ctx context.Context, t *Target) error {
	_, err := g.Resolve(ctx, t)
	return err
}

// lookup makes one lookup and distinguishes IPv4 from IPv6 answers. Package net returns an A record in 4 bytes and an
// IPv4-mapped AAAA record in 16, but also every IPv4 line of the hosts file in 16. If no name server was asked, lookup
// converts the mapped form to IPv4. A mapped answer of a name server is not converted, and CheckAddr blocks it.
//
// Every lookup has its own net.Resolver. A shared one would merge lookups of the same name, so that lookup could not
// detect whether its own query reached a name server.
func (g *Guard) lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	var asked atomic.Bool
	dial := g.resolver.dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	r := &net.Resolver{
		PreferGo:     g.resolver.preferGo,
		StrictErrors: g.resolver.strictErrors,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			asked.Store(true)
			conn, err := dial(ctx, network, address)
			if err == nil {
				// Package net leaves an abandoned question waiting for its own 5 seconds, and the answer would not be read.
				context.AfterFunc(ctx, func() { conn.Close() })
			}
			return conn, err
		},
	}
	if strings.Contains(name, ".") {
		name += "."
	}
	addrs, err := r.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, errors.New("empty answer")
	}
	if !asked.Load() {
		for i, a := range addrs {
			addrs[i] = a.Unmap()
		}
	}
	return addrs, nil
}
