// Package vendorhttp is what the models of vendors share below their SDKs: one
// exchange over HTTP that cannot hang or fill the memory, and the judgement of
// what goes wrong in it.
//
// The SDKs build requests and decode what streams. Their retries are turned off,
// since llm.Retrier is the place for those, and so is their reading of refused
// requests: it has no limit, loses the status when a proxy answers in HTML, and
// puts the request, with its credentials, into the error.
package vendorhttp

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
)

// Limits of what a vendor may send.
const (
	// MaxAnswer bounds the text and the tool calls of one answer, in bytes.
	MaxAnswer = 4 << 20

	maxStream  = 64 << 20 // a whole event stream, framing included
	maxRefusal = 64 << 10 // the body of a refused request
)

// DefaultIdleTimeout is how long a vendor may be silent.
const DefaultIdleTimeout = 5 * time.Minute

// Client returns a copy of base that follows no redirect: a vendor's API has no
// use for one, and Go would send a key in a custom header along to another host.
// nil is http.DefaultClient.
func Client(base *http.Client) *http.Client {
	if base == nil {
		base = http.DefaultClient
	}
	client := *base
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}

var (
	errIdle  = errors.New("the vendor was silent for too long")
	errLarge = errors.New("the event stream is too large")
)

// Call is one exchange with a vendor. It belongs to one goroutine.
type Call struct {
	vendor *Vendor
	caller context.Context
	ctx    context.Context
	cancel context.CancelCauseFunc
	silent *time.Timer

	sent     bool  // the request has reached the transport
	answered bool  // there was a response with an event stream
	broken   error // what reading it ended with, other than io.EOF
	received int64
}

// Begin starts a call for a caller: its clock runs from now on. End must follow.
func (v *Vendor) Begin(caller context.Context) *Call {
	c := &Call{vendor: v, caller: caller}
	c.ctx, c.cancel = context.WithCancelCause(caller)
	c.silent = time.AfterFunc(v.idle, func() { c.cancel(errIdle) })
	return c
}

// Context is the context to make the request with. It ends with the caller's, at
// End, and when the vendor is silent for too long.
func (c *Call) Context() context.Context { return c.ctx }

// End releases what the call holds.
func (c *Call) End() {
	c.silent.Stop()
	c.cancel(nil)
}

// Middleware stands between the SDK and the wire. It lets event streams pass,
// guarded, and makes everything else an error that Failed understands.
func (c *Call) Middleware(req *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	c.sent = true
	res, err := next(req)
	if err != nil {
		return nil, err
	}
	c.silent.Reset(c.vendor.idle)
	res.Body = &body{ReadCloser: res.Body, call: c}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if res.StatusCode/100 == 2 && !isDocument(kind) {
		c.answered = true
		return res, nil
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, maxRefusal)) // as much as there is
	return nil, &refusal{status: res.StatusCode, kind: kind, header: res.Header, text: text}
}

// isDocument reports whether a media type is surely that of no event stream.
// Others are given a chance: not every server labels its stream.
func isDocument(kind string) bool {
	return kind == "text/html" || kind == "application/json" || strings.HasSuffix(kind, "+json")
}

// body is a response body that is watched.
type body struct {
	io.ReadCloser
	call *Call
}

func (b *body) Read(p []byte) (int, error) {
	c := b.call
	if c.received >= maxStream {
		c.broken = errLarge
		return 0, errLarge
	}
	n, err := b.ReadCloser.Read(p)
	c.received += int64(n)
	if n > 0 {
		c.silent.Reset(c.vendor.idle)
	}
	if err != nil && err != io.EOF {
		c.broken = err
	}
	return n, err
}
