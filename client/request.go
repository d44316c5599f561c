package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"time"
)

const (
	attemptTimeout = 30 * time.Second // for a response that the service does not delay
	maxAnswer      = 16 << 20         // bytes; a result has at most 1 MiB, before it is escaped
)

// request is a request with a JSON response. It is idempotent, or carries an
// Idempotency-Key, so that do may retry it.
type request struct {
	method, url string
	header      http.Header   // in addition to those of every request; nil: none
	body        []byte        // JSON; nil: none
	hold        time.Duration // how long the service may delay the response; 0: not at all
	statuses    []int         // of the responses that are not errors
}

// errNotModified is a response 304, which only a request with If-None-Match gets.
var errNotModified = errors.New("client: not modified")

// do sends r, with retries, and decodes the response into a value. It returns the
// response's headers, also with errNotModified.
func (c *Client) do(ctx context.Context, r request, into any) (http.Header, error) {
	for failures := 0; ; {
		header, err := c.attempt(ctx, r, into)
		var a *again
		switch {
		case err == nil:
			return header, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case !errors.As(err, &a):
			return header, err
		}
		if failures++; c.exhausted(failures) {
			return nil, a.err
		}
		wait := backoff(firstPause, failures, a.after)
		c.opts.Logger.InfoContext(ctx, "request retried", "method", r.method, "url", r.url, "retry_in", wait, "error", a.err)
		if err := sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// attempt sends r once. net/http may resend it when a kept connection breaks, which
// is as safe as a retry of do.
func (c *Client) attempt(ctx context.Context, r request, into any) (http.Header, error) {
	limited, cancel := context.WithTimeout(ctx, attemptTimeout+r.hold)
	defer cancel()
	req, err := http.NewRequestWithContext(limited, r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	maps.Copy(req.Header, r.header)
	req.Header.Set("Authorization", "Bearer "+c.key)
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	doer := c.http
	if r.hold > 0 {
		doer.Timeout = 0
	}
	resp, err := doer.Do(req)
	if err != nil {
		return nil, unanswered(fmt.Errorf("client: %w", err))
	}
	defer resp.Body.Close()
	if !slices.Contains(r.statuses, resp.StatusCode) {
		p := readProblem(resp)
		if p.err.temporary() {
			return nil, &again{err: p.err, after: p.err.RetryAfter}
		}
		return nil, p.err
	}
	if resp.StatusCode == http.StatusNotModified {
		return resp.Header, errNotModified
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if media != "application/json" {
		return nil, fmt.Errorf("client: response of %s has the type %q, not JSON: check the base URL", r.url, media)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, &again{err: fmt.Errorf("client: read response: %w", err)}
	}
	if err := json.Unmarshal(body, into); err != nil {
		return nil, fmt.Errorf("client: decode response of %s: %w", r.url, err)
	}
	return resp.Header, nil
}
