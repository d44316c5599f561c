package wire

import (
	"net/http"
	"strings"
	"time"
)

// problemBase is where each problem code is described.
const problemBase = "https://github.com/webtrigger-go/webtrigger/blob/main/docs/errors.md#"

// Problem is an error as clients see it: application/problem+json (RFC 9457)
// with a stable code. Nothing in it is internal.
type Problem struct {
	Status     int
	Code       string
	Detail     string
	Errors     []FieldError  // what is wrong with a body; nil: no such list
	Allow      string        // the Allow header; "": none
	Challenge  string        // the WWW-Authenticate header; "": none
	RetryAfter time.Duration // the Retry-After header, in seconds, rounded up; 0: none
	Quota      *Quota        // the policy that was used up; nil: none
	PurgedTo   int64         // the highest id of a purged event; 0: no such member
}

// FieldError is one fault of a body, at an RFC 6901 JSON Pointer.
type FieldError struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// Write answers with the problem.
func (p *Problem) Write(w http.ResponseWriter) {
	h := w.Header()
	if p.Allow != "" {
		h.Set("Allow", p.Allow)
	}
	if p.Challenge != "" {
		h.Set("WWW-Authenticate", p.Challenge)
	}
	if p.RetryAfter > 0 {
		h.Set("Retry-After", seconds(p.RetryAfter))
	}
	if p.Quota != nil {
		p.Quota.Set(h)
	}
	h.Set("Cache-Control", "no-store")
	body, err := Marshal(struct {
		Type   string       `json:"type"`
		Title  string       `json:"title"`
		Status int          `json:"status"`
		Detail string       `json:"detail"`
		Code   string       `json:"code"`
		Errors []FieldError `json:"errors,omitempty"`
		Purged int64        `json:"purged_to,omitempty"`
	}{problemBase + p.Code, http.StatusText(p.Status), p.Status, p.Detail, p.Code, p.Errors, p.PurgedTo})
	if err != nil { // strings and integers always marshal
		panic(err)
	}
	WriteBody(w, p.Status, "application/problem+json", body)
}

// The problems that do not depend on what a request is about. Each call makes a
// new one.

// NotFound is the 404 of everything that is absent or not the caller's: one
// body, whatever was asked for.
func NotFound() *Problem {
	return &Problem{Status: http.StatusNotFound, Code: "not_found", Detail: "The resource does not exist, or you do not have access to it."}
}

// MethodNotAllowed is the 405 of a path that exists; allow lists its methods.
func MethodNotAllowed(allow string) *Problem {
	use := strings.TrimSuffix(allow, ", HEAD")
	if i := strings.LastIndex(use, ", "); i >= 0 {
		use = use[:i] + " or " + use[i+2:]
	}
	return &Problem{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed",
		Detail: "This method is not allowed on this path. Use " + use + ".", Allow: allow}
}

// BadRequest is a 400.
func BadRequest(code, detail string) *Problem {
	return &Problem{Status: http.StatusBadRequest, Code: code, Detail: detail}
}

// Unprocessable is the 422 of a body with faults.
func Unprocessable(errs []FieldError) *Problem {
	return &Problem{Status: http.StatusUnprocessableEntity, Code: "invalid_request",
		Detail: "The request body is invalid. Correct the fields listed in errors.", Errors: errs}
}
