package egress_test

import (
	"encoding/csv"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/egress"
)

// block is one line of testdata/registries.txt.
type block struct {
	prefix netip.Prefix
	says   string // of a special one: yes, no or na; else ""
}

func registries(t testing.TB) (special, allocated []block) {
	t.Helper()
	data, err := os.ReadFile("testdata/registries.txt")
	require.NoError(t, err)
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] == "#" {
			continue
		}
		prefix, err := netip.ParsePrefix(fields[1])
		require.NoError(t, err, line)
		require.Equal(t, prefix, prefix.Masked(), line)
		switch fields[0] {
		case "special":
			require.Contains(t, []string{"yes", "no", "na"}, fields[2])
			special = append(special, block{prefix, fields[2]})
		case "allocated":
			allocated = append(allocated, block{prefix: prefix})
		default:
			require.Fail(t, line)
		}
	}
	require.Len(t, special, 51)
	require.Len(t, allocated, 36)
	return special, allocated
}

// edges are the addresses before, at the beginning, at the end and after a block, those that there are.
func edges(p netip.Prefix) []netip.Addr {
	first, last := p.Addr(), p.Addr()
	if p.Addr().Is4() {
		b := last.As4()
		for i := p.Bits(); i < 32; i++ {
			b[i/8] |= 0x80 >> (i % 8)
		}
		last = netip.AddrFrom4(b)
	} else {
		b := last.As16()
		for i := p.Bits(); i < 128; i++ {
			b[i/8] |= 0x80 >> (i % 8)
		}
		last = netip.AddrFrom16(b)
	}
	return slices.DeleteFunc([]netip.Addr{first.Prev(), first, last, last.Next()}, func(a netip.Addr) bool { return !a.IsValid() })
}

// TestEdgesOfTheRegistries compares the guard with the registries at every edge: an address is blocked if it is in any special
// block, reachable or not (the exceptions are not receivers), and so is unassigned IPv6.
func TestEdgesOfTheRegistries(t *testing.T) {
	t.Parallel()
	special, allocated := registries(t)
	g := newGuard(t, egress.Policy{})
	in := func(blocks []block, a netip.Addr) bool {
		return slices.ContainsFunc(blocks, func(b block) bool { return b.prefix.Contains(a.WithZone("")) })
	}
	checked := 0
	for _, b := range append(slices.Clone(special), allocated...) {
		for i, a := range edges(b.prefix) {
			if a.Is4In6() { // no prefix contains these; ::ffff:0:0/96 is the special block
				require.Equal(t, "embedded", rule(t, g.CheckAddr(a)))
				continue
			}
			want := !in(special, a) && (a.Is4() && !a.IsMulticast() || a.Is6() && in(allocated, a))
			require.Equal(t, want, g.CheckAddr(a) == nil, "edge %d of %v: %v", i, b.prefix, a)
			require.Equal(t, oracle(a), want, "the oracle at edge %d of %v: %v", i, b.prefix, a)
			checked++
		}
	}
	require.Greater(t, checked, 300)
}

// committed is registries.txt in the form of readRegistry.
func committed(t testing.TB) []string {
	special, allocated := registries(t)
	var lines []string
	for _, b := range special {
		lines = append(lines, fmt.Sprintf("special %v %s", b.prefix, b.says))
	}
	for _, b := range allocated {
		lines = append(lines, fmt.Sprintf("allocated %v", b.prefix))
	}
	return lines
}

func differences(ours, theirs []string) []string {
	var found []string
	for _, line := range theirs {
		if !slices.Contains(ours, line) {
			found = append(found, "published, and not in registries.txt: "+line)
		}
	}
	for _, line := range ours {
		if !slices.Contains(theirs, line) {
			found = append(found, "in registries.txt, and not published: "+line)
		}
	}
	return found
}

var footnote = regexp.MustCompile(`\s*\[\d+\]`)

// readRegistry reads a registry as IANA publishes it: a cell may have several blocks and marks of footnotes.
func readRegistry(r io.Reader) ([]string, error) {
	rows, err := csv.NewReader(r).ReadAll()
	if err != nil || len(rows) < 2 {
		return nil, fmt.Errorf("%d rows: %w", len(rows), err)
	}
	column := func(name string) int { return slices.Index(rows[0], name) }
	blocks, reachable, prefix, status := column("Address Block"), column("Globally Reachable"), column("Prefix"), column("Status")
	if (blocks < 0 || reachable < 0) && (prefix < 0 || status < 0) {
		return nil, fmt.Errorf("unknown columns: %q", rows[0])
	}
	var lines []string
	for _, row := range rows[1:] {
		if blocks < 0 {
			if row[status] != "ALLOCATED" {
				continue
			}
			p, err := netip.ParsePrefix(row[prefix])
			if err != nil {
				return nil, err
			}
			lines = append(lines, fmt.Sprintf("allocated %v", p))
			continue
		}
		says := "na"
		switch footnote.ReplaceAllString(row[reachable], "") {
		case "True":
			says = "yes"
		case "False":
			says = "no"
		}
		for text := range strings.SplitSeq(footnote.ReplaceAllString(row[blocks], ""), ",") {
			p, err := netip.ParsePrefix(strings.TrimSpace(text))
			if err != nil {
				return nil, err
			}
			lines = append(lines, fmt.Sprintf("special %v %s", p, says))
		}
	}
	return lines, nil
}

func TestReadRegistry(t *testing.T) {
	t.Parallel()
	lines, err := readRegistry(strings.NewReader("Address Block,Name,RFC,Globally Reachable,Reserved-by-Protocol\n" +
		"0.0.0.0/8,\"\"\"This network\"\"\",\"[RFC791], Section 3.2\",False,True\n" +
		"192.0.0.0/24 [2],Assignments,\"[RFC6890]\n  [RFC8190]\",False [1],False\n" +
		"\"192.0.0.170/32, 192.0.0.171/32\",Discovery,,True,True\n" +
		"192.88.99.0/24,Deprecated,,,\n2002::/16 [3],6to4,[RFC3056],N/A [3],False\n"))
	require.NoError(t, err)
	require.Equal(t, []string{"special 0.0.0.0/8 no", "special 192.0.0.0/24 no", "special 192.0.0.170/32 yes",
		"special 192.0.0.171/32 yes", "special 192.88.99.0/24 na", "special 2002::/16 na"}, lines)
	lines, err = readRegistry(strings.NewReader("Prefix,Designation,Date,WHOIS,RDAP,Status,Note\n" +
		"2001:0200::/23,APNIC,1999-07-01,whois.apnic.net,\"https://rdap.apnic.net/\n\",ALLOCATED,\n" +
		"3000:0000::/4,IANA,1999-07-01,,,RESERVED,\n"))
	require.NoError(t, err)
	require.Equal(t, []string{"allocated 2001:200::/23"}, lines)
	for _, bad := range []string{"", "<html>\n<p>\n", "Address Block,Globally Reachable\nnonsense,True\n"} {
		_, err := readRegistry(strings.NewReader(bad))
		require.Error(t, err)
	}

	ours := committed(t)
	require.Empty(t, differences(ours, slices.Clone(ours)))
	theirs := append(slices.Clone(ours[1:]), "special 198.18.0.0/15 yes")
	require.Len(t, differences(ours, theirs), 2)
}
