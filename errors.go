package webtrigger

import (
	"errors"
	"strings"
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
