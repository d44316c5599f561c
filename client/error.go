package client

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Error is an answer of the service that is an error: problem details (RFC 9457),
// as far as the answer has them.
type Error struct {
	Status     int           // the HTTP status
	Code       string        // stable, see docs/errors.md; "" when the answer is not the service's own
	Detail     string        // for people
	Faults     []Fault       // all that is wrong with a request's body; nil: nothing, or not told
	RequestID  string        // leads operators to their log
	RetryAfter time.Duration // when to try again at the earliest; 0: not told
}

// Fault is one thing wrong with a request's body and where.
type Fault struct {
	Pointer string `json:"pointer"` // RFC 6901 JSON Pointer into the body; "" is the whole body
	Detail  string `json:"detail"`
}

func (e *Error) Error() string {
	text := fmt.Sprintf("client: status %d", e.Status)
	for _, s := range []string{e.Code, e.Detail} {
		if s != "" {
			text += ": " + s
		}
	}
	for i, f := range e.Faults {
		text += [...]string{": ", "; "}[min(i, 1)] + strings.TrimSpace(f.Pointer+" "+f.Detail)
	}
	if e.RequestID != "" {
		text += " (request " + e.RequestID + ")"
	}
	return text
}

// temporary reports whether the same request may succeed later.
func (e *Error) temporary() bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}
