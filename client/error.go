package client

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Error is an error response: the problem (RFC 9457) that the service sent, or what
// is known of the response of a proxy or CDN in front of it.
type Error struct {
	Status     int           // the HTTP status
	Code       string        // stable, see docs/errors.md; "" if the response is not a problem of the service
	Detail     string        // a text for people
	Faults     []Fault       // the faults of the request's body; nil: none
	RequestID  string        // identifies the request in the service's log
	RetryAfter time.Duration // the earliest time for a retry, from now; 0: not given
}

// Fault is one fault of a request's body.
type Fault struct {
	Pointer string `json:"pointer"` // RFC 6901 JSON Pointer into the body; "" is the whole body
	Detail  string `json:"detail"`
}

// Error returns the status, code, detail, faults and request id in one line.
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

// lasting are the 5xx statuses that a later attempt meets again.
var lasting = map[int]bool{
	http.StatusNotImplemented:                true,
	http.StatusHTTPVersionNotSupported:       true,
	http.StatusVariantAlsoNegotiates:         true,
	http.StatusLoopDetected:                  true,
	http.StatusNotExtended:                   true,
	http.StatusNetworkAuthenticationRequired: true,
	526:                                      true, // Cloudflare: the service's certificate is not valid
}

// temporary reports whether a retry of the request may succeed. Statuses that only
// a CDN uses, such as Cloudflare's 520 to 530, count like any other 5xx.
func (e *Error) temporary() bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return e.Status/100 == 5 && !lasting[e.Status]
}
