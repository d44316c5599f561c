package client

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	firstPause = 500 * time.Millisecond // of requests; a stream sends its own
	maxPause   = 30 * time.Second       // unless Retry-After asks for more
)

// again is the temporary error of an attempt.
type again struct {
	err   error
	after time.Duration // the Retry-After of the service
	now   bool          // retry without a pause
}

func (a *again) Error() string { return a.err.Error() }
func (a *again) Unwrap() error { return a.err }

// unanswered is the error of a request without a response. It is temporary, unless
// the other side does not prove that it is the service.
func unanswered(err error) error {
	var stranger *tls.CertificateVerificationError
	if errors.As(err, &stranger) {
		return err
	}
	return &again{err: err}
}

// exhausted reports whether so many failures in a row are too many.
func (c *Client) exhausted(failures int) bool {
	return c.opts.MaxRetries >= 0 && failures > c.opts.MaxRetries
}

// backoff returns the pause after a number of failures in a row. It doubles with
// each failure, has jitter, and is never shorter than the service's Retry-After.
func backoff(first time.Duration, failures int, asked time.Duration) time.Duration {
	wait := min(first<<min(failures-1, 10), maxPause)
	wait = wait/2 + rand.N(wait/2+1)
	return max(wait, asked)
}

// sleep waits for d. If ctx ends first, it returns the cause.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
