package webtrigger

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/bridge"
	"github.com/webtrigger-go/webtrigger/internal/strictjson"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// Sentinel errors that Service methods and a [Store] return. Compare them with
// [errors.Is]. The text of the wrapping error is for people.
var (
	// ErrNotFound reports that the resource does not exist or that the caller has no
	// access to it.
	ErrNotFound = errors.New("webtrigger: not found")

	// ErrConflict reports that the current state of the resource does not allow the
	// call. An example is the redelivery of a delivery that is still pending.
	ErrConflict = errors.New("webtrigger: conflict")

	// ErrLeaseLost reports that a run is no longer leased under the lease of a write:
	// the run has ended, or was requeued or swept. Nothing was written. It also reports
	// that a process is not registered or is lost. It is also the cause of a Runner's
	// context that ended for this reason, because the lease of its process expired with
	// MaxAttempts above 1, or because the store did not accept its events.
	ErrLeaseLost = errors.New("webtrigger: lease lost")

	// ErrChannelDisabled reports that the assistant's channel does not accept
	// triggers.
	ErrChannelDisabled = errors.New("webtrigger: channel disabled")

	// ErrKeyChanged reports that an API key, or its assistant's channel, no longer
	// permits triggers. A [Store] returns it for [NewTrigger.CheckKey].
	ErrKeyChanged = errors.New("webtrigger: API key or channel changed")

	// ErrIdempotencyKeyReused reports that the idempotency key was used for another
	// request body within its lifetime.
	ErrIdempotencyKeyReused = errors.New("webtrigger: idempotency key reused")

	// ErrQueueFull reports that the assistant has [Limits.QueuedPerAssistant] queued
	// runs already. HTTP returns it as 429.
	ErrQueueFull = errors.New("webtrigger: queue full")

	// ErrConversationBusy reports that a run of the conversation has not ended and that
	// the trigger asked for [BusyReject]. HTTP returns it as 409.
	ErrConversationBusy = errors.New("webtrigger: conversation busy")

	// ErrConversationFull reports that the conversation has [MaxUnfinishedRuns]
	// unfinished runs already. It wraps ErrQueueFull.
	ErrConversationFull = fmt.Errorf("webtrigger: conversation full: %w", ErrQueueFull)

	// ErrNotReady reports that a run cannot be claimed yet, because an earlier run of
	// its conversation has not ended, or because it waits for the answer of a person.
	ErrNotReady = errors.New("webtrigger: run not ready")

	// ErrWaiting reports that a run waits for the answer of a person. [AskInput] returns
	// it, and the Runner must return it too.
	ErrWaiting = errors.New("webtrigger: waiting for input")

	// ErrAlreadyAnswered reports that a request for input has another answer already.
	// HTTP returns it as 409.
	ErrAlreadyAnswered = errors.New("webtrigger: input already answered")

	// ErrInputClosed reports that a request for input cannot be answered any more: it
	// has expired, or its run has ended. HTTP returns it as 410.
	ErrInputClosed = errors.New("webtrigger: input closed")

	// ErrUnavailable reports that the store cannot answer now and that a retry may
	// succeed. HTTP returns it as 503 with Retry-After.
	ErrUnavailable = errors.New("webtrigger: store unavailable")

	// ErrNotStored reports, together with ErrUnavailable, that a write was not stored
	// and will not be stored later. Without it, the outcome of a write is unknown.
	// HTTP then returns the creation of a trigger as 503 with the code
	// outcome_unknown.
	ErrNotStored = errors.New("webtrigger: nothing was stored")

	// ErrUnauthenticated reports that the request has no signed-in user. An
	// [Authorizer] returns it. HTTP returns it as 401. Any other denial returns the
	// 404 of a resource that does not exist.
	ErrUnauthenticated = errors.New("webtrigger: not signed in")

	// ErrShutdown is the cause of a Runner's context that ended because the process
	// drains and [Options.DrainTimeout] has passed.
	ErrShutdown = errors.New("webtrigger: interrupted by shutdown")

	// ErrCancelled is the cause of a Runner's context that ended because a caller or
	// operator requested cancellation of the run.
	ErrCancelled = errors.New("webtrigger: run cancelled")

	// ErrDeadline is the cause of a Runner's context that ended because the attempt
	// exceeded [Options.RunTimeout].
	ErrDeadline = errors.New("webtrigger: deadline exceeded")

	// ErrStepsMismatch reports that a record of [Step] does not fit the Runner: the step
	// had another input, or a result of another type. It is also the cause of the
	// Runner's context, which then ends. The run fails.
	ErrStepsMismatch = errors.New("webtrigger: the recorded steps do not fit this Runner")

	// ErrOutcomeUnknown reports that an earlier attempt has begun a step with
	// [StepOptions.AtMostOnce] and has not recorded its result. The step may have been
	// executed.
	ErrOutcomeUnknown = errors.New("webtrigger: outcome of the step unknown")
)

// RequestError reports that a well-formed request has invalid values. It contains
// every fault that was found and is safe to show to the caller. HTTP returns it as
// 422.
type RequestError struct {
	Faults []Fault // never empty
}

// Fault describes one invalid value of a request.
type Fault struct {
	Pointer string // RFC 6901 JSON Pointer into the request; "" for the whole request
	Detail  string // a predicate without a full stop, such as "must not be blank"
}

// Error returns all faults in one line.
func (e *RequestError) Error() string {
	parts := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		parts[i] = strings.TrimSpace(f.Pointer + " " + f.Detail)
	}
	return "webtrigger: invalid request: " + strings.Join(parts, "; ")
}

// faults collects the faults of a request; err is nil if there are none.
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
	ended := r.Context().Err()
	if ended == nil || !errors.Is(err, ended) || errors.Is(err, errCreation) {
		s.problem(w, r, err).Write(w)
		return
	}
	// The client has disconnected, and the hooks see no response. If it has not, because
	// it has closed only its half of the connection or the host has ended the context, it
	// must get a response: that of a handler which writes nothing is 200.
	if seen, ok := w.(*statusWriter); ok {
		w = seen.ResponseWriter
	}
	unavailable().Write(w)
}

// unavailable is the 503 of a request that had no effect.
func unavailable() *wire.Problem {
	return &wire.Problem{Status: http.StatusServiceUnavailable, Code: "unavailable",
		Detail: "The service is temporarily unavailable. Try again after the delay in Retry-After.", RetryAfter: time.Second}
}

// errCreation marks the errors of the one write of a request that may be stored
// although its caller gets an error.
var errCreation = errors.New("create trigger")

// storeAway reports whether the store may answer the same call later.
func storeAway(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
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
	case errors.Is(err, ErrConversationBusy):
		return &wire.Problem{Status: http.StatusConflict, Code: "conversation_busy",
			Detail: "A run of this conversation has not ended. Try again when it has ended, or send another on_busy."}
	case errors.Is(err, ErrAlreadyAnswered):
		return &wire.Problem{Status: http.StatusConflict, Code: "already_answered",
			Detail: "This request for input has another answer already. The first answer counts."}
	case errors.Is(err, ErrInputClosed):
		return &wire.Problem{Status: http.StatusGone, Code: "input_closed",
			Detail: "This request for input has expired, or its run does not wait for it any more."}
	case errors.Is(err, ErrConversationFull):
		return conversationFull()
	case errors.Is(err, ErrQueueFull):
		return queueFull(s.opts.Limits.QueuedPerAssistant)
	case errors.Is(err, ErrUnauthenticated):
		return &wire.Problem{Status: http.StatusUnauthorized, Code: "unauthenticated", Detail: "You are not signed in. Sign in and try again."}
	case storeAway(err):
		s.log.WarnContext(r.Context(), "store unavailable", "request_id", wire.RequestID(w), "error", err)
		if errors.Is(err, errCreation) && !errors.Is(err, ErrNotStored) {
			return &wire.Problem{Status: http.StatusServiceUnavailable, Code: "outcome_unknown",
				Detail:     "The trigger may have been stored. Try again with the same Idempotency-Key after the delay in Retry-After.",
				RetryAfter: time.Second}
		}
		return unavailable()
	}
	s.log.ErrorContext(r.Context(), "request failed", "request_id", wire.RequestID(w),
		"method", r.Method, "path", r.URL.Path, "error", err)
	return &wire.Problem{Status: http.StatusInternalServerError, Code: "internal_error",
		Detail: "An internal error occurred. Contact the operator and include the X-Request-Id of this response."}
}

// failure is a reason for a run's error_message: a sentence of our own, or the text of a
// Runner's error.
type failure string

func (f failure) Error() string { return string(f) }

// plainError returns an error without code of the Runner: the methods of err are called here,
// where a panic is recovered, such as that of a nil pointer in an error.
func plainError(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, ErrWaiting) {
		return ErrWaiting
	}
	return failure(err.Error())
}
