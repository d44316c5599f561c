package egress_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/egress"
)

func TestTLS(t *testing.T) {
	t.Parallel()
	leaf := func(edit func(*x509.Certificate)) func(testing.TB, *authority, *tls.Config) {
		return func(t testing.TB, ca *authority, config *tls.Config) {
			config.Certificates = []tls.Certificate{ca.leaf(t, edit)}
		}
	}
	for name, c := range map[string]struct {
		edit        func(testing.TB, *authority, *tls.Config)
		class, text string
	}{
		"good":    {nil, "", ""},
		"TLS 1.2": {func(_ testing.TB, _ *authority, config *tls.Config) { config.MaxVersion = tls.VersionTLS12 }, "", ""},
		"TLS 1.1": {func(_ testing.TB, _ *authority, config *tls.Config) {
			config.MinVersion, config.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		}, egress.ClassTLS, "protocol version"},
		"other name":    {leaf(func(c *x509.Certificate) { c.DNSNames = []string{"other.example.com"} }), egress.ClassTLS, "another name"},
		"no name":       {leaf(func(c *x509.Certificate) { c.DNSNames = nil }), egress.ClassTLS, "another name"},
		"expired":       {leaf(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), egress.ClassTLS, "expired"},
		"not yet valid": {leaf(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), egress.ClassTLS, "not yet valid"},
		"for clients":   {leaf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), egress.ClassTLS, "not valid for this use"},
		"unknown authority": {func(t testing.TB, _ *authority, config *tls.Config) {
			config.Certificates = []tls.Certificate{newAuthority(t).leaf(t, nil)}
		}, egress.ClassTLS, "unknown authority"},
		"h2 only, strict": {func(_ testing.TB, _ *authority, config *tls.Config) {
			config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				if strings.Join(hello.SupportedProtos, ",") != "http/1.1" {
					return nil, nil // would be accepted, and fail the test
				}
				return nil, errors.New("h2 or nothing")
			}
		}, egress.ClassTLS, "tls: "},
		"asks for a client certificate": {func(_ testing.TB, _ *authority, config *tls.Config) {
			config.ClientAuth = tls.RequireAnyClientCert
		}, egress.ClassTLS, "certificate required"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t, c.edit, nil)
			_, err := r.post(t, t.Context(), "/?token=geheim", nil, "{}")
			require.Equal(t, c.class, egress.Class(err), "%v", err)
			if c.class != "" {
				require.ErrorContains(t, err, c.text)
				require.NotContains(t, err.Error(), "geheim")
				_, requests := r.count()
				require.Zero(t, requests)
			}
		})
	}
}

func TestSystemRootsByDefault(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil, nil)
	g := newGuard(t, egress.Policy{Allow: allow(t, "127.0.0.0/8"), Resolver: r.ns.resolver()})
	_, err := g.Connect(t.Context(), parse(t, g, r.url("/")))
	require.Equal(t, egress.ClassTLS, egress.Class(err))
	require.ErrorContains(t, err, "unknown authority")
}

// A server that speaks HTTP/2 whatever was negotiated: Go's accepts a client without h2 and falls silent on ALPN.
func TestHTTP2Server(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, func(_ testing.TB, _ *authority, config *tls.Config) { config.NextProtos = []string{"h2"} }, func(r *receiver, conn *tls.Conn) {
		_, _ = io.WriteString(conn, "\x00\x00\x00\x04\x00\x00\x00\x00\x00") // SETTINGS
		r.read(conn)
	})
	_, err := r.post(t, t.Context(), "/", nil, "{}")
	require.Contains(t, []string{egress.ClassProtocol, egress.ClassBroken}, egress.Class(err), "%v", err)

	both := newReceiver(t, func(_ testing.TB, _ *authority, config *tls.Config) { config.NextProtos = []string{"h2", "http/1.1"} }, func(r *receiver, conn *tls.Conn) {
		_ = conn.Handshake()
		if conn.ConnectionState().NegotiatedProtocol == "http/1.1" {
			answer("HTTP/1.1 204 No Content\r\n\r\n")(r, conn)
		}
	})
	got, err := both.post(t, t.Context(), "/", nil, "{}")
	require.NoError(t, err)
	require.Equal(t, 204, got.Status)
}

func TestNotTLS(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil, func(_ *receiver, conn *tls.Conn) {
		_, _ = io.WriteString(conn.NetConn(), "HTTP/1.1 400 Bad Request\r\n\r\nThis port uses TLS, or not")
		_, _ = io.Copy(io.Discard, conn.NetConn())
	})
	_, err := r.post(t, t.Context(), "/", nil, "{}")
	require.Equal(t, egress.ClassTLS, egress.Class(err))
	require.ErrorContains(t, err, "does not speak TLS")
}

func TestConnectionRefused(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil, nil)
	r.ln.Close()
	_, err := r.post(t, t.Context(), "/", nil, "{}")
	require.Equal(t, egress.ClassConnect, egress.Class(err))
	require.ErrorContains(t, err, "connection refused")
	require.NotContains(t, err.Error(), "127.0.0.1")
}

// The first address is dead, the second answers.
func TestConnectFallsBackToTheNextAddress(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil, nil)
	r.ns.set(hookHost+".", "127.0.0.2 127.0.0.1")
	got, err := r.post(t, t.Context(), "/", nil, "{}")
	require.NoError(t, err)
	require.Equal(t, 204, got.Status)
	r.ns.set(hookHost+".", "127.0.0.1 127.0.0.2")
	_, err = r.post(t, t.Context(), "/", nil, "{}")
	require.NoError(t, err)
}

// The control hook checks the address to which the socket is about to connect, regardless of earlier checks.
func TestControlHook(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()

	g := newGuard(t, egress.Policy{})
	_, err = g.Dial(t.Context(), "tcp", ln.Addr().String())
	require.Equal(t, "special", rule(t, err))
	_, err = g.Dial(t.Context(), "tcp", "169.254.169.254:443")
	require.Equal(t, "metadata", rule(t, err))
	_, err = g.Dial(t.Context(), "udp", "8.8.8.8:443")
	require.Equal(t, "network", rule(t, err))
	require.Equal(t, "embedded", rule(t, g.Control("tcp6", "[::ffff:127.0.0.1]:443", nil)))
	require.Equal(t, "zone", rule(t, g.Control("tcp6", "[fe80::1%eth0]:443", nil)))
	require.Equal(t, "address", rule(t, g.Control("tcp4", "hooks.example.com:443", nil)))
	require.NoError(t, g.Control("tcp4", "8.8.8.8:443", nil))

	// If the hook blocks, Connect returns its Blocked and tries no further address.
	ns := newNameServer(t, map[string]string{hookHost + ".": "93.184.216.34 8.8.8.8"})
	dials := 0
	g = newGuard(t, egress.Policy{Resolver: ns.resolver(), Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		dials++
		return newGuard(t, egress.Policy{}).Dial(ctx, network, ln.Addr().String())
	}})
	_, err = g.Connect(t.Context(), parse(t, g, "https://"+hookHost+"/"))
	require.Equal(t, "special", rule(t, err))
	require.IsType(t, (*egress.Blocked)(nil), err, "the error must not be wrapped")
	require.Equal(t, 1, dials)
}

// TestNoProxyFromTheEnvironment runs itself in a process whose environment names a proxy, as net/http reads it only once.
func TestNoProxyFromTheEnvironment(t *testing.T) {
	if os.Getenv("EGRESS_TEST_CHILD") == "1" {
		r := newReceiver(t, nil, nil)
		got, err := r.post(t, t.Context(), "/", nil, "{}")
		require.NoError(t, err)
		require.Equal(t, 204, got.Status)
		// The control: the default client of the same process does go to the proxy.
		_, err = http.Post("https://control.example.com/", "application/json", nil)
		require.Error(t, err)
		return
	}
	t.Parallel()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	var mu sync.Mutex
	var lines []string
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
				line, _ := bufio.NewReader(conn).ReadString('\n')
				mu.Lock()
				lines = append(lines, strings.TrimSpace(line))
				mu.Unlock()
				_, _ = io.WriteString(conn, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
			})
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestNoProxyFromTheEnvironment$")
	proxy := "http://" + ln.Addr().String()
	child.Env = append(os.Environ(), "EGRESS_TEST_CHILD=1", "NO_PROXY=", "no_proxy=",
		"HTTPS_PROXY="+proxy, "https_proxy="+proxy, "HTTP_PROXY="+proxy, "http_proxy="+proxy, "ALL_PROXY="+proxy, "all_proxy="+proxy)
	out, err := child.CombinedOutput()
	ln.Close()
	wg.Wait()
	require.NoError(t, err, "%s", out)
	require.Equal(t, []string{"CONNECT control.example.com:443 HTTP/1.1"}, lines)
}
