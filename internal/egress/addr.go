package egress

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"code.dny.dev/ssrf"
)

// CheckAddr returns nil if a callback may be sent to a, else a *Blocked. The order matters. Forms that embed IPv4 and
// zones are blocked before the operator's ranges are checked, because they are a second spelling of another address.
// A metadata address is allowed only by a prefix that names it alone.
func (g *Guard) CheckAddr(a netip.Addr) error {
	// netip.Prefix.Contains is false for zoned and IPv4-mapped addresses: a table alone would let both through.
	switch {
	case !a.IsValid():
		return block("address", "this is not an IP address")
	case a.Zone() != "":
		return block("zone", "an address with a zone id names a local interface")
	case embedsIPv4(a):
		return block("embedded", "an IPv6 address that embeds an IPv4 address is not accepted")
	case slices.Contains(metadataAddrs, a) && !slices.Contains(g.allow, netip.PrefixFrom(a, a.BitLen())):
		return block("metadata", "the address belongs to a cloud provider's metadata service")
	case contains(g.allow, a):
		return nil
	case a.IsMulticast():
		return block("multicast", "the address is a multicast address")
	case a.Is4() && contains(g.denied4, a),
		a.Is6() && (!ssrf.IPv6GlobalUnicast.Contains(a) || contains(g.denied6, a)):
		return block("special", "the address is not on the public internet")
	case a.Is6() && !contains(allocated6, a):
		return block("unallocated", "the address is in a part of IPv6 that is not allocated")
	}
	return nil
}

// embedsIPv4 reports whether a is an IPv6 address that some host or router on the way turns into an IPv4 one.
func embedsIPv4(a netip.Addr) bool {
	if !a.Is6() || a == netip.IPv6Unspecified() || a == netip.IPv6Loopback() {
		return false // both are in ::/96, but are not IPv4-compatible addresses (RFC 4291 §2.5.5.1)
	}
	return a.Is4In6() || isISATAP(a) || contains(embedding6, a)
}

// isISATAP looks at the interface id alone: ISATAP works in any /64 (RFC 5214 §6.1).
func isISATAP(a netip.Addr) bool {
	b := a.As16()
	id := binary.BigEndian.Uint32(b[8:12])
	return id == 0x0000_5efe || id == 0x0200_5efe
}

// embeddingBlock reports whether CheckAddr would block all of p for embedding IPv4.
func embeddingBlock(p netip.Prefix) bool {
	if p.IsSingleIP() {
		return embedsIPv4(p.Addr())
	}
	return slices.ContainsFunc(embedding6, func(e netip.Prefix) bool {
		return e.Bits() <= p.Bits() && e.Contains(p.Addr())
	})
}

func contains(table []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(table, func(p netip.Prefix) bool { return p.Contains(a) })
}
