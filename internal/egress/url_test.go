package egress_test

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/egress"
)

// check calls ParseURL and, for a literal address, CheckAddr.
func check(t testing.TB, g *egress.Guard, raw string) (*egress.Target, string) {
	target, err := g.ParseURL(raw)
	if err != nil {
		require.Nil(t, target)
		return nil, rule(t, err)
	}
	if a, err := netip.ParseAddr(target.Host()); err == nil {
		return target, rule(t, g.CheckAddr(a))
	}
	return target, ""
}

func TestURLCorpus(t *testing.T) {
	t.Parallel()
	lines := corpus(t, "testdata/urls.txt")
	require.GreaterOrEqual(t, len(lines), 370)
	guards := make(map[string]*egress.Guard)
	for _, l := range lines {
		g, found := guards[l.policy]
		if !found {
			g = newGuard(t, egress.Policy{Allow: allow(t, l.policy)})
			guards[l.policy] = g
		}
		_, got := check(t, g, l.subject)
		require.Equal(t, l.rule, got, "line %d: %q", l.number, l.subject)
	}
}

func TestURLAsSent(t *testing.T) {
	t.Parallel()
	g := newGuard(t, egress.Policy{})
	for raw, want := range map[string]string{
		"https://hooks.example.com":                        "https://hooks.example.com/",
		"HTTPS://Hooks.Example.COM./Path?Q#Frag":           "https://hooks.example.com/Path?Q",
		"https://hooks.example.com:443/":                   "https://hooks.example.com/",
		"https://hooks.example.com:8443?a=b":               "https://hooks.example.com:8443/?a=b",
		"https://hooks.example.com/?":                      "https://hooks.example.com/?",
		"https://hooks.example.com/?#":                     "https://hooks.example.com/?",
		"https://hooks.example.com/a%2fb/../c?x=%zz&y=|#z": "https://hooks.example.com/a%2fb/../c?x=%zz&y=|",
		"https://hooks.example.com//a%2Fb?x=|":             "https://hooks.example.com//a%2Fb?x=|",
		"https://[2606:4700:0::ABCD]:8443/":                "https://[2606:4700::abcd]:8443/",
		"https://8.8.8.8?x":                                "https://8.8.8.8/?x",
	} {
		target, err := g.ParseURL(raw)
		require.NoError(t, err, raw)
		require.Equal(t, want, target.String())
	}
	target, err := g.ParseURL("https://Hooks.Example.com.:8443/x")
	require.NoError(t, err)
	require.Equal(t, "hooks.example.com", target.Host())
	require.Equal(t, uint16(8443), target.Port())
}

func TestURLLength(t *testing.T) {
	t.Parallel()
	g := newGuard(t, egress.Policy{})
	base := "https://hooks.example.com/?"
	for _, c := range []struct{ raw, rule string }{
		{base + strings.Repeat("a", 2048-len(base)), ""},
		{base + strings.Repeat("a", 2049-len(base)), "length"},
		{base + strings.Repeat("\u00e4", 2048-len(base)), ""}, // characters, not bytes
		{base + strings.Repeat("\u00e4", 2049-len(base)), "length"},
	} {
		_, got := check(t, g, c.raw)
		require.Equal(t, c.rule, got, "%d", len(c.raw))
	}
	name := strings.Repeat("aaaaaaa.", 31) + "co.uk" // 253 characters
	require.Len(t, name, 253)
	_, got := check(t, g, "https://"+name+"/")
	require.Empty(t, got)
	_, got = check(t, g, "https://"+name+"./")
	require.Empty(t, got)
	_, got = check(t, g, "https://a"+name+"/")
	require.Equal(t, "host", got)
}

var (
	acceptedName = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)+$`)
	numericEnd   = regexp.MustCompile(`(^|\.)([0-9]+|0x[0-9a-f]*)$`)
	localName    = regexp.MustCompile(`(^|\.)(localhost|local|internal|test|example|invalid|onion|alt|arpa|lan|home|corp|mail|intranet|private|localdomain)$`)
	fourDecimals = regexp.MustCompile(`^(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2})){3}$`)
	sentForm     = regexp.MustCompile(`^https://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:([1-9][0-9]{3,4}))?(/[^#]*)$`)
	badPorts     = regexp.MustCompile(`^(1433|1434|1521|2181|2375|2376|2379|2380|3306|33060|4222|5432|6432|5671|5672|5984|6984|6379|6380|26379|7687|8086|9042|9142|9092|9200|9300|10250|11211|26257|27017|27018|27019)$`)
)

// FuzzParseURL holds what was accepted against rules written a second time, on the normal form.
func FuzzParseURL(f *testing.F) {
	for _, l := range corpus(f, "testdata/urls.txt") {
		f.Add(l.subject)
	}
	g := newGuard(f, egress.Policy{})
	f.Fuzz(func(t *testing.T, raw string) {
		target, err := g.ParseURL(raw)
		if err != nil {
			rule(t, err)
			return
		}
		require.True(t, utf8.ValidString(raw))
		require.LessOrEqual(t, len([]rune(raw)), 2048)
		require.True(t, strings.EqualFold("https://", raw[:8]))
		require.NotContains(t, raw, `\`)
		require.Equal(t, raw, strings.TrimSpace(raw))
		for _, r := range raw {
			require.False(t, r <= ' ' || r >= 0x7f && r <= 0xa0 || r == 0x2028 || r == 0x3000, "%q", r)
		}

		sent := target.String()
		m := sentForm.FindStringSubmatch(sent)
		require.NotNil(t, m, "%q", sent)
		host, port, request := m[1], m[3], m[4]
		authority := raw[8:]
		if i := strings.IndexAny(authority, "/?#"); i >= 0 {
			authority = authority[:i]
		}
		require.NotContains(t, authority, "@")
		require.NotContains(t, authority, "%")
		for _, r := range authority {
			require.Less(t, r, rune(0x80))
		}
		wantRequest, _, _ := strings.Cut(raw[8+len(authority):], "#")
		if !strings.HasPrefix(wantRequest, "/") {
			wantRequest = "/" + wantRequest
		}
		require.Equal(t, wantRequest, request)

		if port == "" {
			require.Equal(t, uint16(443), target.Port())
		} else {
			n, err := strconv.Atoi(port)
			require.NoError(t, err)
			require.True(t, n >= 1024 && n <= 65535)
			require.Equal(t, n, int(target.Port()))
			require.False(t, badPorts.MatchString(port))
		}
		switch {
		case strings.HasPrefix(host, "["):
			a, err := netip.ParseAddr(host[1 : len(host)-1])
			require.NoError(t, err)
			require.True(t, a.Is6() && a.Zone() == "")
		case numericEnd.MatchString(host):
			require.Regexp(t, fourDecimals, host)
			require.True(t, netip.MustParseAddr(host).Is4())
			require.Contains(t, raw, host)
		default:
			require.Regexp(t, acceptedName, host)
			require.NotRegexp(t, localName, host)
			require.LessOrEqual(t, len(host), 253)
		}

		if len([]rune(sent)) <= 2048 { // the slash that an empty path gets may make it one too long
			again, err := g.ParseURL(sent)
			require.NoError(t, err)
			require.Equal(t, target, again)
		}
	})
}
