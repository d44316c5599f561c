package webtrigger

import (
	"context"
	"net/http"

	"github.com/webtrigger-go/webtrigger/internal/hook"
)

// Hooks are functions that a [Service] calls for tracing and metrics. The module
// otelwebtrigger implements them with OpenTelemetry. Each may be nil. Hooks run
// synchronously on the path that they observe, from many goroutines concurrently.
// They must return quickly and must not panic.
//
// A hook with an Info argument and no result reports a moment. A hook that returns
// a context and a function reports the beginning of an operation: the operation
// uses the context, or the one that the hook received if it is nil. The function is
// called once when the operation ends; it may be nil. Fields may be added to the
// structs in minor versions.
type Hooks struct {
	// Request is called for a request to [Service.Handler], [Service.ServeHTTP],
	// [Service.ServeTrigger] or [Service.EventsHandler], before it is validated.
	Request func(ctx context.Context, info RequestInfo) (context.Context, func(RequestOutcome))

	// TraceParent returns the W3C traceparent of the operation under ctx, or "". It is
	// called when a trigger is created, for the run, and before a callback is sent,
	// for its header. If it is nil or returns "", the run keeps the traceparent of the
	// request, and the callback sends the one of the run. It reports nothing, so it
	// has no Info.
	TraceParent func(ctx context.Context) string

	// Triggered is called for each trigger that was created or replayed.
	Triggered func(ctx context.Context, info TriggerInfo)

	// Run is called for each attempt of a run, before its Runner is called in this
	// process. The Runner gets the context. The attempt ends when its outcome is
	// stored.
	Run func(ctx context.Context, info RunInfo) (context.Context, func(RunOutcome))

	// Ended is called for each run that this process has ended: its worker finished
	// it, it was cancelled while queued, or a sweep ended it. It is called at most
	// once for a run, by one process, except that simultaneous cancellations of a
	// queued run may each report it. It is not called if the process crashes in
	// between or does not get the result from the store.
	Ended func(ctx context.Context, info EndedInfo)

	// Abandoned is called for a Runner that did not return within
	// [Options.CancelGrace] after its context ended. It ends if the Runner returns
	// later. The context that it returns is not used.
	Abandoned func(ctx context.Context, info AbandonedInfo) (context.Context, func(AbandonedOutcome))

	// Callback is called for each attempt at a delivery, before its host name is
	// resolved. The zero DeliveryOutcome means that the delivery could not be claimed
	// and that nothing was sent.
	Callback func(ctx context.Context, info CallbackInfo) (context.Context, func(DeliveryOutcome))

	// Stream is called for each event stream that is opened, and ends with it. The
	// context that it returns is not used.
	Stream func(ctx context.Context, info StreamInfo) (context.Context, func(StreamOutcome))
}

// RequestInfo describes a request that begins.
type RequestInfo struct {
	Request *http.Request // must not be changed

	// Route is the pattern of the path, such as
	// "/api/v1/web-triggers/{trigger_id}/status". It is "" for an unknown path.
	Route string
}

// RequestOutcome describes a request that has ended.
type RequestOutcome struct {
	Status int // of the response; 0 if there was none, or if the request's context has ended before it
}

// TriggerInfo describes a created trigger.
type TriggerInfo struct {
	Run      Run
	Replayed bool // the trigger was created by an earlier request
}

// RunInfo describes an attempt that begins. If Run.Attempts is 1, the run was
// queued from Run.CreatedAt to Run.StartedAt, by the store's clock.
// Run.TraceParent is the traceparent that it continues.
type RunInfo struct {
	Run Run
}

// RunOutcome describes an attempt that has ended.
type RunOutcome struct {
	Run Run // ended, or requeued, or still running if the lease was lost
}

// EndedInfo describes a run that has ended.
type EndedInfo struct {
	Run Run
}

// AbandonedInfo describes an abandoned Runner.
type AbandonedInfo struct {
	Run Run
}

// AbandonedOutcome describes an abandoned Runner that has returned.
type AbandonedOutcome struct{}

// CallbackInfo describes an attempt at a delivery.
type CallbackInfo struct {
	Delivery Delivery
	Run      Run
}

// StreamInfo describes an event stream that was opened.
type StreamInfo struct {
	ConversationID int64
}

// StreamOutcome describes an event stream that has ended.
type StreamOutcome struct{}

// request calls the Request hook. The returned writer records the status for done.
func (h *Hooks) request(w http.ResponseWriter, r *http.Request, route string) (_ http.ResponseWriter, _ *http.Request, done func()) {
	if h.Request == nil {
		return w, r, func() {}
	}
	ctx, ended := hook.Begin(r.Context(), h.Request, RequestInfo{Request: r, Route: route})
	seen := &statusWriter{ResponseWriter: w}
	return seen, r.WithContext(ctx), func() { ended(RequestOutcome{Status: seen.status}) }
}

// statusWriter records the status of the response.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for [http.ResponseController].
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// traceParent returns the traceparent of the operation under ctx, otherwise the one
// that it continues. An invalid traceparent is ignored.
func (h *Hooks) traceParent(ctx context.Context, continued string) string {
	if h.TraceParent != nil {
		if own := h.TraceParent(ctx); validTraceParent(own) {
			return own
		}
	}
	if validTraceParent(continued) {
		return continued
	}
	return ""
}

func (h *Hooks) triggered(ctx context.Context, created CreatedTrigger) {
	if h.Triggered != nil {
		h.Triggered(ctx, TriggerInfo{Run: created.Run, Replayed: created.Replayed})
	}
}

// ended reports a run that had not ended before and has now.
func (h *Hooks) ended(ctx context.Context, run Run) {
	if h.Ended != nil && run.Status.Terminal() {
		h.Ended(ctx, EndedInfo{Run: run})
	}
}

// validTraceParent reports whether s is a traceparent (W3C Trace Context §3.2):
// version, trace id, parent id and flags in lowercase hex, the ids not all zero.
// A version that is yet to come may have more after them.
func validTraceParent(s string) bool {
	const length = 55
	if len(s) < length || len(s) > 255 || s[:2] == "ff" {
		return false
	}
	if len(s) > length && (s[:2] == "00" || s[length] != '-') {
		return false
	}
	zero := [2]bool{true, true} // trace id, parent id
	for i := range len(s) {
		c := s[i]
		switch {
		case i >= length:
			if c <= ' ' || c >= 0x7f {
				return false
			}
			continue
		case i == 2 || i == 35 || i == 52:
			if c != '-' {
				return false
			}
			continue
		case (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return false
		}
		if c != '0' && i > 2 && i < 35 {
			zero[0] = false
		}
		if c != '0' && i > 35 && i < 52 {
			zero[1] = false
		}
	}
	return !zero[0] && !zero[1]
}
