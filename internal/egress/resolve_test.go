package egress_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/egress"
)

func parse(t testing.TB, g *egress.Guard, raw string) *egress.Target {
	t.Helper()
	target, err := g.ParseURL(raw)
	require.NoError(t, err)
	return target
}

// noDial is a Policy.Dial for tests in which nothing may be dialled.
func noDial(t testing.TB) func(context.Context, string, string) (net.Conn, error) {
	return func(_ context.Context, _, address string) (net.Conn, error) {
		t.Errorf("dialled %s", address)
		return nil, errors.New("not here")
	}
}

func TestResolve_anyBlockedAddress_blocksName(t *testing.T) {
	t.Parallel()
	const public4, public6 = "93.184.216.34", "2606:4700:4700::1111"
	for _, c := range []struct{ answer, rule string }{
		{public4, ""},
		{public6, ""},
		{public4 + " " + public6, ""},
		{public4 + " 8.8.8.8 9.9.9.9 1.1.1.1 1.0.0.1", ""},
		{"127.0.0.1", "special"},
		{public4 + " 127.0.0.1", "special"},
		{"10.0.0.1 " + public4, "special"},
		{public4 + " 8.8.8.8 9.9.9.9 1.1.1.1 1.0.0.1 192.168.0.1", "special"},
		{public4 + " ::1", "special"},
		{public6 + " 127.0.0.1", "special"},
		{public4 + " fd00:ec2::254", "metadata"},
		{public4 + " 169.254.169.254", "metadata"},
		{public4 + " ::ffff:8.8.8.8", "embedded"},
		{"::ffff:127.0.0.1", "embedded"},
		{public6 + " 64:ff9b::808:808", "embedded"},
		{public6 + " 3000::1", "unallocated"},
		{"0.0.0.0", "special"},
		{"::", "special"},
	} {
		ns := newNameServer(t, map[string]string{"hooks.example.com.": c.answer})
		g := newGuard(t, egress.Policy{Resolver: ns.resolver(), Dial: noDial(t)})
		target := parse(t, g, "https://hooks.example.com/")

		addrs, err := g.Resolve(t.Context(), target)
		require.Equal(t, c.rule, rule(t, err), c.answer)
		require.ElementsMatch(t, []string{"A hooks.example.com.", "AAAA hooks.example.com."}, ns.asked(), c.answer)
		if c.rule != "" {
			require.Nil(t, addrs)
			require.NotContains(t, err.Error(), "169.254", "an error must not contain the result of a lookup")
			_, err = g.Connect(t.Context(), target)
			require.Equal(t, c.rule, rule(t, err), c.answer)
			require.Len(t, ns.asked(), 4)
		} else {
			want := strings.Fields(c.answer)
			got := make([]string, 0, len(addrs))
			for _, a := range addrs {
				got = append(got, a.String())
			}
			require.ElementsMatch(t, want, got)
		}
		require.Equal(t, c.rule, rule(t, g.CheckTarget(t.Context(), target)), c.answer)
	}
}

func TestResolveLiteralsWithoutLookup(t *testing.T) {
	t.Parallel()
	ns := newNameServer(t, nil)
	g := newGuard(t, egress.Policy{Resolver: ns.resolver()})
	addrs, err := g.Resolve(t.Context(), parse(t, g, "https://8.8.8.8/"))
	require.NoError(t, err)
	require.Equal(t, []netip.Addr{netip.MustParseAddr("8.8.8.8")}, addrs)
	_, err = g.Resolve(t.Context(), parse(t, g, "https://[::1]/"))
	require.Equal(t, "special", rule(t, err))
	require.Empty(t, ns.asked())
}

// The hosts file's IPv4 lines reach us in 16 bytes, which must not make them IPv4-mapped addresses.
func TestResolveHostsFile(t *testing.T) {
	t.Parallel()
	ns := newNameServer(t, nil)
	g := newGuard(t, egress.Policy{Resolver: ns.resolver(), Allow: allow(t, "127.0.0.0/8,::1/128")})
	addrs, err := g.Resolve(t.Context(), parse(t, g, "https://localhost/"))
	require.NoError(t, err)
	require.NotEmpty(t, addrs)
	for _, a := range addrs {
		require.True(t, a.IsLoopback() && !a.Is4In6(), "%v", a)
	}
	require.Empty(t, ns.asked())
}

func TestResolveSingleLabel(t *testing.T) {
	t.Parallel()
	ns := newNameServer(t, map[string]string{"n8n.": "10.1.2.3", "n8n.internal.": "10.1.2.4"})
	g := newGuard(t, egress.Policy{Resolver: ns.resolver(), Allow: allow(t, "10.0.0.0/8")})
	for url, want := range map[string]string{"https://n8n:5678/": "10.1.2.3", "https://n8n.internal/": "10.1.2.4"} {
		addrs, err := g.Resolve(t.Context(), parse(t, g, url))
		require.NoError(t, err)
		require.Equal(t, []netip.Addr{netip.MustParseAddr(want)}, addrs)
	}
}

func TestResolveFailures(t *testing.T) {
	t.Parallel()
	ns := newNameServer(t, map[string]string{"broken.example.com.": "-", "empty.example.com.": ""})
	g := newGuard(t, egress.Policy{Resolver: ns.resolver(), Dial: noDial(t)})
	for _, url := range []string{"https://absent.example.com/?token=geheim", "https://broken.example.com/", "https://empty.example.com/"} {
		target := parse(t, g, url)
		_, err := g.Resolve(t.Context(), target)
		require.Equal(t, egress.ClassDNS, egress.Class(err), "%v", err)
		require.NotContains(t, err.Error(), "geheim")
		require.NotContains(t, err.Error(), "127.0.0.1", "an error must not contain the name server")
		var dns *net.DNSError
		require.ErrorAs(t, err, &dns)
		require.Equal(t, target.Host()+".", dns.Name, "the absolute name is asked, whatever resolv.conf searches")
		require.NoError(t, g.CheckTarget(t.Context(), target), "trigger creation must accept it")
		_, err = g.Connect(t.Context(), target)
		require.Equal(t, egress.ClassDNS, egress.Class(err))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	target := parse(t, g, "https://absent.example.com/")
	_, err := g.Resolve(ctx, target)
	require.Equal(t, egress.ClassCanceled, egress.Class(err))
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, g.CheckTarget(ctx, target))
}

// Two lookups of one name at the same time are two lookups: each delivery sees its own answer.
func TestLookupsAreNotShared(t *testing.T) {
	t.Parallel()
	ns := newNameServer(t, map[string]string{"hooks.example.com.": "93.184.216.34"})
	g := newGuard(t, egress.Policy{Resolver: ns.resolver()})
	target := parse(t, g, "https://hooks.example.com/")
	const n = 8
	errs := make(chan error, n)
	for range n {
		go func() {
			_, err := g.Resolve(t.Context(), target)
			errs <- err
		}()
	}
	for range n {
		require.NoError(t, <-errs)
	}
	require.Len(t, ns.asked(), 2*n)
}

func TestRebindingBetweenAcceptAndConnect(t *testing.T) {
	t.Parallel()
	ns := newNameServer(t, map[string]string{"hooks.example.com.": "93.184.216.34"})
	g := newGuard(t, egress.Policy{Resolver: ns.resolver(), Dial: noDial(t)})
	target := parse(t, g, "https://hooks.example.com/")
	require.NoError(t, g.CheckTarget(t.Context(), target))
	ns.set("hooks.example.com.", "169.254.169.254")
	_, err := g.Connect(t.Context(), target)
	require.Equal(t, "metadata", rule(t, err))
}

// A name that changes its answer after the lookup changes nothing: what was checked is what is dialled.
func TestConnectDialsTheCheckedAddress(t *testing.T) {
	t.Parallel()
	ns := newNameServer(t, map[string]string{"hooks.example.com.": "93.184.216.34"})
	var dialled []string
	g := newGuard(t, egress.Policy{Resolver: ns.resolver(), Dial: func(_ context.Context, network, address string) (net.Conn, error) {
		dialled = append(dialled, network+" "+address)
		ns.set("hooks.example.com.", "127.0.0.1")
		return nil, errors.New("no connection")
	}})
	_, err := g.Connect(t.Context(), parse(t, g, "https://hooks.example.com:8443/"))
	require.Equal(t, egress.ClassConnect, egress.Class(err))
	require.Equal(t, []string{"tcp 93.184.216.34:8443"}, dialled)
	require.Len(t, ns.asked(), 2)
}

func TestConnectTriesTheAddressesInTurn(t *testing.T) {
	t.Parallel()
	ns := newNameServer(t, map[string]string{"hooks.example.com.": "93.184.216.34 8.8.8.8 9.9.9.9 2606:4700::1 2606:4700::2 2606:4700::3"})
	var dialled []string
	g := newGuard(t, egress.Policy{Resolver: ns.resolver(), Dial: func(_ context.Context, _, address string) (net.Conn, error) {
		dialled = append(dialled, address)
		return nil, errors.New("no connection")
	}})
	_, err := g.Connect(t.Context(), parse(t, g, "https://hooks.example.com/"))
	require.Equal(t, egress.ClassConnect, egress.Class(err))
	require.Len(t, dialled, 4, "two of each family")
	v6 := 0
	for _, d := range dialled {
		if strings.HasPrefix(d, "[") {
			v6++
		}
	}
	require.Equal(t, 2, v6)
}

// deafResolver asks a name server that never answers, without a socket, so that time can be a synctest bubble's.
func deafResolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		here, there := net.Pipe()
		go func() {
			buf := make([]byte, 512)
			for {
				if _, err := there.Read(buf); err != nil {
					there.Close()
					return
				}
			}
		}()
		return here, nil
	}}
}

func TestCheckTargetWaitsTwoSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, egress.Policy{Resolver: deafResolver()})
		start := time.Now()
		require.NoError(t, g.CheckTarget(t.Context(), parse(t, g, "https://hooks.example.com/")))
		require.Equal(t, 2*time.Second, time.Since(start))
	})
}

func TestConnectDeadlineCoversTheLookup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, egress.Policy{Resolver: deafResolver(), Dial: noDial(t)})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		_, err := g.Connect(ctx, parse(t, g, "https://hooks.example.com/"))
		require.Equal(t, egress.ClassTimeout, egress.Class(err))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(start))
	})
}

// Of 10 seconds, two addresses that swallow packets get 5 each: a dead IPv6 route does not cost the delivery.
func TestConnectSharesTheTimeAmongAddresses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		resolver := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			go answerPipe(there, &nameServer{answers: map[string]string{"hooks.example.com.": "93.184.216.34 8.8.8.8"}})
			return here, nil
		}}
		var took []time.Duration
		g := newGuard(t, egress.Policy{Resolver: resolver, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			start := time.Now()
			<-ctx.Done()
			took = append(took, time.Since(start))
			return nil, ctx.Err()
		}})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := g.Connect(ctx, parse(t, g, "https://hooks.example.com/"))
		require.Equal(t, egress.ClassTimeout, egress.Class(err))
		require.Equal(t, []time.Duration{5 * time.Second, 5 * time.Second}, took)
	})
}

// answerPipe serves s on a stream, with the length prefix of DNS over TCP.
func answerPipe(conn net.Conn, s *nameServer) {
	defer conn.Close()
	buf := make([]byte, 1500)
	for {
		n, err := conn.Read(buf)
		if err != nil || n < 2 {
			return
		}
		reply := s.reply(buf[2:n])
		if _, err := conn.Write(append([]byte{byte(len(reply) >> 8), byte(len(reply))}, reply...)); err != nil {
			return
		}
	}
}
