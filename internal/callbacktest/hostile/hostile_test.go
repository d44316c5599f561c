package hostile_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// hostile is a receiver that behaves in some way, and what is to become of a callback to it.
type hostile struct {
	serve func(p *peer)           // on a connection; nil: answer 200
	tls   func(c *tls.Config)     // changes the certificate's server; nil: nothing
	leaf  func(*x509.Certificate) // changes the certificate; nil: nothing
	plain bool                    // serve gets the bare TCP connection
	large bool                    // the callback has a megabyte

	state     webtrigger.DeliveryState // "": delivered
	class     string                   // one of these, separated by spaces: it depends on when a reset is detected
	status    int                      // 0: no answer
	unclaimed bool                     // it ends before the POST is claimed
	posts     int                      // how many whole requests arrive; -1: perhaps one
}

// peer is one connection at a hostile receiver.
type peer struct {
	net.Conn
	in *bufio.Reader
	r  *hostileReceiver
}

func failedWith(class string, serve func(p *peer)) hostile {
	return hostile{serve: serve, state: webtrigger.DeliveryFailed, class: class, posts: 1}
}

// responds answers the request with raw bytes.
func responds(raw string) func(*peer) {
	return func(p *peer) {
		p.request()
		_, _ = io.WriteString(p, raw)
	}
}

func answers200(p *peer) { responds("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")(p) }

func rejecting(status int, header string) hostile {
	return hostile{serve: responds(fmt.Sprintf("HTTP/1.1 %d X\r\n%sContent-Length: 0\r\n\r\n", status, header)),
		state: webtrigger.DeliveryFailed, class: "status", status: status, posts: 1}
}

// drips sends a byte every half second until the connection is closed.
func drips(head string) func(*peer) {
	return func(p *peer) {
		p.request()
		_, _ = io.WriteString(p, head)
		for range 60 {
			<-time.After(500 * time.Millisecond)
			if _, err := io.WriteString(p, "x"); err != nil {
				return
			}
		}
	}
}

// floods sends chunks until the connection is closed.
func floods(head, chunk string) func(*peer) {
	return func(p *peer) {
		p.request()
		_, err := io.WriteString(p, head)
		for err == nil {
			_, err = io.WriteString(p, chunk)
		}
	}
}

// waits until the other side leaves.
func waits(p *peer) { _, _ = io.Copy(io.Discard, p.in) }

// resets ends the connection with a TCP reset.
func (p *peer) resets() {
	raw := p.Conn
	if secure, ok := raw.(*tls.Conn); ok {
		raw = secure.NetConn()
	}
	_ = raw.(*net.TCPConn).SetLinger(0)
	_ = raw.Close()
}

func bomb() string {
	var zipped bytes.Buffer
	zip, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	zeros := make([]byte, 1<<20)
	for range 50 {
		_, _ = zip.Write(zeros)
	}
	_ = zip.Close()
	return zipped.String()
}

// hostiles are the behaviours.
func hostiles() map[string]hostile {
	pad := strings.Repeat("p", 4000)
	leaf := func(edit func(*x509.Certificate)) hostile {
		return hostile{leaf: edit, state: webtrigger.DeliveryFailed, class: "tls", unclaimed: true}
	}
	config := func(edit func(*tls.Config)) hostile {
		return hostile{tls: edit, state: webtrigger.DeliveryFailed, class: "tls", unclaimed: true}
	}
	all := map[string]hostile{
		"answers":                        {posts: 1, status: 200},
		"answers 204":                    {serve: responds("HTTP/1.1 204 No Content\r\n\r\n"), posts: 1, status: 204},
		"answers 299":                    {serve: responds("HTTP/1.1 299 Odd\r\nContent-Length: 0\r\n\r\n"), posts: 1, status: 299},
		"answers by HTTP/1.0":            {serve: responds("HTTP/1.0 200 OK\r\n\r\nok"), posts: 1, status: 200},
		"answers with early hints first": {serve: responds("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), posts: 1, status: 200},
		"answers twice":                  {serve: responds("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"), posts: 1, status: 200},
		"answers binary data":            {serve: responds("HTTP/1.1 200 OK\r\n\r\na\x00b\xff\xfe\x1b[31m" + strings.Repeat("\xe2\x82", 4000)), posts: 1, status: 200},
		"breaks off its body":            {serve: responds("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), posts: 1, status: 200},
		"sends bad chunks":               {serve: responds("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n"), posts: 1, status: 200},
		"sends a chunk of 2^64":          {serve: responds("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nok"), posts: 1, status: 200},
		"sends an endless body":          {serve: floods("HTTP/1.1 200 OK\r\n\r\n", pad), posts: 1, status: 200},
		"sends endless chunks":           {serve: floods("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "fa0\r\n"+pad+"\r\n"), posts: 1, status: 200},
		"sends a slow body":              {serve: drips("HTTP/1.1 200 OK\r\n\r\n"), posts: 1, status: 200},
		"sends a gzip bomb":              {serve: responds("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n" + bomb()), posts: 1, status: 200},
		"sets cookies":                   {serve: responds("HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"), posts: 1, status: 200},

		"asks for Basic":      rejecting(401, "WWW-Authenticate: Basic realm=\"x\"\r\n"),
		"asks for Negotiate":  rejecting(401, "WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\n"),
		"plays a proxy":       rejecting(407, "Proxy-Authenticate: Basic\r\n"),
		"asks for an upgrade": rejecting(426, "Upgrade: h2c\r\nConnection: Upgrade\r\n"),
		"is too busy":         rejecting(503, "Retry-After: 1\r\n"),
		"unknown status":      rejecting(999, ""),
		"switches protocols": {serve: responds("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"),
			state: webtrigger.DeliveryFailed, class: "status", status: 101, posts: 1},
		"answers before it has read": {large: true, serve: func(p *peer) {
			_, _ = io.ReadFull(p.in, make([]byte, 100))
			_, _ = io.WriteString(p, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
			waits(p)
		}, state: webtrigger.DeliveryFailed, class: "status", status: 413, posts: 0},

		"sends an endless header":     failedWith("protocol", floods("HTTP/1.1 200 OK\r\nX: ", pad)),
		"sends endless headers":       failedWith("protocol", floods("HTTP/1.1 200 OK\r\n", "X: "+pad+"\r\n")),
		"floods with 1xx":             failedWith("protocol", floods("", "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n")),
		"floods with 100":             failedWith("protocol", floods("", "HTTP/1.1 100 Continue\r\n\r\n")),
		"sends an endless status":     failedWith("protocol", floods("HTTP/1.1 200 ", pad)),
		"speaks SSH":                  failedWith("protocol", responds("SSH-2.0-OpenSSH_9.2\r\n")),
		"speaks HTTP/0.9":             failedWith("protocol", responds("<html>hello</html>\r\n\r\n")),
		"sends HTTP/3":                failedWith("protocol", responds("HTTP/three 200 OK\r\n\r\n")),
		"has two lengths":             failedWith("protocol", responds("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")),
		"has a negative length":       failedWith("protocol", responds("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n")),
		"has an unknown coding":       failedWith("protocol", responds("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, x\r\n\r\n")),
		"folds a header":              failedWith("protocol", responds("HTTP/1.1 200 OK\r\n folded: x\r\n\r\n")),
		"breaks off its head":         failedWith("broken protocol", responds("HTTP/1.1 200 OK\r\nX: y")),
		"closes after reading":        failedWith("broken", func(p *peer) { p.request() }),
		"resets after reading":        failedWith("broken", func(p *peer) { p.request(); p.resets() }),
		"sends nothing":               failedWith("timeout", func(p *peer) { p.request(); waits(p) }),
		"sends a slow head":           failedWith("timeout", drips("HTTP/1.1 200 OK\r\nX: ")),
		"sends a slow status":         failedWith("timeout", drips("")),
		"speaks HTTP/2 all the same":  failedWith("broken protocol", responds("\x00\x00\x00\x04\x00\x00\x00\x00\x00")),
		"sends 1xx without an end":    failedWith("timeout", func(p *peer) { p.request(); slowly(p, "HTTP/1.1 102 Processing\r\n\r\n") }),
		"resets before it reads":      {serve: func(p *peer) { _ = handshake(p); p.resets() }, state: webtrigger.DeliveryFailed, class: "broken tls", posts: 0},
		"closes before it reads":      {serve: func(p *peer) { _ = handshake(p) }, state: webtrigger.DeliveryFailed, class: "broken", posts: 0},
		"resets while it reads":       {large: true, serve: func(p *peer) { _, _ = io.ReadFull(p.in, make([]byte, 1000)); p.resets() }, state: webtrigger.DeliveryFailed, class: "broken", posts: 0},
		"never reads":                 {large: true, serve: func(p *peer) { _ = handshake(p); <-time.After(12 * time.Second) }, state: webtrigger.DeliveryFailed, class: "timeout", posts: 0},
		"sends no TLS hello":          {plain: true, serve: waits, state: webtrigger.DeliveryFailed, class: "timeout", unclaimed: true},
		"sends its TLS hello slowly":  {plain: true, serve: func(p *peer) { slowly(p, "\x16") }, state: webtrigger.DeliveryFailed, class: "timeout tls", unclaimed: true},
		"resets at once":              {plain: true, serve: func(p *peer) { p.resets() }, state: webtrigger.DeliveryFailed, class: "tls connect", unclaimed: true},
		"closes at once":              {plain: true, serve: func(*peer) {}, state: webtrigger.DeliveryFailed, class: "tls", unclaimed: true},
		"speaks HTTP without TLS":     {plain: true, serve: func(p *peer) { _, _ = io.WriteString(p, "HTTP/1.1 400 Bad Request\r\n\r\n") }, state: webtrigger.DeliveryFailed, class: "tls", unclaimed: true},
		"floods before the handshake": {plain: true, serve: func(p *peer) { floodPlain(p) }, state: webtrigger.DeliveryFailed, class: "tls", unclaimed: true},
		"has TLS 1.0":                 config(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS10 }),
		"has TLS 1.1":                 config(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS11, tls.VersionTLS11 }),
		"has HTTP/2 only":             config(func(c *tls.Config) { c.GetConfigForClient = onlyH2 }),
		"has an expired certificate":  leaf(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }),
		"has tomorrow's certificate":  leaf(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }),
		"has another's certificate":   leaf(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 2)} }),
		"has a client's certificate":  leaf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }),
		"has a self-signed certificate": config(func(c *tls.Config) {
			c.Certificates = []tls.Certificate{issue(nil, tls.Certificate{}, nil)}
		}),
		"asks for a certificate": {tls: func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert },
			state: webtrigger.DeliveryFailed, class: "tls broken", posts: 0},
		"has TLS 1.2": {tls: func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, posts: 1, status: 200},
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		all["redirects with "+strconv.Itoa(status)] = rejecting(status, "Location: https://127.0.0.1:1/elsewhere\r\n")
	}
	return all
}

func slowly(p *peer, text string) {
	for range 60 {
		<-time.After(500 * time.Millisecond)
		if _, err := io.WriteString(p, text); err != nil {
			return
		}
	}
}

func floodPlain(p *peer) {
	junk := strings.Repeat("\x16\x03\x03\x3f\xff", 1000)
	for range 1 << 16 {
		if _, err := io.WriteString(p, junk); err != nil {
			return
		}
	}
}

func onlyH2(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	for _, proto := range hello.SupportedProtos {
		if proto == "h2" {
			return nil, nil // would be let in, and fail the test
		}
	}
	return nil, errors.New("h2 or nothing")
}

func handshake(p *peer) error { return p.Conn.(*tls.Conn).Handshake() }

// request reads a whole request and counts it.
func (p *peer) request() {
	length := 0
	for {
		line, err := p.in.ReadString('\n')
		if err != nil {
			return
		}
		if v, found := strings.CutPrefix(strings.ToLower(line), "content-length: "); found {
			length, _ = strconv.Atoi(strings.TrimSpace(v))
		}
		if line == "\r\n" {
			break
		}
	}
	if n, _ := io.CopyN(io.Discard, p.in, int64(length)); n == int64(length) {
		p.r.mu.Lock()
		p.r.posts++
		p.r.mu.Unlock()
	}
}

// hostileReceiver is the port of one behaviour.
type hostileReceiver struct {
	ln net.Listener

	mu                 sync.Mutex
	connections, posts int
}

func (h hostile) listen(t *testing.T, ca *tls.Certificate) *hostileReceiver {
	config := &tls.Config{Certificates: []tls.Certificate{issue(h.leaf, *ca, nil)}}
	if h.tls != nil {
		h.tls(config)
	}
	serve := h.serve
	if serve == nil {
		serve = answers200
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	r := &hostileReceiver{ln: ln}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.connections++
			r.mu.Unlock()
			wg.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
				if !h.plain {
					conn = tls.Server(conn, config)
					defer conn.Close()
				}
				serve(&peer{conn, bufio.NewReader(conn), r})
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return r
}

// issue makes a certificate for 127.0.0.1, by ca or by itself.
func issue(edit func(*x509.Certificate), ca tls.Certificate, authority *x509.CertPool) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(2 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if authority != nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	}
	if edit != nil {
		edit(template)
	}
	parent, signer := template, any(key)
	if ca.Leaf != nil {
		parent, signer = ca.Leaf, ca.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	if authority != nil {
		authority.AddCert(leaf)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestHostileReceivers calls them all back at once. Each callback ends within its 10 seconds by one connection and at most
// one POST, with an outcome that describes the fault and has no secret. Memory does not grow with what receivers
// send.
func TestHostileReceivers(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	roots := x509.NewCertPool()
	ca := issue(nil, tls.Certificate{}, roots)
	large := webtrigger.RunnerFunc(func(_ context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		if task.Input.Message == "large" {
			return &webtrigger.Result{Text: strings.Repeat("l", webtrigger.MaxResultBytes)}, nil
		}
		return &webtrigger.Result{Text: "ok"}, nil
	})
	svc, err := webtrigger.New(memstore.New(nil), large, &webtrigger.Options{BaseURL: "https://app.example.com", Workers: 100, Callback: webtrigger.CallbackOptions{
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, RootCAs: roots, Workers: 100, PerHost: 1,
	}})
	require.NoError(t, err)
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true, AllowCallbackURLs: true}))
	all := hostiles()
	require.Greater(t, len(all), 60)
	receivers := make(map[string]*hostileReceiver)
	for name, h := range all {
		receivers[name] = h.listen(t, &ca)
	}
	highest := watchHeap(t)
	work(t, svc)
	runs := make(map[string]webtrigger.Run)
	for name, h := range all {
		message := "small"
		if h.large {
			message = "large"
		}
		runs[name], err = svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{
			Message: message, CallbackURL: "https://" + receivers[name].ln.Addr().String() + "/hook?token=geheim"})
		require.NoError(t, err)
	}
	// This load may slow the machine down. The receivers that respond at once measure it: their time is the machine's
	// delay.
	var delay time.Duration
	deliveries := make(map[string]webtrigger.Delivery)
	for name, h := range all {
		d := delivered(t, svc, runs[name].ID)
		deliveries[name] = d
		if h.status != 0 && d.Response == "" {
			delay = max(delay, d.CompletedAt.Sub(d.CreatedAt))
		}
	}
	top := highest()
	t.Logf("%d behaviours, %d MiB of heap at most, %v for who answers at once", len(all), top>>20, delay)
	for name, h := range all {
		checkHostile(t, name, h, deliveries[name], receivers[name])
		took := deliveries[name].CompletedAt.Sub(deliveries[name].CreatedAt)
		require.Less(t, took, 12*time.Second+delay, "%s: 10 seconds and a busy machine", name)
	}
	require.Less(t, top, uint64(96<<20), "bytes of heap")
}

// work runs Work until the test ends.
func work(t *testing.T, svc *webtrigger.Service) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Work(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

// delivered waits until the run's delivery has an outcome.
func delivered(t *testing.T, svc *webtrigger.Service, runID int64) (d webtrigger.Delivery) {
	t.Helper()
	require.Eventually(t, func() bool {
		all, err := svc.Deliveries(t.Context(), runID)
		if err != nil || len(all) == 0 {
			return false
		}
		d = all[0]
		return d.State != webtrigger.DeliveryPending && d.State != webtrigger.DeliverySending
	}, 2*time.Minute, 2*time.Millisecond)
	return d
}

func checkHostile(t *testing.T, name string, h hostile, d webtrigger.Delivery, r *hostileReceiver) {
	t.Logf("%-32s %-9s %-8s %3d %5.1fs %s", name, d.State, d.FailureClass, d.HTTPStatus, d.CompletedAt.Sub(d.CreatedAt).Seconds(), d.Error)
	state := webtrigger.DeliveryDelivered
	if h.state != "" {
		state = h.state
	}
	require.Equal(t, state, d.State, "%s: %s: %s", name, d.FailureClass, d.Error)
	require.Equal(t, h.status, d.HTTPStatus, name)
	if state == webtrigger.DeliveryDelivered {
		require.Empty(t, string(d.FailureClass)+d.Error, name)
	} else {
		require.Contains(t, strings.Fields(h.class), string(d.FailureClass), "%s: %s", name, d.Error)
		require.Greater(t, len(d.Error), 10, name)
	}
	require.Equal(t, h.unclaimed, d.AttemptedAt.IsZero(), name)
	require.LessOrEqual(t, len(d.Response), 4<<10, name)
	require.True(t, utf8.ValidString(d.Response) && !strings.Contains(d.Response, "\x00"), name)
	require.NotContains(t, d.Error, "geheim", name)
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Equal(t, 1, r.connections, name)
	if h.posts >= 0 {
		require.Equal(t, h.posts, r.posts, "POSTs: %s", name)
	}
}

// watchHeap samples the heap until it is asked for the highest value.
func watchHeap(t *testing.T) (highest func() uint64) {
	done, result := make(chan struct{}), make(chan uint64, 1)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		var top uint64
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			top = max(top, m.HeapAlloc)
			select {
			case <-done:
				result <- top
				return
			case <-tick.C:
			}
		}
	}()
	ask := sync.OnceValue(func() uint64 { close(done); return <-result })
	t.Cleanup(func() { ask() })
	return ask
}
