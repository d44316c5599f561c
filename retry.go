package webtrigger

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/egress"
)

// RetryPolicy configures retries of failed callbacks. A callback is retried until it
// is delivered or the pauses are used up. Receivers must then expect the same run_key
// more than once. Each attempt is a separate delivery in the log.
//
//   - Retried: no response (a DNS, connection or TLS error, a timeout, a broken or
//     invalid response), 408, 425, 429 and 5xx.
//   - Retried for 2 minutes after the end of the run: 404 and 409. The pauses are 5
//     s, 10 s, 20 s and then 30 s, regardless of Pauses. A workflow may begin to
//     wait for its callback later (n8n's Wait node).
//   - Not retried: 3xx, 410 and every other 4xx; a URL or an address that the guard
//     blocks; an unknown outcome.
//
// A pause is at least as long as the response's Retry-After (RFC 9110 §10.2.3). Of a
// longer Retry-After, 24 h apply. Each pause is extended by up to a fifth at random,
// so that deliveries that failed together are not retried together. If a host
// repeatedly does not respond at all, its retries pause. First attempts continue.
type RetryPolicy struct {
	// Pauses are the pauses before the first, the second, … retry. Their number is
	// the maximum number of retries: 1 to 50. Each pause must be 1 s to 7 days. If
	// nil, the pauses are 5 s, 30 s, 2 min, 10 min, 30 min, 1 h, 2 h, 4 h, 8 h and 8
	// h, about a day in total.
	Pauses []time.Duration
}

const (
	maxPauses     = 50
	maxPause      = 7 * 24 * time.Hour
	maxRetryAfter = 24 * time.Hour

	earlyWindow = 2 * time.Minute // a 404 or 409 is retried this long after the end of the run
	earlyPause  = 5 * time.Second // before the first retry after a 404 or 409
	earlyMost   = 30 * time.Second
)

func defaultPauses() []time.Duration {
	return []time.Duration{
		5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute,
		time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 8 * time.Hour,
	}
}

// complete checks p and returns a copy with defaults.
func (p RetryPolicy) complete() (*RetryPolicy, error) {
	if p.Pauses == nil {
		p.Pauses = defaultPauses()
	}
	if len(p.Pauses) == 0 || len(p.Pauses) > maxPauses {
		return nil, errors.New("the Pauses must be 1 to 50, or nil")
	}
	for _, pause := range p.Pauses {
		if pause < time.Second || pause > maxPause {
			return nil, errors.New("the Pauses must be 1 s to 7 days each")
		}
	}
	p.Pauses = slices.Clone(p.Pauses)
	return &p, nil
}

// retryIn returns the pause before the retry of a failure; 0 means no retry. retries
// is the number of earlier retries and age the time since the end of the run.
// response is nil if there was none.
func (p *RetryPolicy) retryIn(retries int, age time.Duration, o *DeliveryOutcome, response *egress.Response) time.Duration {
	var after time.Duration
	if response != nil {
		after = retryAfter(response.Header, time.Now())
	}
	switch {
	case o.HTTPStatus == http.StatusNotFound, o.HTTPStatus == http.StatusConflict:
		pause := jitter(max(after, min(earlyPause<<min(retries, 10), earlyMost)))
		if age+pause > earlyWindow {
			return 0
		}
		return pause
	case !retryable(o) || retries >= len(p.Pauses):
		return 0
	}
	return jitter(max(after, p.Pauses[retries]))
}

// retryable reports whether a retry of the failure may succeed.
func retryable(o *DeliveryOutcome) bool {
	switch o.FailureClass {
	case FailureStatus:
		switch o.HTTPStatus {
		case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
			return true
		}
		return o.HTTPStatus >= 500
	case FailureDNS, FailureConnect, FailureTLS, FailureTimeout, FailureBroken, FailureProtocol:
		return true
	}
	return false // blocked, internal
}

// jitter extends a pause by up to a fifth.
func jitter(d time.Duration) time.Duration {
	return d + rand.N(d/5+1)
}

// retryAfter parses a Retry-After header, seconds or a date (RFC 9110 §10.2.3). It
// returns 0 for any other value. A date is compared with the response's own Date if
// there is one, because the receiver's clock may be wrong.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
