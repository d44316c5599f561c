// Package egress decides where a callback may go, and sends it there.
//
// A callback URL is chosen by the holder of an API key, and the POST to it leaves from inside the operator's network:
// without a guard every trigger is a request forgery tool (SSRF, CWE-918). The guard has three gates, and a delivery
// passes all of them:
//
//	ParseURL     the URL as text: scheme, spelling of the host, special-use names, port
//	Resolve      one lookup; every address of the answer must pass CheckAddr, else the name is blocked
//	Connect      dials one of exactly those addresses, and checks it once more in the socket's control hook
//
// There is no second lookup between Resolve and Connect, so a name whose address changes (DNS rebinding) has no effect.
// A [Policy] can allow further ranges. No option turns the guard off.
//
// The transport is made for one POST. Connect returns after the TLS handshake and before it writes a byte of the
// request, so that the caller can commit its claim in between. [Conn.Post] then writes the request once. There is no
// pool, proxy, redirect, retry or cookie. If the connection fails, its one delivery fails.
//
// The guard cannot recognize a network that translates a public prefix of its own to IPv4 (NAT64 with a
// network-specific prefix, RFC 6052 §2.2; 6rd, RFC 5969), or a public address that is routed to an internal service.
// In such a network, the host must keep its egress firewall.
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

// Policy configures a [Guard]. The zero Policy allows only the public internet, trusts the system's root certificates
// and asks the system's name servers through Go's own resolver.
type Policy struct {
	// Allow lists the allowed ranges besides the public internet, such as 10.20.0.0/16 for a self-hosted n8n.
	// Host bits are ignored (10.0.0.7/8 is 10.0.0.0/8). If it is not empty, URLs may have single-label names,
	// "localhost" and names under .internal, .local and .localhost; the address must still be allowed. An IPv6 form
	// that embeds an IPv4 address is always blocked. A cloud-metadata address is allowed only by a prefix that names
	// exactly that address (/32 or /128).
	Allow []netip.Prefix
	// RootCAs verifies the receivers' certificates. If nil, it is the system's roots.
	RootCAs *x509.CertPool
	// Resolver answers the one lookup of a delivery. Its exported fields are copied. If nil, it is Go's resolver
	// (PreferGo). If PreferGo is not set, the system's resolver may be used. That one does not show whether an
	// IPv4-mapped answer came from DNS, so the guard checks and dials the IPv4 address in such an answer.
	Resolver *net.Resolver
	// Dial opens connections. It is for tests: the guard cannot check that Dial connects to the given address. If nil,
	// it is a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Guard checks URLs and addresses and makes connections by one [Policy]. It never changes and is safe for concurrent use.
type Guard struct {
	allow    []netip.Prefix
	denied4  []netip.Prefix
	denied6  []netip.Prefix
	roots    *x509.CertPool
	resolver resolverConfig
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
}

// New copies p into a Guard. It returns an error if an Allow prefix has no effect: it is invalid, or it is inside an
// IPv6 block whose addresses embed IPv4 (::ffff:10.0.0.0/104, 64:ff9b::/96, 2002::/16, …).
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
		return fmt.Errorf("egress: allow: %v is in a range of IPv6 addresses that embed IPv4, which are always blocked", p)
	}
	return nil
}

// control runs immediately before connect(2), on the address that the kernel receives. It is the decisive check: no
// mistake before it, in this package or in package net, can pass another address to the kernel.
func (g *Guard) control(network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return block("network", "callbacks travel over TCP only")
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return block("address", "the connection would not go to an IP address")
	}
	return g.CheckAddr(ap.Addr())
}
