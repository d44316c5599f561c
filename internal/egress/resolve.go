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

// CheckTarget is the check at accept time. It resolves the host within 2 seconds and returns the *Refusal of its
// addresses, if any. A name that does not resolve in that time, or at all, is accepted: receivers may come up later, and
// the guard at connect time decides. When ctx ends, that is nil too.
func (g *Guard) CheckTarget(ctx context.Context, t *Target) error {
	ctx, cancel := context.WithTimeout(ctx, acceptLookup)
	defer cancel()
	if r := (*Refusal)(nil); errors.As(g.resolve(ctx, t), &r) {
		return r
	}
	return nil
}

// Resolve returns the addresses of t, in the order of RFC 6724, after CheckAddr passed every one of them: one bad address
// refuses the name, else a name could be public for the check and private for the connection. A literal address needs no
// lookup. An error is a *Refusal, or of class "dns", "timeout" or "canceled".
//
// A lookup is one A and one AAAA question (package net repeats a question that is not answered). The absolute name is
// asked, so that no search domain multiplies questions or turns a public name into an internal one; single-label names,
// where a policy allows them, are looked up as they are.
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

// lookup asks once, and makes plain which answers came as IPv6: package net returns an A record in 4 bytes and an
// IPv4-mapped AAAA record in 16, but also every IPv4 line of the hosts file in 16. Only in the last case, when no name
// server was asked, is the mapped form an artefact to undo; from a name server it stays, and CheckAddr refuses it.
//
// A net.Resolver of its own for every lookup keeps lookups apart: a shared one merges those of the same name, and with
// them whose questions were asked when.
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
