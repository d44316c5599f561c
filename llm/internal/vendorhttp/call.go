package vendorhttp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"time"
)

var (
	errIdle  = errors.New("no data from the vendor within the idle timeout")
	errLarge = errors.New("response is too large")
)

// Call is one exchange with a vendor. It belongs to one goroutine.
type Call struct {
	vendor *Vendor
	caller context.Context
	ctx    context.Context
	cancel context.CancelCauseFunc
	silent *time.Timer
	body   io.Closer

	sent     bool  // the request has reached the transport
	document bool  // the response is JSON itself, not a stream
	answered bool  // there was a response with an answer
	broken   error // the error that ended the reading of the response, other than io.EOF
	received int64
}

// Begin starts a call for a caller: the idle timeout runs from now on. End must
// follow.
func (v *Vendor) Begin(caller context.Context) *Call {
	c := &Call{vendor: v, caller: caller}
	c.ctx, c.cancel = context.WithCancelCause(caller)
	c.silent = time.AfterFunc(v.idle, func() { c.cancel(errIdle) })
	return c
}

// End releases the resources of the call.
func (c *Call) End() {
	c.silent.Stop()
	c.cancel(nil)
	if c.body != nil {
		_ = c.body.Close()
	}
}

// ended is the caller's cause if its context has ended, else err.
func (c *Call) ended(err error) error {
	if c.caller.Err() != nil {
		return context.Cause(c.caller)
	}
	return err
}

// Post sends a body and returns the events of the response. The error is for the
// caller of the model. ctx ends with the caller's, at End, and when the vendor has
// sent no data within the idle timeout.
func (c *Call) Post(client *http.Client, url string, header http.Header, body []byte) (*Events, error) {
	req, err := http.NewRequestWithContext(c.ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, c.Failed(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "text/event-stream, application/json")
	req.Header.Set("User-Agent", "webtrigger")
	maps.Copy(req.Header, header)
	c.sent = true
	res, err := client.Do(req)
	if err != nil {
		return nil, c.Failed(err)
	}
	c.silent.Reset(c.vendor.idle)
	watched := &watched{ReadCloser: res.Body, call: c}
	c.body = watched
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if res.StatusCode/100 == 2 && kind != "text/html" {
		c.answered = true
		return newEvents(c, kind, watched), nil
	}
	text, _ := io.ReadAll(io.LimitReader(watched, maxRejection)) // as much as there is
	return nil, c.Failed(&rejection{status: res.StatusCode, kind: kind, header: res.Header, text: text})
}

// watched is a response body whose size and silence are bounded.
type watched struct {
	io.ReadCloser
	call *Call
}

func (b *watched) Read(p []byte) (int, error) {
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
