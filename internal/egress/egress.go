// Package egress decides where a callback may go, and sends it there.
//
// A callback URL is chosen by the holder of an API key, and the POST to it leaves from inside the operator's network:
// without a guard every trigger is a request forgery tool (SSRF, CWE-918). The guard has three gates, and a delivery
// passes all of them:
//
//	ParseURL     the URL as text: scheme, spelling of the host, special-use names, port
//	Resolve      one lookup; every address of the answer must pass CheckAddr, or the name is refused
//	Connect      dials one of exactly those addresses, and checks it once more in the socket's control hook
//
// Between Resolve and Connect there is no second lookup, so a name that changes its mind (DNS rebinding) changes
// nothing. What an operator may widen is in [Policy]; nothing turns the guard off.
//
// The transport is made for one POST. Connect returns when TLS is up and before a byte of the request is written, so
// that the caller can commit its claim in between; [Conn.Post] then writes the request once. There is no pool, no
// proxy, no redirect, no retry and no cookie: a connection that fails takes its one delivery with it.
//
// What the guard cannot know: networks that translate a public-looking prefix of their own to IPv4 (NAT64 with a
// network-specific prefix, RFC 6052 §2.2; 6rd, RFC 5969), and public addresses that are routed to an internal service.
// A host with such a network keeps its egress firewall.
package egress

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"code.dny.dev/ssrf"
)

// Policy is what an operator may widen. The zero Policy reaches the public internet only, trusts the system's root
// certificates and asks the system's name servers through Go's own resolver.
type Policy struct {
	// Allow lists ranges that may be reached besides the public internet, e.g. 10.20.0.0/16 for a self-hosted n8n.
	// Host bits are ignored (10.0.0.7/8 is 10.0.0.0/8). While it is not empty, single-label names, "localhost" and
	// names under .internal, .local and .localhost are accepted as URLs; the address still decides. An IPv6 form that
	// embeds an IPv4 address stays refused, and a cloud-metadata address is reached only by a prefix that names exactly
	// that address (/32 or /128).
	Allow []netip.Prefix
	// RootCAs verifies the receivers' certificates; nil means the system's roots.
	RootCAs *x509.CertPool
	// Resolver answers the one lookup of a delivery; nil means Go's resolver (PreferGo). Its exported fields are copied.
	// With PreferGo unset the system's resolver may be used; it hides whether an IPv4-mapped answer came from DNS, so
	// such an answer is then judged, and dialled, as the IPv4 address in it.
	Resolver *net.Resolver
	// Dial, when set, opens connections instead of a net.Dialer. It is a tap for tests: a Dial that connects elsewhere
	// than to the given address is outside of what the guard can check.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Guard judges URLs and addresses and makes connections by one [Policy]. It never changes and is safe for concurrent use.
type Guard struct {
	allow    []netip.Prefix
	denied4  []netip.Prefix
	denied6  []netip.Prefix
	roots    *x509.CertPool
	resolver resolverConfig
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
}

// New copies p into a Guard. It fails on an Allow prefix that could never mean what its author thought: an invalid one,
// and one that lies inside an IPv6 block whose addresses embed IPv4 (::ffff:10.0.0.0/104, 64:ff9b::/96, 2002::/16, …).
func New(p Policy) (*Guard, error) {
	g := &Guard{
		denied4:  slices.Clone(ssrf.IPv4DeniedPrefixes),
		denied6:  slices.Clone(ssrf.IPv6DeniedPrefixes),
		resolver: resolverConfig{preferGo: true},
		dial:     p.Dial,
	}
	for _, prefix := range p.Allow {
		if err := checkAllow(prefix); err != nil {
			return nil, err
		}
		g.allow = append(g.allow, prefix.Masked())
	}
	if p.RootCAs != nil {
		g.roots = p.RootCAs.Clone()
	}
	if r := p.Resolver; r != nil {
		g.resolver = resolverConfig{preferGo: r.PreferGo, strictErrors: r.StrictErrors, dial: r.Dial}
	}
	if g.dial == nil {
		d := &net.Dialer{Control: g.control}
		g.dial = d.DialContext
	}
	return g, nil
}

func checkAllow(p netip.Prefix) error {
	switch a := p.Addr(); {
	case !p.IsValid():
		return fmt.Errorf("egress: allow: %v is not a valid address range", p)
	case a.Zone() != "":
		return fmt.Errorf("egress: allow: %v has a zone; a range names addresses only", p)
	case a.Is4In6():
		return fmt.Errorf("egress: allow: %v is an IPv4-mapped range; write the IPv4 range itself", p)
	case embeddingBlock(p):
		return fmt.Errorf("egress: allow: %v lies in a block whose IPv6 addresses embed IPv4; those are always refused", p)
	}
	return nil
}

// control runs in the socket's last moment before connect(2), on the address that the kernel will be given. It is the
// decisive check: nothing that happens before it, in this package or in package net, can put another address past it.
func (g *Guard) control(network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return refuse("network", "callbacks travel over TCP only")
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return refuse("address", "the connection would go to something that is no IP address")
	}
	return g.CheckAddr(ap.Addr())
}
