package egress_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/egress"
)

const hookHost = "hooks.example.com"

// authority is a certificate authority of one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{cert, key, pool}
}

// leaf issues a server certificate for hookHost and 127.0.0.1; edit may change it.
func (a *authority) leaf(t testing.TB, edit func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: hookHost},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{hookHost, "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if edit != nil {
		edit(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// receiver is a callback receiver on 127.0.0.1 that exchanges raw bytes over TLS, so that a test reads and writes exactly
// what is on the wire.
type receiver struct {
	ca *authority
	ln net.Listener
	ns *nameServer

	mu       sync.Mutex
	accepted int
	requests []string
}

// newReceiver serves every connection with serve, in a goroutine that the test waits for. serve may be nil: answer 204.
func newReceiver(t testing.TB, edit func(testing.TB, *authority, *tls.Config), serve func(*receiver, *tls.Conn)) *receiver {
	t.Helper()
	ca := newAuthority(t)
	config := &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, nil)}}
	if edit != nil {
		edit(t, ca, config)
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	r := &receiver{ca: ca, ln: ln, ns: newNameServer(t, map[string]string{hookHost + ".": "127.0.0.1"})}
	if serve == nil {
		serve = answer("HTTP/1.1 204 No Content\r\n\r\n")
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.accepted++
			r.mu.Unlock()
			wg.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
				serve(r, tls.Server(conn, config))
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return r
}

// answer reads one request and answers with raw bytes.
func answer(raw string) func(*receiver, *tls.Conn) {
	return func(r *receiver, conn *tls.Conn) {
		if r.read(conn) != "" {
			_, _ = io.WriteString(conn, raw)
			_ = conn.CloseWrite()
			_, _ = io.Copy(io.Discard, conn)
		}
	}
}

// read reads one request, head and body, and returns its bytes; "" when the peer left before the end.
func (r *receiver) read(conn net.Conn) string {
	var seen strings.Builder
	in := bufio.NewReader(io.TeeReader(conn, &seen))
	length := 0
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return ""
		}
		if v, found := strings.CutPrefix(strings.ToLower(line), "content-length: "); found {
			length, _ = strconv.Atoi(strings.TrimSpace(v))
		}
		if line == "\r\n" {
			break
		}
	}
	if _, err := io.CopyN(io.Discard, in, int64(length)); err != nil {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, seen.String())
	return seen.String()
}

func (r *receiver) count() (accepted, requests int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.accepted, len(r.requests)
}

func (r *receiver) port() string {
	_, port, _ := net.SplitHostPort(r.ln.Addr().String())
	return port
}

func (r *receiver) url(rest string) string { return "https://" + hookHost + ":" + r.port() + rest }

// guard reaches r under its public-looking name.
func (r *receiver) guard(t testing.TB) *egress.Guard {
	return newGuard(t, egress.Policy{Allow: allow(t, "127.0.0.0/8"), RootCAs: r.ca.pool, Resolver: r.ns.resolver()})
}

// post connects to rest at r and posts body.
func (r *receiver) post(t testing.TB, ctx context.Context, rest string, header http.Header, body string) (*egress.Response, error) {
	t.Helper()
	g := r.guard(t)
	conn, err := g.Connect(ctx, parse(t, g, r.url(rest)))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.Post(ctx, header, []byte(body))
}
