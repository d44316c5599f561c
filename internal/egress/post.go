package egress

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
)

const (
	maxHead = 32 << 10 // bytes of status line and headers, those of 1xx answers included
	maxBody = 64 << 10 // bytes of the answer's body
)

// Conn is one connection to a callback receiver, good for one POST. Close it in any case; Close may be called at any time
// and more than once, and interrupts a Post under way.
type Conn struct {
	t     *Target
	cc    *http.ClientConn
	gated *gatedConn
	used  atomic.Bool
}

// Response is the receiver's answer. Truncated reports that Body is not complete: it was longer than 64 KiB, or the
// connection or the time ended first. Body is not decoded, whatever its Content-Encoding.
type Response struct {
	Status    int
	Header    http.Header
	Body      []byte
	Truncated bool
}

// Post writes the one POST with body and reads the answer, whatever its status; a redirect is an answer. It may be called
// once; the connection is closed when it returns. The request is never written a second time: it has no GetBody and
// no Idempotency-Key, without which net/http does not resend it.
//
// Content-Type is application/json and User-Agent is webtrigger, unless header sets them. Fields of header that frame
// the message or concern the connection, Cookie and the idempotency keys are dropped. body is not copied and must not be
// changed afterwards.
//
// Once the answer's head has arrived there is no error any more: a body that breaks off, or that does not end before ctx
// does, is a truncated Response. Before that, an error is of class "timeout", "canceled", "broken", "tls", "protocol" or
// "internal"; whether the receiver has seen the request is then unknown, except with "internal", or when ctx had ended
// before the call: nothing was written.
func (c *Conn) Post(ctx context.Context, header http.Header, body []byte) (*Response, error) {
	const step = "POST to the callback host"
	if c.used.Swap(true) {
		return nil, &failure{ClassInternal, step + ": the connection was used before", nil}
	}
	defer c.Close()
	if err := ctx.Err(); err != nil {
		return nil, fail(ctx, ClassTimeout, step, err)
	}
	call, cancel := context.WithCancel(untraced{ctx})
	defer cancel()
	answer, err := c.cc.RoundTrip(c.request(header, body).WithContext(call))
	if err != nil {
		class := exchangeClass(err)
		if !c.gated.wrote.Load() {
			class = ClassInternal
		}
		return nil, fail(ctx, class, step, err)
	}
	defer answer.Body.Close()
	r := &Response{Status: answer.StatusCode, Header: answer.Header}
	if r.Status != http.StatusSwitchingProtocols { // an upgraded connection has no body and no end
		r.Body, err = io.ReadAll(io.LimitReader(answer.Body, maxBody+1))
		r.Truncated = err != nil || len(r.Body) > maxBody
		r.Body = r.Body[:min(len(r.Body), maxBody)]
	}
	return r, nil
}

// Close ends the connection.
func (c *Conn) Close() error {
	if err := c.cc.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func (c *Conn) request(header http.Header, body []byte) *http.Request {
	h := make(http.Header, len(header)+2)
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "webtrigger")
	for name, values := range header {
		if name = http.CanonicalHeaderKey(name); !slices.Contains(dropped, name) {
			h[name] = slices.Clone(values)
		}
	}
	req := &http.Request{
		Method:        http.MethodPost,
		URL:           c.t.requestURL(),
		Host:          c.t.authority(),
		Header:        h,
		Body:          http.NoBody,
		ContentLength: int64(len(body)),
		Close:         true,
	}
	if len(body) > 0 {
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	return req
}

// dropped are fields of the caller's header that are not sent, in canonical form.
var dropped = []string{
	"Connection", "Content-Length", "Cookie", "Expect", "Host", "Idempotency-Key", "Keep-Alive", "Proxy-Authorization",
	"Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "X-Idempotency-Key",
}

// untraced hides the values of a context, for one reason: an httptrace hook for 1xx answers would lift net/http's limit on
// how many of them a receiver may send.
type untraced struct{ context.Context }

func (untraced) Value(any) any { return nil }
