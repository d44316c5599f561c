package vendorhttp_test

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger/internal/modeltest"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendorhttp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const key = "sk-secret-0123456789"

func vendor(idle time.Duration) *vendorhttp.Vendor {
	return vendorhttp.NewVendor(vendorhttp.Config{Name: "acme", Key: key, Idle: idle})
}

// exchange makes one call and reads its stream to the end.
func exchange(ctx context.Context, vendor *vendorhttp.Vendor, client *http.Client, url string) (string, error) {
	call := vendor.Begin(ctx)
	defer call.End()
	events, err := call.Post(vendorhttp.Client(client), url, nil, []byte(`{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}`))
	if err != nil {
		return "", err
	}
	var texts []string
	for {
		event, err := events.Next()
		if err == io.EOF {
			return strings.Join(texts, "|"), nil
		}
		if err != nil {
			return "", err
		}
		texts = append(texts, string(event.Data))
	}
}

// failure makes one call to a handler over a socket, which must fail.
func failure(t *testing.T, handler http.HandlerFunc) *llm.Error {
	t.Helper()
	server := httptest.NewServer(handler)
	defer server.Close()
	_, err := exchange(t.Context(), vendor(0), server.Client(), server.URL)
	failure := new(llm.Error)
	require.ErrorAs(t, err, &failure)
	return failure
}

// Which answers may be tried again, by status, by the vendor's own word, and by
// the fault.
func TestCall_errorResponse_returnsError(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		header string
		body   string
		text   string
		again  bool
	}{
		{status: 400, text: "acme: 400 Bad Request"},
		{status: 400, body: `{"code":"context_length_exceeded"}`, text: "acme: 400 Bad Request (context_length_exceeded)"},
		{status: 400, body: `{"type":"invalid_request_error"}`, text: "acme: 400 Bad Request (invalid_request_error)"},
		{status: 400, body: `{"code":"no code at all","type":"bad<script>"}`, text: "acme: 400 Bad Request"},
		{status: 400, body: `{"error":{"message":"Failed to call a function.","code":"tool_use_failed"}}`, text: "acme: 400 Bad Request (tool_use_failed)", again: true},
		{status: 401, text: "acme: 401 Unauthorized"},
		{status: 403, text: "acme: 403 Forbidden"},
		{status: 404, text: "acme: 404 Not Found"},
		{status: 413, text: "acme: 413 Request Entity Too Large"},
		{status: 408, text: "acme: 408 Request Timeout", again: true},
		{status: 409, text: "acme: 409 Conflict", again: true},
		{status: 429, text: "acme: 429 Too Many Requests", again: true},
		{status: 429, body: `{"code":"insufficient_quota","status":402}`, text: "acme: 429 Too Many Requests (insufficient_quota)"},
		{status: 500, text: "acme: 500 Internal Server Error", again: true},
		{status: 501, text: "acme: 501 Not Implemented"},
		{status: 502, text: "acme: 502 Bad Gateway", again: true},
		{status: 503, text: "acme: 503 Service Unavailable", again: true},
		{status: 504, text: "acme: 504 Gateway Timeout", again: true},
		{status: 529, text: "acme: 529 Overloaded", again: true},
		{status: 599, text: "acme: 599", again: true},
		{status: 503, header: "false", text: "acme: 503 Service Unavailable"},
		{status: 400, header: "true", text: "acme: 400 Bad Request", again: true},
		{status: 429, header: "true", body: `{"status":402}`, text: "acme: 429 Too Many Requests"},
		{status: 302, text: "acme: 302 Found"},
	} {
		t.Run(fmt.Sprint(c.status, c.header, c.body), func(t *testing.T) {
			t.Parallel()
			got := failure(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json; charset=utf-8")
				w.Header().Set("Location", "https://elsewhere.example.com/")
				w.Header().Set("Retry-After", "7")
				if c.header != "" {
					w.Header().Set("X-Should-Retry", c.header)
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			require.EqualError(t, got, c.text)
			require.Equal(t, c.again, got.Retryable)
			if c.again && c.status >= 400 {
				require.Equal(t, 7*time.Second, got.RetryAfter)
			} else {
				require.Zero(t, got.RetryAfter)
			}
		})
	}
}

// The text of the vendor is for the log. It has one line, a bounded length, no key, and
// the id by which the vendor finds the request.
func TestDetail(t *testing.T) {
	t.Parallel()
	answer := func(kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("X-Request-Id", "req_7")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, body)
		}
	}
	got := failure(t, answer("application/json", `{"message":"bad\nkey `+key+`","param":"model"}`))
	require.Equal(t, "bad key [API key], param model, request req_7", got.Detail)
	require.Equal(t, "acme: 400 Bad Request", got.Error())

	got = failure(t, answer("text/html", "<html>\xff\x00 gateway "+key+"</html>"))
	require.Equal(t, "<html>\uFFFD\uFFFD gateway [API key]</html>, request req_7", got.Detail)

	// If a key is at the cut, no part of it is left.
	got = failure(t, answer("text/plain", strings.Repeat("x", 2<<10-5)+key))
	require.LessOrEqual(t, len(got.Detail), 2<<10)
	require.NotContains(t, got.Detail, "sk-s")

	// A body without an end is read as far as it is of use.
	sent := make(chan int, 1)
	got = failure(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		total := 0
		for r.Context().Err() == nil {
			n, err := io.WriteString(w, strings.Repeat("flood ", 1000))
			if total += n; err != nil {
				break
			}
		}
		sent <- total
	})
	require.EqualError(t, got, "acme: 502 Bad Gateway")
	require.Less(t, <-sent, 32<<20, "what buffers on the way hold, and no more")
}

// Faults of the way to the vendor: all but a certificate that is not to be trusted
// may pass. Neither the URL nor an address is shown.
func TestConnectionFails(t *testing.T) {
	t.Parallel()
	acme := vendor(0)
	server := httptest.NewServer(nil)
	server.Close()
	_, err := exchange(t.Context(), acme, nil, server.URL+"/?token=secret")
	got := new(llm.Error)
	require.ErrorAs(t, err, &got)
	require.EqualError(t, got, "acme: the connection failed")
	require.True(t, got.Retryable)
	require.Contains(t, got.Detail, "connection refused")
	require.NotContains(t, got.Detail, "secret")

	secure := httptest.NewUnstartedServer(nil)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	client := &http.Client{Transport: &http.Transport{}} // does not know the test's authority
	_, err = exchange(t.Context(), acme, client, secure.URL)
	require.ErrorAs(t, err, &got)
	require.EqualError(t, got, "acme: the connection failed")
	require.False(t, got.Retryable)
}

// An event stream that never ends does not fill the memory.
func TestStreamTooLarge(t *testing.T) {
	t.Parallel()
	flood := []byte(": " + strings.Repeat("x", 1<<20) + "\n")
	got := failure(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for r.Context().Err() == nil {
			if _, err := w.Write(flood); err != nil {
				return
			}
		}
	})
	require.EqualError(t, got, "acme: the answer is too large")
	require.False(t, got.Retryable)
}

// If a vendor sends nothing for the idle time, the call fails, at whatever point of the
// answer. If it sends data now and then, the call continues.
func TestCall_idleVendor_fails(t *testing.T) {
	t.Parallel()
	const idle = time.Minute
	silent := func(w *modeltest.Wire) { w.Hang() }
	for name, turn := range map[string]modeltest.Turn{
		"no headers":             silent,
		"no events":              func(w *modeltest.Wire) { w.Raw(": hello\n\n"); w.Hang() },
		"half an error response": func(w *modeltest.Wire) { w.Plain(503, "text/plain", "I am"); w.Raw(""); w.Hang() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client, stop := modeltest.NewNetwork().Serve(modeltest.NewOpenAI("", turn))
				defer stop()
				began := time.Now()
				_, err := exchange(t.Context(), vendor(idle), client, "http://acme.example/chat/completions")
				got := new(llm.Error)
				require.ErrorAs(t, err, &got)
				require.True(t, got.Retryable)
				require.Equal(t, idle, time.Since(began))
				if name == "half an error response" {
					require.EqualError(t, got, "acme: 503 Service Unavailable")
					require.Equal(t, "I am", got.Detail)
				} else {
					require.EqualError(t, got, "acme: no data for 1m0s")
				}
			})
		})
	}
	t.Run("dial", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			client, stop := modeltest.NewNetwork().Silent()
			defer stop()
			began := time.Now()
			_, err := exchange(t.Context(), vendor(idle), client, "http://acme.example/")
			require.EqualError(t, err, "acme: no data for 1m0s")
			require.Equal(t, idle, time.Since(began))
		})
	})
	t.Run("slow", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			client, stop := modeltest.NewNetwork().Serve(modeltest.NewOpenAI("", func(w *modeltest.Wire) {
				for range 5 {
					select {
					case <-time.After(idle - time.Second):
					case <-w.Disconnected():
						return
					}
					w.Raw("data: .\n\n")
				}
			}))
			defer stop()
			text, err := exchange(t.Context(), vendor(idle), client, "http://acme.example/chat/completions")
			require.NoError(t, err)
			require.Equal(t, ".|.|.|.|.", text)
		})
	})
}

// If the caller's context ends, the error is its cause, not a failure of the vendor.
func TestCall_callerContextEnds_returnsCause(t *testing.T) {
	t.Parallel()
	errStop := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	call := vendor(0).Begin(ctx)
	defer call.End()
	cancel(errStop)
	require.Equal(t, errStop, call.Failed(io.ErrUnexpectedEOF))
	require.Equal(t, errStop, call.Cut())
	require.Equal(t, errStop, call.InStream([]byte(`{}`)))
	_, err := call.Post(http.DefaultClient, "http://acme.example", nil, nil)
	require.Equal(t, errStop, err)
}

func TestChecks(t *testing.T) {
	t.Parallel()
	require.NoError(t, vendorhttp.CheckKey(key))
	for _, bad := range []string{"sk-1\n", " sk-1", "sk 1", "sk-\x00", "sk-ü"} {
		err := vendorhttp.CheckKey(bad)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "sk")
	}
	for _, good := range []string{"https://api.example.com/v1", "http://127.0.0.1:11434/v1/", "http://[::1]:80"} {
		_, err := vendorhttp.Endpoint(good, "messages", nil)
		require.NoError(t, err, good)
	}
	for _, bad := range []string{"", "api.example.com", "ftp://x/", "https://", "https://u:hunter2@x/", "https://x/?k=hunter2", "https://x/#hunter2", "http://x:hunter2/"} {
		_, err := vendorhttp.Endpoint(bad, "messages", nil)
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

// A proxy may repeat the URL of a request, in which a secret of the query is escaped.
func TestDetail_escapedSecret_isRedacted(t *testing.T) {
	t.Parallel()
	const secret = "a+b/c=d e&f0123"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "cannot POST "+r.URL.String()+" or "+url.PathEscape(secret)+" or "+html.EscapeString(secret), http.StatusNotFound)
	}))
	defer server.Close()
	query := url.Values{"sig": {secret}}
	acme := vendorhttp.NewVendor(vendorhttp.Config{Name: "acme", Query: query})
	_, err := exchange(t.Context(), acme, server.Client(), server.URL+"/?"+query.Encode())
	failure := new(llm.Error)
	require.ErrorAs(t, err, &failure)
	require.Equal(t, "cannot POST /?sig=[API key] or [API key] or [API key]", failure.Detail)
}

// Printing what an adapter holds prints no key.
func TestVendorPrintsNoKey(t *testing.T) {
	t.Parallel()
	acme := vendor(0)
	require.NotContains(t, fmt.Sprintf("%+v %#v %v", acme, *acme, *acme), key)
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // at 2000-01-01T00:00:00Z
		for _, c := range []struct {
			seconds, millis string
			want            time.Duration
		}{
			{"", "", 0},
			{"20", "", 20 * time.Second},
			{" 1.5 ", "", 1500 * time.Millisecond},
			{"0", "", 0},
			{"20", "250", 250 * time.Millisecond},
			{"20", "soon", 20 * time.Second},
			{"-1", "", 0},
			{"NaN", "", 0},
			{"soon", "", 0},
			{"1e300", "", math.MaxInt64},
			{"Inf", "", math.MaxInt64},
			{"Sat, 01 Jan 2000 00:01:00 GMT", "", time.Minute},
			{"Saturday, 01-Jan-00 00:01:00 GMT", "", time.Minute},
			{"Fri, 31 Dec 1999 23:59:00 GMT", "", 0},
			{"Sat, 01 Jan 2000", "", 0},
		} {
			header := http.Header{"Retry-After": {c.seconds}, "Retry-After-Ms": {c.millis}}
			require.Equal(t, c.want, vendorhttp.RetryAfter(header), "%q, %q", c.seconds, c.millis)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "20", "1.5", "1e300", "-0", "Sat, 01 Jan 2000 00:01:00 GMT"} {
		f.Add(s, "")
		f.Add("", s)
	}
	f.Fuzz(func(t *testing.T, seconds, millis string) {
		if d := vendorhttp.RetryAfter(http.Header{"Retry-After": {seconds}, "Retry-After-Ms": {millis}}); d < 0 {
			t.Fatalf("%q, %q: %v", seconds, millis, d)
		}
	})
}
