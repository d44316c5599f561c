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

// RetryPolicy sends a callback that failed again, until it is delivered or the
// pauses are used up. Receivers must then expect to see a run_key more than
// once. Each attempt is a delivery of its own in the log.
//
//   - Tried again: no answer at all (DNS, connection, TLS, timeout, broken or
//     invalid answer), 408, 425, 429 and 5xx.
//   - 404 and 409 are tried again within 2 minutes of the run's end, after 5 s,
//     10 s, 20 s and then every 30 s, whatever Pauses says: a workflow that waits
//     for its callback may not have begun to (n8n's Wait node).
//   - Final: 3xx, 410 and every other 4xx; a URL or an address that the guard
//     refuses; and an outcome that is unknown, since nobody is left to judge it.
//
// A pause is never shorter than the answer's Retry-After (RFC 9110 §10.2.3), of
// which at most 24 h are honoured, and up to a fifth longer at random, so that
// what failed together does not come back together. While a host gives no
// answer at all, time after time, its retries rest; first attempts never do.
type RetryPolicy struct {
	// Pauses are the times before the first, the second, … retry: there are as
	// many retries. Each is 1 s to 7 days, at most 50. nil: 5 s, 30 s, 2 min,
	// 10 min, 30 min, 1 h, 2 h, 4 h, 8 h, 8 h, a day in all.
	Pauses []time.Duration
}

const (
	maxPauses     = 50
	maxPause      = 7 * 24 * time.Hour
	maxRetryAfter = 24 * time.Hour

	earlyWindow = 2 * time.Minute // in which a 404 or 409 may be too early
	earlyPause  = 5 * time.Second // before the first retry of one
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

// retryIn is how long to wait for the retry that a failure owes; 0: none.
// retries is how many led to it, age how long ago the run ended, and response
// the answer, nil without one.
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

// retryable reports whether a failure may pass by itself.
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

// jitter makes a pause up to a fifth longer.
func jitter(d time.Duration) time.Duration {
	return d + rand.N(d/5+1)
}

// retryAfter reads a Retry-After header, seconds or a date (RFC 9110 §10.2.3),
// and returns 0 for anything else. A date is compared with the answer's own Date
// where there is one, since the receiver's clock may be wrong.
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
