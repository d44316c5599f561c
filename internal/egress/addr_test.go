package egress_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/webtrigger-go/webtrigger/internal/egress"
)

func TestAddressCorpus(t *testing.T) {
	t.Parallel()
	g := newGuard(t, egress.Policy{})
	lines := corpus(t, "testdata/addrs.txt")
	require.GreaterOrEqual(t, len(lines), 320)
	for _, l := range lines {
		a, err := netip.ParseAddr(l.subject)
		require.NoError(t, err, "line %d", l.number)
		require.Equal(t, l.rule, rule(t, g.CheckAddr(a)), "line %d: %s", l.number, l.subject)
	}
	require.Equal(t, "address", rule(t, g.CheckAddr(netip.Addr{})))
}

func TestAllowedRanges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ ranges, addr, rule string }{
		{"10.0.0.0/8", "10.1.2.3", ""},
		{"10.0.0.0/8", "11.0.0.0", ""},
		{"10.0.0.0/8", "192.168.0.1", "special"},
		{"10.0.0.0/8", "::ffff:10.1.2.3", "embedded"},
		{"10.0.0.0/8", "::10.1.2.3", "embedded"},
		{"10.0.0.0/8", "64:ff9b::10.1.2.3", "embedded"},
		{"10.0.0.0/8", "2002:a01:203::", "embedded"},
		{"0.0.0.0/0,::/0", "::ffff:10.1.2.3", "embedded"},
		{"0.0.0.0/0,::/0", "2001::1", "embedded"},
		{"0.0.0.0/0,::/0", "fd00::5efe:a00:1", "embedded"},
		{"0.0.0.0/0,::/0", "fe80::1%eth0", "zone"},
		{"0.0.0.0/0,::/0", "fe80::1", ""},
		{"0.0.0.0/0,::/0", "3000::1", ""},
		{"0.0.0.0/0,::/0", "255.255.255.255", ""},
		{"0.0.0.0/0,::/0", "169.254.169.254", "metadata"},
		{"0.0.0.0/0,::/0", "168.63.129.16", "metadata"},
		{"0.0.0.0/0,::/0", "fd00:ec2::254", "metadata"},
		{"169.254.169.254/31", "169.254.169.254", "metadata"},
		{"169.254.169.254/32", "169.254.169.254", ""},
		{"169.254.0.0/16,169.254.169.254/32", "169.254.169.254", ""},
		{"fd00:ec2::254/128", "fd00:ec2::254", ""},
		{"fd00:ec2::/127,fd00:ec2::254/127", "fd00:ec2::254", "metadata"},
		{"::1/128", "::1", ""},
		{"127.0.0.0/8", "::1", "special"},
		{"fd12:3456::/32", "fd12:3456:7::1", ""},
		{"fd12:3456::/32", "fd12:3457::1", "special"},
	} {
		g := newGuard(t, egress.Policy{Allow: allow(t, c.ranges)})
		require.Equal(t, c.rule, rule(t, g.CheckAddr(netip.MustParseAddr(c.addr))), "%s with %s", c.addr, c.ranges)
	}
}

// span is a range of addresses by its two ends. The oracle compares bytes. It uses neither prefixes nor tables of a library.
type span struct{ first, last [16]byte }

func spans(text string) []span {
	var out []span
	for line := range strings.Lines(text) {
		first, last, found := strings.Cut(strings.TrimSpace(line), " - ")
		if found {
			out = append(out, span{key(netip.MustParseAddr(first)), key(netip.MustParseAddr(last))})
		}
	}
	return out
}

func key(a netip.Addr) [16]byte { return a.As16() }

func within(table []span, a netip.Addr) bool {
	k := key(a)
	return slices.ContainsFunc(table, func(s span) bool {
		return bytes.Compare(s.first[:], k[:]) <= 0 && bytes.Compare(k[:], s.last[:]) <= 0
	})
}

// publicV4 and publicV6 are what is left of the internet when the registries' blocks are taken out of it.
var publicV4 = spans(`
	1.0.0.0 - 9.255.255.255
	11.0.0.0 - 100.63.255.255
	100.128.0.0 - 126.255.255.255
	128.0.0.0 - 168.63.129.15
	168.63.129.17 - 169.253.255.255
	169.255.0.0 - 172.15.255.255
	172.32.0.0 - 191.255.255.255
	192.0.1.0 - 192.0.1.255
	192.0.3.0 - 192.31.195.255
	192.31.197.0 - 192.52.192.255
	192.52.194.0 - 192.88.98.255
	192.88.100.0 - 192.167.255.255
	192.169.0.0 - 192.175.47.255
	192.175.49.0 - 198.17.255.255
	198.20.0.0 - 198.51.99.255
	198.51.101.0 - 203.0.112.255
	203.0.114.0 - 223.255.255.255
`)

var publicV6 = spans(`
	2001:200:: - 2001:db7:ffff:ffff:ffff:ffff:ffff:ffff
	2001:db9:: - 2001:fff:ffff:ffff:ffff:ffff:ffff:ffff
	2001:1200:: - 2001:3fff:ffff:ffff:ffff:ffff:ffff:ffff
	2001:4000:: - 2001:4dff:ffff:ffff:ffff:ffff:ffff:ffff
	2001:5000:: - 2001:5fff:ffff:ffff:ffff:ffff:ffff:ffff
	2001:8000:: - 2001:bfff:ffff:ffff:ffff:ffff:ffff:ffff
	2003:: - 2003:3fff:ffff:ffff:ffff:ffff:ffff:ffff
	2400:: - 241f:ffff:ffff:ffff:ffff:ffff:ffff:ffff
	2600:: - 260f:ffff:ffff:ffff:ffff:ffff:ffff:ffff
	2610:: - 2610:1ff:ffff:ffff:ffff:ffff:ffff:ffff
	2620:: - 2620:4f:7fff:ffff:ffff:ffff:ffff:ffff
	2620:4f:8001:: - 2620:1ff:ffff:ffff:ffff:ffff:ffff:ffff
	2630:: - 263f:ffff:ffff:ffff:ffff:ffff:ffff:ffff
	2800:: - 280f:ffff:ffff:ffff:ffff:ffff:ffff:ffff
	2a00:: - 2a1f:ffff:ffff:ffff:ffff:ffff:ffff:ffff
	2c00:: - 2c0f:ffff:ffff:ffff:ffff:ffff:ffff:ffff
`)

// oracle reports whether the zero policy permits a.
func oracle(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" {
		return false
	}
	if a.Is4() {
		return within(publicV4, a)
	}
	groups := strings.Split(a.StringExpanded(), ":")
	if len(groups) == 8 && groups[5] == "5efe" && (groups[4] == "0000" || groups[4] == "0200") {
		return false
	}
	return within(publicV6, a)
}

func genAddr(t *rapid.T) netip.Addr {
	edges := append(slices.Clone(publicV4), publicV6...)
	var a netip.Addr
	switch rapid.IntRange(0, 4).Draw(t, "kind") {
	case 0:
		a = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4")))
	case 1:
		a = netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "v6")))
	case 2: // near 2000::/3, where it gets interesting
		b := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "v6"))
		b[0] = rapid.SampledFrom([]byte{0x20, 0x24, 0x26, 0x28, 0x2a, 0x2c, 0x3f}).Draw(t, "top")
		a = netip.AddrFrom16(b)
	case 3: // the ends of the public ranges and the addresses next to them
		s := rapid.SampledFrom(edges).Draw(t, "span")
		a = netip.AddrFrom16(rapid.SampledFrom([][16]byte{s.first, s.last}).Draw(t, "end"))
		if slices.Contains(publicV4, s) {
			a = a.Unmap()
		}
		switch rapid.IntRange(-1, 1).Draw(t, "step") {
		case -1:
			a = a.Prev()
		case 1:
			a = a.Next()
		}
	default: // IPv4 in IPv6, in every form
		v4 := rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4")
		prefix := rapid.SampledFrom([]string{"::", "::ffff:0:0", "::ffff:0:0:0", "64:ff9b::", "64:ff9b:1::", "2a00:1450::5efe:0:0",
			"2600::200:5efe:0:0", "2002::", "2001::", "2a00::"}).Draw(t, "prefix")
		b := netip.MustParseAddr(prefix).As16()
		at := 12
		if prefix == "2002::" {
			at = 2
		}
		copy(b[at:], v4)
		a = netip.AddrFrom16(b)
	}
	if a.Is6() && !a.Is4In6() && rapid.IntRange(0, 9).Draw(t, "zoned") == 0 {
		a = a.WithZone("eth0")
	}
	return a
}

func TestCheckAddrAgainstOracle(t *testing.T) {
	t.Parallel()
	g := newGuard(t, egress.Policy{})
	rapid.Check(t, func(rt *rapid.T) {
		for range 50 {
			a := genAddr(rt)
			if got, want := g.CheckAddr(a) == nil, oracle(a); got != want {
				rt.Fatalf("%v: accepted %v, want %v", a, got, want)
			}
		}
	})
}

func FuzzCheckAddr(f *testing.F) {
	for _, l := range corpus(f, "testdata/addrs.txt") {
		a, err := netip.ParseAddr(l.subject)
		require.NoError(f, err)
		f.Add(a.AsSlice(), a.Zone())
	}
	zero := newGuard(f, egress.Policy{})
	wide := newGuard(f, egress.Policy{Allow: allow(f, "0.0.0.0/0,::/0")})
	f.Fuzz(func(t *testing.T, b []byte, zone string) {
		a, _ := netip.AddrFromSlice(b)
		if a.Is6() && !a.Is4In6() {
			a = a.WithZone(zone)
		}
		require.Equal(t, oracle(a), zero.CheckAddr(a) == nil, "%v", a)
		if wide.CheckAddr(a) == nil {
			// Whatever the operator allows, an address that carries a private IPv4 address in a known form is not reached.
			require.Empty(t, a.Zone())
			require.False(t, a.Is4In6())
			if a.Is6() {
				raw := a.As16()
				require.NotEqual(t, uint16(0x2002), binary.BigEndian.Uint16(raw[:2]))
				require.False(t, bytes.HasPrefix(raw[:], []byte{0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0}))
			}
		}
	})
}
