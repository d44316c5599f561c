package egress

import "net/netip"

// The IANA special-purpose registries for IPv4 and for 2000::/3 come from code.dny.dev/ssrf. Its tables are wider than
// "not globally reachable" in a few places, and the guard keeps that: 192.0.0.0/24 and 2001::/23 whole (with the
// globally reachable anycast and ORCHIDv2 blocks in them), AS112 (192.31.196.0/24, 192.175.48.0/24, 2620:4f:8000::/48),
// AMT (192.52.193.0/24) and the former 6to4 relays (192.88.99.0/24). No callback receiver has such an address. Everything outside
// 2000::/3 is blocked without a table. The tables below complement the library.
//
// testdata/registries.txt is a copy of the registries with their dates. The tests hold all these tables to it, and make
// check-tables compares it with what is published.

// embedding6 are the blocks whose addresses carry an IPv4 address. IPv4-mapped addresses (::ffff:0:0/96, RFC 4291
// §2.5.5.2) and ISATAP (any /64) are not prefixes that netip could match and are detected in code.
var embedding6 = []netip.Prefix{
	netip.MustParsePrefix("::/96"),           // IPv4-compatible, RFC 4291 §2.5.5.1
	netip.MustParsePrefix("::ffff:0:0:0/96"), // SIIT, IPv4-translated, RFC 2765 §2.1
	netip.MustParsePrefix("64:ff9b::/96"),    // NAT64 well-known prefix, RFC 6052 §2.1
	netip.MustParsePrefix("64:ff9b:1::/48"),  // NAT64 local use, RFC 8215
	netip.MustParsePrefix("2001::/32"),       // Teredo, RFC 4380
	netip.MustParsePrefix("2002::/16"),       // 6to4, RFC 3056
}

// metadataAddrs are services that return credentials or configuration to any client inside a cloud.
var metadataAddrs = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"),   // AWS, Azure, Google Cloud, Oracle, DigitalOcean, OpenStack and more
	netip.MustParseAddr("169.254.170.2"),     // AWS ECS task credentials
	netip.MustParseAddr("169.254.170.23"),    // AWS EKS pod identity
	netip.MustParseAddr("169.254.0.23"),      // Tencent Cloud
	netip.MustParseAddr("169.254.42.42"),     // Scaleway
	netip.MustParseAddr("100.100.100.200"),   // Alibaba Cloud
	netip.MustParseAddr("168.63.129.16"),     // Azure wire server: a public address, and in no registry
	netip.MustParseAddr("192.0.0.192"),       // Oracle Cloud Classic
	netip.MustParseAddr("fd00:ec2::254"),     // AWS
	netip.MustParseAddr("fd00:ec2::23"),      // AWS EKS pod identity
	netip.MustParseAddr("fd20:ce::254"),      // Google Cloud
	netip.MustParseAddr("fd00:42::42"),       // Scaleway
	netip.MustParseAddr("fe80::a9fe:a9fe"),   // OpenStack
	netip.MustParseAddr("fd00:a9fe:a9fe::1"), // Linode
}

// allocated6 are the blocks that IANA has given to a regional registry, out of 2000::/3; the rest of 2000::/3 is not assigned,
// so an answer that points there is a mistake or a local route. Source: IANA "IPv6 Global Unicast Address Assignments",
// https://www.iana.org/assignments/ipv6-unicast-address-assignments, as of 2025-10-10 (the last addition is 2410::/12, 2024).
// 2001::/23 (IETF protocol assignments) and 2002::/16 (6to4) are in the registry, but not in this list: they are blocked.
var allocated6 = []netip.Prefix{
	netip.MustParsePrefix("2001:200::/23"),
	netip.MustParsePrefix("2001:400::/23"),
	netip.MustParsePrefix("2001:600::/23"),
	netip.MustParsePrefix("2001:800::/22"),
	netip.MustParsePrefix("2001:c00::/23"),
	netip.MustParsePrefix("2001:e00::/23"),
	netip.MustParsePrefix("2001:1200::/23"),
	netip.MustParsePrefix("2001:1400::/22"),
	netip.MustParsePrefix("2001:1800::/23"),
	netip.MustParsePrefix("2001:1a00::/23"),
	netip.MustParsePrefix("2001:1c00::/22"),
	netip.MustParsePrefix("2001:2000::/19"),
	netip.MustParsePrefix("2001:4000::/23"),
	netip.MustParsePrefix("2001:4200::/23"),
	netip.MustParsePrefix("2001:4400::/23"),
	netip.MustParsePrefix("2001:4600::/23"),
	netip.MustParsePrefix("2001:4800::/23"),
	netip.MustParsePrefix("2001:4a00::/23"),
	netip.MustParsePrefix("2001:4c00::/23"),
	netip.MustParsePrefix("2001:5000::/20"),
	netip.MustParsePrefix("2001:8000::/19"),
	netip.MustParsePrefix("2001:a000::/20"),
	netip.MustParsePrefix("2001:b000::/20"),
	netip.MustParsePrefix("2003::/18"),
	netip.MustParsePrefix("2400::/12"),
	netip.MustParsePrefix("2410::/12"),
	netip.MustParsePrefix("2600::/12"),
	netip.MustParsePrefix("2610::/23"),
	netip.MustParsePrefix("2620::/23"),
	netip.MustParsePrefix("2630::/12"),
	netip.MustParsePrefix("2800::/12"),
	netip.MustParsePrefix("2a00::/12"),
	netip.MustParsePrefix("2a10::/12"),
	netip.MustParsePrefix("2c00::/12"),
}
