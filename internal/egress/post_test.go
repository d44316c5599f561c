package egress_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/egress"
)

func TestRequestOnTheWire(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil, nil)
	header := http.Header{
		"User-Agent":        {"webtrigger/1.0"},
		"Traceparent":       {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		"Webhook-Id":        {"f7d2"},
		"Idempotency-Key":   {"x"},
		"x-idempotency-key": {"x"},
		"Cookie":            {"a=b"},
		"Transfer-Encoding": {"chunked"},
		"Content-Length":    {"7"},
		"Host":              {"evil.example.com"},
		"Connection":        {"keep-alive"},
		"Expect":            {"100-continue"},
	}
	got, err := r.post(t, t.Context(), "/a%2fb/../c?x=%zz&y=|", header, `{"run_key":"f7d2"}`)
	require.NoError(t, err)
	require.Equal(t, 204, got.Status)
	require.Equal(t, []string{"POST /a%2fb/../c?x=%zz&y=| HTTP/1.1\r\n" +
		"Host: hooks.example.com:" + r.port() + "\r\n" +
		"User-Agent: webtrigger/1.0\r\n" +
		"Connection: close\r\n" +
		"Content-Length: 18\r\n" +
		"Content-Type: application/json\r\n" +
		"Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n" +
		"Webhook-Id: f7d2\r\n" +
		"\r\n" + `{"run_key":"f7d2"}`}, r.requests)
	require.Contains(t, header, "Idempotency-Key", "the caller's header must not change")

	_, err = r.post(t, t.Context(), "", http.Header{"Content-Type": {"text/plain"}}, "")
	require.NoError(t, err)
	require.Equal(t, "POST / HTTP/1.1\r\n"+
		"Host: hooks.example.com:"+r.port()+"\r\n"+
		"User-Agent: webtrigger\r\n"+
		"Connection: close\r\n"+
		"Content-Length: 0\r\n"+
		"Content-Type: text/plain\r\n\r\n", r.requests[1])
	accepted, _ := r.count()
	require.Equal(t, 2, accepted, "a fresh connection for every delivery")
}

func TestRequestTargetByteForByte(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil, nil)
	for i, target := range []string{
		"/", "/?", "/?a=%zz&b=|", "/a|b", "/%zz", "/a//b", "//a%2Fb?x=|", "//a", "///?", "/a%20b+c", "/.//../", "/*", "*",
		"/?q=\u00fc\"<>^`{|}[]'", "/\u00e4?", "/a?b?c=/d//e", "/:80", "/;a=b?=&&=", "/%2e%2e/%2F?%2541",
	} {
		if target == "*" {
			continue // not a path: it would be part of the port
		}
		_, err := r.post(t, t.Context(), target+"#fragment", nil, "{}")
		require.NoError(t, err, target)
		require.True(t, strings.HasPrefix(r.requests[len(r.requests)-1], "POST "+target+" HTTP/1.1\r\n"), "%d: %q", i, r.requests[len(r.requests)-1])
	}
	_, err := r.post(t, t.Context(), "?only=query", nil, "{}")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(r.requests[len(r.requests)-1], "POST /?only=query HTTP/1.1\r\n"))
}

func TestLiteralAddress(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil, nil)
	g := r.guard(t)
	conn, err := g.Connect(t.Context(), parse(t, g, "https://127.0.0.1:"+r.port()+"/x"))
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Post(t.Context(), nil, []byte("{}"))
	require.NoError(t, err)
	require.Contains(t, r.requests[0], "\r\nHost: 127.0.0.1:"+r.port()+"\r\n")
	require.Empty(t, r.ns.asked())
}

func TestConnectWritesNothing(t *testing.T) {
	t.Parallel()
	shaken, first := make(chan error, 1), make(chan error, 1)
	r := newReceiver(t, nil, func(r *receiver, conn *tls.Conn) {
		shaken <- conn.Handshake()
		_, err := conn.Read(make([]byte, 1))
		first <- err
	})
	g := r.guard(t)
	conn, err := g.Connect(t.Context(), parse(t, g, r.url("/")))
	require.NoError(t, err)
	require.NoError(t, <-shaken, "the handshake is over before the request")
	require.NoError(t, conn.Close())
	require.NoError(t, conn.Close())
	require.ErrorIs(t, <-first, io.EOF, "no data may arrive before the end")
	_, err = conn.Post(t.Context(), nil, nil)
	require.Equal(t, egress.ClassInternal, egress.Class(err), "nothing was sent")
}

func TestPostOnce(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil, nil)
	g := r.guard(t)
	conn, err := g.Connect(t.Context(), parse(t, g, r.url("/")))
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Post(t.Context(), nil, []byte("{}"))
	require.NoError(t, err)
	_, err = conn.Post(t.Context(), nil, []byte("{}"))
	require.Equal(t, egress.ClassInternal, egress.Class(err))
	_, requests := r.count()
	require.Equal(t, 1, requests)
}

func TestPostAfterTheDeadlineWritesNothing(t *testing.T) {
	t.Parallel()
	first := make(chan error, 1)
	r := newReceiver(t, nil, func(_ *receiver, conn *tls.Conn) {
		_, err := conn.Read(make([]byte, 1))
		first <- err
	})
	g := r.guard(t)
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	for range 20 {
		conn, err := g.Connect(t.Context(), parse(t, g, r.url("/")))
		require.NoError(t, err)
		_, err = conn.Post(ctx, nil, []byte("{}"))
		require.Equal(t, egress.ClassTimeout, egress.Class(err))
		require.ErrorIs(t, <-first, io.EOF)
	}
}

func TestUnwritableHeader(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil, nil)
	_, err := r.post(t, t.Context(), "/", http.Header{"X-Bad": {"secret\r\nX-Evil: 1"}}, "{}")
	require.Equal(t, egress.ClassInternal, egress.Class(err))
	require.NotContains(t, err.Error(), "secret")
	_, requests := r.count()
	require.Zero(t, requests)
}

// Whenever the receiver hangs up, the POST is on the wire once at most, on one connection.
func TestNeverResent(t *testing.T) {
	t.Parallel()
	for name, serve := range map[string]func(*receiver, *tls.Conn){
		"before reading": func(_ *receiver, conn *tls.Conn) { _ = conn.Handshake() },
		"with a reset": func(_ *receiver, conn *tls.Conn) {
			_ = conn.Handshake()
			_, _ = conn.Read(make([]byte, 10))
		},
		"polite, before reading": func(_ *receiver, conn *tls.Conn) {
			_ = conn.Handshake()
			_ = conn.Close()
		},
		"after the request":  func(r *receiver, conn *tls.Conn) { r.read(conn) },
		"in the status line": answer("HTTP/1.1 2"),
		"in the head":        answer("HTTP/1.1 200 OK\r\nContent-Le"),
		"after 100 Continue": answer("HTTP/1.1 100 Continue\r\n\r\n"),
		"with 408 and a hint": func(_ *receiver, conn *tls.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n = 20
			r := newReceiver(t, nil, serve)
			for range n {
				_, err := r.post(t, t.Context(), "/?token=geheim", http.Header{"Idempotency-Key": {"k"}}, strings.Repeat("x", 100_000))
				if err == nil {
					require.Equal(t, "with 408 and a hint", name)
					continue
				}
				want := egress.ClassBroken
				if strings.HasPrefix(name, "in the ") {
					want = egress.ClassProtocol // a part of a line is parsed as a line
				}
				require.Equal(t, want, egress.Class(err), "%v", err)
				require.NotContains(t, err.Error(), "geheim")
			}
			accepted, requests := r.count()
			require.Equal(t, n, accepted)
			require.LessOrEqual(t, requests, n)
			require.Len(t, r.ns.asked(), 2*n)
		})
	}
}

// Bytes that come before the request must not be read early: net/http would print them to the log of the process.
func TestUnsolicitedBytesStayOutOfTheLog(t *testing.T) {
	var logged bytes.Buffer
	log.SetOutput(&logged)
	defer log.SetOutput(os.Stderr)
	written := make(chan struct{})
	r := newReceiver(t, nil, func(r *receiver, conn *tls.Conn) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nforged\n\n\n")
		written <- struct{}{}
		r.read(conn)
	})
	g := r.guard(t)
	for range 20 {
		conn, err := g.Connect(t.Context(), parse(t, g, r.url("/")))
		require.NoError(t, err)
		<-written
		require.NoError(t, conn.Close())
	}
	require.Empty(t, logged.String())

	conn, err := g.Connect(t.Context(), parse(t, g, r.url("/")))
	require.NoError(t, err)
	<-written
	_, err = conn.Post(t.Context(), nil, []byte("{}"))
	require.NoError(t, err, "the connection is still good for the POST")
	_, requests := r.count()
	require.LessOrEqual(t, requests, 1)
}
