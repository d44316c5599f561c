package egress_test

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"fmt"
	"io"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/egress"
)

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
	start := time.Now()
	got, err := r.post(t, t.Context(), "/", nil, "{}")
	require.NoError(t, err)
	require.Equal(t, 101, got.Status)
	require.Less(t, time.Since(start), 10*time.Second, "a lookup must not wait for the other protocol")
	<-hung
}

// A response before the end of the request, such as a 413, is the response.
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
