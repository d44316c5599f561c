package webtrigger

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/bridge"
	"github.com/webtrigger-go/webtrigger/internal/strictjson"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// Sentinels that Service methods return and that a [Store] answers with. They
// are matched with [errors.Is]; the text around them is for people.
var (
	// ErrNotFound says that the thing does not exist, or is not the caller's.
	ErrNotFound = errors.New("webtrigger: not found")

	// ErrConflict says that the thing exists in a state that does not allow the
	// call, such as redelivering a delivery that is still under way.
	ErrConflict = errors.New("webtrigger: conflict")

	// ErrLeaseLost says that a run is no longer held under the lease that a
	// write named: it expired, was swept, or the run has ended. Nothing was
	// written. It is also the cause of a Runner's context that ended for this.
	ErrLeaseLost = errors.New("webtrigger: lease lost")

	// ErrChannelDisabled says that the assistant's channel does not accept
	// triggers.
	ErrChannelDisabled = errors.New("webtrigger: channel disabled")

	// ErrIdempotencyKeyReused says that the idempotency key was used within its
	// lifetime for another request body.
	ErrIdempotencyKeyReused = errors.New("webtrigger: idempotency key reused")

	// ErrQueueFull says that as many runs of the assistant wait as
	// [Limits.QueuedPerAssistant] allows. HTTP shows it as 429.
	ErrQueueFull = errors.New("webtrigger: queue full")

	// ErrUnavailable says that the store cannot answer now and that trying again
	// later is worth while. HTTP shows it as 503 with Retry-After.
	ErrUnavailable = errors.New("webtrigger: store unavailable")

	// ErrUnauthenticated is what an [Authorizer] answers when nobody is signed
	// in. HTTP shows it as 401; any other refusal looks like an absent thing.
	ErrUnauthenticated = errors.New("webtrigger: not signed in")

	// ErrShutdown is the cause of a Runner's context that ended because the
	// process drains and the drain time is over.
	ErrShutdown = errors.New("webtrigger: interrupted by shutdown")

	// ErrCancelled is the cause of a Runner's context that ended because the
	// run's cancellation was requested.
	ErrCancelled = errors.New("webtrigger: run cancelled")

	// ErrDeadline is the cause of a Runner's context that ended because the run
	// took longer than [Options.RunTimeout].
	ErrDeadline = errors.New("webtrigger: deadline exceeded")
)

// RequestError is a request that is well-formed and wrong: the caller's fault,
// safe to show. It holds every fault found, not the first. HTTP shows it as 422.
type RequestError struct {
	Faults []Fault // never empty
}

// Fault is one thing wrong with a request and where.
type Fault struct {
	Pointer string // RFC 6901 JSON Pointer into the request; "" is the whole request
	Detail  string // a sentence part without a full stop, such as "must not be blank"
}

func (e *RequestError) Error() string {
	parts := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		parts[i] = strings.TrimSpace(f.Pointer + " " + f.Detail)
	}
	return "webtrigger: invalid request: " + strings.Join(parts, "; ")
}

// faults gathers what is wrong with a request; err is nil when nothing is.
type faults []Fault

func (f *faults) add(pointer, detail string) { *f = append(*f, Fault{pointer, detail}) }

// on reports whether pointer already has a fault, so that one wrong value is
// not reported twice.
func (f *faults) on(pointer string) bool {
	for _, x := range *f {
		if x.Pointer == pointer {
			return true
		}
	}
	return false
}

func (f *faults) err() error {
	if len(*f) == 0 {
		return nil
	}
	return &RequestError{Faults: *f}
}

func init() {
	bridge.WriteError = func(svc any, w http.ResponseWriter, r *http.Request, err error) {
		svc.(*Service).writeError(w, r, err)
	}
}

// writeError responds to r with err as application/problem+json (RFC 9457). It
// is the only place that maps errors to statuses, for this package and for
// package admin. An unknown error is logged with the request id and sent as a
// 500 without its text, so no internal detail reaches the client.
func (s *Service) writeError(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil && errors.Is(err, r.Context().Err()) {
		return // the client has gone
	}
	s.problem(w, r, err).Write(w)
}

func (s *Service) problem(w http.ResponseWriter, r *http.Request, err error) *wire.Problem {
	var (
		known   *wire.Problem
		request *RequestError
		syntax  *strictjson.SyntaxError
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &syntax):
		return wire.BadRequest("malformed_json", syntax.Detail)
	case errors.As(err, &request):
		list := make([]wire.FieldError, len(request.Faults))
		for i, f := range request.Faults {
			list[i] = wire.FieldError(f)
		}
		return wire.Unprocessable(list)
	case errors.Is(err, ErrNotFound):
		return wire.NotFound()
	case errors.Is(err, ErrConflict):
		return &wire.Problem{Status: http.StatusConflict, Code: "conflict",
			Detail: "The current state of the resource does not allow this operation. Check the state and try again."}
	case errors.Is(err, ErrChannelDisabled):
		return &wire.Problem{Status: http.StatusForbidden, Code: "channel_disabled",
			Detail: "This assistant does not accept web triggers."}
	case errors.Is(err, ErrIdempotencyKeyReused):
		return &wire.Problem{Status: http.StatusUnprocessableEntity, Code: "idempotency_key_reused",
			Detail: "This Idempotency-Key was already used with a different request body. Use a new key."}
	case errors.Is(err, ErrQueueFull):
		return queueFull(s.opts.Limits.QueuedPerAssistant)
	case errors.Is(err, ErrUnauthenticated):
		return &wire.Problem{Status: http.StatusUnauthorized, Code: "unauthenticated", Detail: "You are not signed in. Sign in and try again."}
	case errors.Is(err, ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		s.log.WarnContext(r.Context(), "store unavailable", "request_id", wire.RequestID(w), "error", err)
		return &wire.Problem{Status: http.StatusServiceUnavailable, Code: "unavailable",
			Detail: "The service is temporarily unavailable. Try again after the delay in Retry-After.", RetryAfter: time.Second}
	}
	s.log.ErrorContext(r.Context(), "request failed", "request_id", wire.RequestID(w),
		"method", r.Method, "path", r.URL.Path, "error", err)
	return &wire.Problem{Status: http.StatusInternalServerError, Code: "internal_error",
		Detail: "An internal error occurred. Contact the operator and include the X-Request-Id of this response."}
}
