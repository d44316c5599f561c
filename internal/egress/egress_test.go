package egress_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger/internal/egress"
)

func TestMain(m *testing.M) {
	// Package net reads resolv.conf on the first lookup and keeps a channel with it; that must not be in a synctest bubble.
	warm := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no name server")
	}}
	_, _ = warm.LookupNetIP(context.Background(), "ip", "warm.example.com.")
	goleak.VerifyTestMain(m)
}

func newGuard(t testing.TB, p egress.Policy) *egress.Guard {
	t.Helper()
	g, err := egress.New(p)
	require.NoError(t, err)
	return g
}

func allow(t testing.TB, ranges string) []netip.Prefix {
	t.Helper()
	var out []netip.Prefix
	for s := range strings.SplitSeq(ranges, ",") {
		if s != "" && s != "none" {
			p, err := netip.ParsePrefix(s)
			require.NoError(t, err)
			out = append(out, p)
		}
	}
	return out
}

// rule returns the rule of a Blocked, "" for nil. Any other error fails the test.
func rule(t testing.TB, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var r *egress.Blocked
	require.ErrorAs(t, err, &r)
	require.NotEmpty(t, r.Rule)
	require.NotEmpty(t, r.Detail)
	require.Equal(t, egress.ClassBlocked, egress.Class(err))
	return r.Rule
}

// corpusLine is one line of testdata: a subject, and the rule that blocks it ("" when it is accepted).
type corpusLine struct {
	subject, policy, rule string
	number                int
}

func corpus(t testing.TB, path string) []corpusLine {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	var lines []corpusLine
	policy := ""
	scanner := bufio.NewScanner(f)
	for n := 1; scanner.Scan(); n++ {
		text := strings.TrimSpace(scanner.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		if p, found := strings.CutPrefix(text, "policy "); found {
			policy = p
			continue
		}
		cut := strings.LastIndexByte(text, ' ')
		rule, rest := text[cut+1:], strings.TrimSpace(text[:cut])
		cut = strings.LastIndexByte(rest, ' ')
		verdict, subject := rest[cut+1:], strings.TrimSpace(rest[:cut])
		if strings.HasPrefix(subject, `"`) {
			subject, err = strconv.Unquote(subject)
			require.NoError(t, err, "%s:%d", path, n)
		}
		switch {
		case verdict == "accept" && rule == "-":
			rule = ""
		case verdict != "block" || rule == "-":
			require.Fail(t, "bad line", "%s:%d: %s", path, n, text)
		}
		lines = append(lines, corpusLine{subject, policy, rule, n})
	}
	require.NoError(t, scanner.Err())
	return lines
}

func TestNew_rangeThatCannotMatch_returnsError(t *testing.T) {
	t.Parallel()
	for _, bad := range []netip.Prefix{
		{},
		netip.PrefixFrom(netip.Addr{}, 8),
		netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), 33),
		netip.PrefixFrom(netip.MustParseAddr("fd00::"), 129),
		netip.MustParsePrefix("::ffff:10.0.0.0/104"),
		netip.MustParsePrefix("::ffff:0:0/96"),
		netip.MustParsePrefix("64:ff9b::/96"),
		netip.MustParsePrefix("64:ff9b:1:2::/64"),
		netip.MustParsePrefix("2002:a00::/24"),
		netip.MustParsePrefix("2001::/32"),
		netip.MustParsePrefix("::/96"),
		netip.MustParsePrefix("fd00::5efe:a00:1/128"),
	} {
		_, err := egress.New(egress.Policy{Allow: []netip.Prefix{bad}})
		require.ErrorContains(t, err, "egress: allow: ", "%v", bad)
	}
	for _, good := range []string{"0.0.0.0/0", "::/0", "::1/128", "::/128", "10.0.0.7/8", "fd00::/8", "2001::/16", "127.0.0.1/32"} {
		_, err := egress.New(egress.Policy{Allow: allow(t, good)})
		require.NoError(t, err, good)
	}
}

func TestNewCopiesThePolicy(t *testing.T) {
	t.Parallel()
	ranges := allow(t, "10.0.0.7/8")
	g := newGuard(t, egress.Policy{Allow: ranges})
	ranges[0] = netip.MustParsePrefix("192.168.0.0/16")
	require.NoError(t, g.CheckAddr(netip.MustParseAddr("10.255.0.1")))
	require.Equal(t, "special", rule(t, g.CheckAddr(netip.MustParseAddr("192.168.0.1"))))
}

func TestResolverDefaultsToGo(t *testing.T) {
	t.Parallel()
	require.True(t, newGuard(t, egress.Policy{}).PrefersGo())
	require.False(t, newGuard(t, egress.Policy{Resolver: new(net.Resolver)}).PrefersGo())
}

func TestBlocked_text_omitsQuery(t *testing.T) {
	t.Parallel()
	_, err := newGuard(t, egress.Policy{}).ParseURL("https://b\u00fccher.example.com/?token=geheim")
	require.ErrorContains(t, err, "punycode")
	require.NotContains(t, err.Error(), "geheim")
	require.Equal(t, "unicode", rule(t, err))
}

func TestClass(t *testing.T) {
	t.Parallel()
	require.Empty(t, egress.Class(nil))
	require.Equal(t, egress.ClassInternal, egress.Class(errors.New("another error")))
	require.Equal(t, egress.ClassBlocked, egress.Class(fmt.Errorf("deliver: %w", &egress.Blocked{Rule: "port"})))
}
