package client

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	firstPause = 500 * time.Millisecond // of requests; streams say their own
	maxPause   = 30 * time.Second       // unless Retry-After asks for more
)

// again is what went wrong with a request that is worth another.
type again struct {
	err   error
	after time.Duration // what the service asks to wait
	now   bool          // there is nothing to wait for
}

func (a *again) Error() string { return a.err.Error() }
func (a *again) Unwrap() error { return a.err }

// unanswered is the error of a request that got no answer. Another attempt is
// worth while, unless the other side is not the service.
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

// backoff is the pause after so many failures in a row: twice as long after each,
// never shorter than what the service asks for, and never that of all clients at
// once.
func backoff(first time.Duration, failures int, asked time.Duration) time.Duration {
	wait := min(first<<min(failures-1, 10), maxPause)
	wait = wait/2 + rand.N(wait/2+1)
	return max(wait, asked)
}

// sleep waits for d. The error is the cause of ctx's end.
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
