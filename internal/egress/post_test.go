package egress_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
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
	require.Contains(t, header, "Idempotency-Key", "the caller's header is left alone")

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
	require.ErrorIs(t, <-first, io.EOF, "the first thing to come is the end")
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
	r := newReceiver(t, nil, nil)
	g := r.guard(t)
	conn, err := g.Connect(t.Context(), parse(t, g, r.url("/")))
	require.NoError(t, err)
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	_, err = conn.Post(ctx, nil, []byte("{}"))
	require.Equal(t, egress.ClassTimeout, egress.Class(err))
	r.ln.Close()
	_, requests := r.count()
	require.Zero(t, requests)
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
					want = egress.ClassProtocol // the piece of a line is judged as a line
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

func TestRedirectsAreAnswers(t *testing.T) {
	t.Parallel()
	for _, status := range []int{301, 302, 303, 307, 308} {
		r := newReceiver(t, nil, answer(fmt.Sprintf("HTTP/1.1 %d Moved\r\nLocation: /other\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n", status)))
		got, err := r.post(t, t.Context(), "/", nil, "{}")
		require.NoError(t, err)
		require.Equal(t, status, got.Status)
		require.Equal(t, "/other", got.Header.Get("Location"))
		accepted, requests := r.count()
		require.Equal(t, [2]int{1, 1}, [2]int{accepted, requests})
	}
}

func TestResponseBody(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("b", 64<<10)
	var zipped bytes.Buffer
	zip := gzip.NewWriter(&zipped)
	_, err := zip.Write(bytes.Repeat([]byte("bomb"), 1<<20))
	require.NoError(t, err)
	require.NoError(t, zip.Close())
	for name, c := range map[string]struct {
		raw, body string
		truncated bool
	}{
		"none":         {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", false},
		"short":        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", false},
		"chunked":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok", false},
		"until close":  {"HTTP/1.0 200 OK\r\n\r\nok", "ok", false},
		"exactly full": {"HTTP/1.1 200 OK\r\n\r\n" + big, big, false},
		"one too many": {"HTTP/1.1 200 OK\r\n\r\n" + big + "!", big, true},
		"broken off":   {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "half", true},
		"bad chunk":    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n", "ok", true},
		"compressed":   {"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + zipped.String(), zipped.String(), false},
		"after 1xx":    {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", false},
		"more after":   {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 No\r\n\r\n", "ok", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := newReceiver(t, nil, answer(c.raw)).post(t, t.Context(), "/", nil, "{}")
			require.NoError(t, err)
			require.Equal(t, 200, got.Status)
			require.Equal(t, c.truncated, got.Truncated)
			require.True(t, c.body == string(got.Body), "%d bytes", len(got.Body))
		})
	}
}

// flood writes chunks until the peer has had enough, and reports how many bytes it got rid of.
func flood(head, chunk string, sent chan<- int) func(*receiver, *tls.Conn) {
	return func(r *receiver, conn *tls.Conn) {
		r.read(conn)
		total, err := io.WriteString(conn, head)
		for err == nil && total < 64<<20 {
			var n int
			n, err = io.WriteString(conn, chunk)
			total += n
		}
		sent <- total
	}
}

func TestEndlessAnswers(t *testing.T) {
	t.Parallel()
	pad := strings.Repeat("p", 1000)
	for name, c := range map[string]struct{ head, chunk, class string }{
		"body":        {"HTTP/1.1 200 OK\r\n\r\n", pad, ""},
		"chunks":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "3e8\r\n" + pad + "\r\n", ""},
		"head":        {"HTTP/1.1 200 OK\r\n", "X-Pad: " + pad + "\r\n", egress.ClassProtocol},
		"one header":  {"HTTP/1.1 200 OK\r\nX-Pad: ", pad, egress.ClassProtocol},
		"status line": {"HTTP/1.1 200 ", pad, egress.ClassProtocol},
		"1xx":         {"", "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n", egress.ClassProtocol},
		"100":         {"", "HTTP/1.1 100 Continue\r\n\r\n", egress.ClassProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sent := make(chan int, 1)
			r := newReceiver(t, nil, flood(c.head, c.chunk, sent))
			// A trace of the caller's must not lift the limit on 1xx answers.
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				Got1xxResponse: func(int, textproto.MIMEHeader) error { return nil },
			})
			got, err := r.post(t, ctx, "/", nil, "{}")
			require.Equal(t, c.class, egress.Class(err), "%v", err)
			if err == nil {
				require.Len(t, got.Body, 64<<10)
				require.True(t, got.Truncated)
			}
			require.Less(t, <-sent, 16<<20, "the kernel's buffers are all that the peer can fill")
		})
	}
}

func TestHeadLimit(t *testing.T) {
	t.Parallel()
	fits := "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Pad: " + strings.Repeat("p", 31<<10) + "\r\n\r\n"
	got, err := newReceiver(t, nil, answer(fits)).post(t, t.Context(), "/", nil, "{}")
	require.NoError(t, err)
	require.Len(t, got.Header.Get("X-Pad"), 31<<10)
	over := "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Pad: " + strings.Repeat("p", 32<<10) + "\r\n\r\n"
	_, err = newReceiver(t, nil, answer(over)).post(t, t.Context(), "/", nil, "{}")
	require.Equal(t, egress.ClassProtocol, egress.Class(err))
}

func TestNotHTTP(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"SSH-2.0-OpenSSH_9.2\r\n\r\n",
		"POST /?token=geheim HTTP/1.1\r\n\r\n", // an echo of the request line
		"HTTP/1.1 abc token=geheim\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, geheim\r\n\r\n",
		"HTTP/1.1 200 OK\r\n: no name\r\n\r\n",
	} {
		_, err := newReceiver(t, nil, answer(raw)).post(t, t.Context(), "/?token=geheim", nil, "{}")
		require.Equal(t, egress.ClassProtocol, egress.Class(err), "%q: %v", raw, err)
		require.NotContains(t, err.Error(), "geheim")
	}
}

func TestSwitchingProtocolsIsAnAnswer(t *testing.T) {
	t.Parallel()
	hung := make(chan struct{})
	r := newReceiver(t, nil, func(r *receiver, conn *tls.Conn) {
		r.read(conn)
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
		_, _ = conn.Read(make([]byte, 1))
		close(hung)
	})
	got, err := r.post(t, t.Context(), "/", nil, "{}")
	require.NoError(t, err)
	require.Equal(t, 101, got.Status)
	<-hung
}

// An answer before the request's end (a 413, say) is the answer.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil, func(_ *receiver, conn *tls.Conn) {
		_, _ = conn.Read(make([]byte, 100))
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn)
	})
	got, err := r.post(t, t.Context(), "/", nil, strings.Repeat("x", 8<<20))
	require.NoError(t, err)
	require.Equal(t, 413, got.Status)
}

// Bytes that come before the request must not be read early: net/http would print them to the log of the process.
func TestUnsolicitedBytesStayOutOfTheLog(t *testing.T) {
	var logged bytes.Buffer
	log.SetOutput(&logged)
	defer log.SetOutput(io.Discard)
	written := make(chan struct{})
	r := newReceiver(t, nil, func(r *receiver, conn *tls.Conn) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nforged\n\n\n")
		close(written)
		r.read(conn)
	})
	g := r.guard(t)
	conn, err := g.Connect(t.Context(), parse(t, g, r.url("/")))
	require.NoError(t, err)
	<-written
	require.NoError(t, conn.Close())
	require.Empty(t, logged.String())
}

func TestDeadlines(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		serve func(*receiver, *tls.Conn)
		fails bool
	}{
		"handshake stalls": {func(_ *receiver, conn *tls.Conn) { _, _ = io.Copy(io.Discard, conn.NetConn()) }, true},
		"no answer": {func(r *receiver, conn *tls.Conn) {
			r.read(conn)
			_, _ = io.Copy(io.Discard, conn)
		}, true},
		"nothing read": {func(_ *receiver, conn *tls.Conn) {
			_ = conn.Handshake()
			<-time.After(2 * time.Second)
		}, true},
		"head trickles": {func(r *receiver, conn *tls.Conn) {
			r.read(conn)
			_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
			for err == nil {
				<-time.After(5 * time.Millisecond)
				_, err = io.WriteString(conn, "X")
			}
		}, true},
		"body trickles": {func(r *receiver, conn *tls.Conn) {
			r.read(conn)
			_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			for err == nil {
				<-time.After(5 * time.Millisecond)
				_, err = io.WriteString(conn, "X")
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t, nil, c.serve)
			ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
			defer cancel()
			body := "{}"
			if name == "nothing read" {
				body = strings.Repeat("x", 16<<20) // more than the kernel buffers
			}
			start := time.Now()
			got, err := r.post(t, ctx, "/?token=geheim", nil, body)
			require.Less(t, time.Since(start), 1500*time.Millisecond)
			if !c.fails {
				require.NoError(t, err)
				require.True(t, got.Truncated)
				require.NotEmpty(t, got.Body)
				return
			}
			require.Equal(t, egress.ClassTimeout, egress.Class(err), "%v", err)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.NotContains(t, err.Error(), "geheim")
		})
	}
}

func TestCancelInterruptsPost(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	r := newReceiver(t, nil, func(r *receiver, conn *tls.Conn) {
		r.read(conn)
		cancel()
		_, _ = io.Copy(io.Discard, conn)
	})
	_, err := r.post(t, ctx, "/", nil, "{}")
	require.Equal(t, egress.ClassCanceled, egress.Class(err))
}

func TestCloseInterruptsPost(t *testing.T) {
	t.Parallel()
	read := make(chan struct{})
	r := newReceiver(t, nil, func(r *receiver, conn *tls.Conn) {
		r.read(conn)
		close(read)
		_, _ = io.Copy(io.Discard, conn)
	})
	g := r.guard(t)
	conn, err := g.Connect(t.Context(), parse(t, g, r.url("/")))
	require.NoError(t, err)
	go func() {
		<-read
		conn.Close()
	}()
	_, err = conn.Post(t.Context(), nil, []byte("{}"))
	require.Error(t, err)
}
