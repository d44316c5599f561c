package webtrigger

import (
	"context"
	"net/http"
)

// Hooks are called as a [Service] works, for tracing and metrics; the module
// otelwebtrigger fills them with OpenTelemetry. Each may be nil. They are
// called on the path of what they tell of, from many goroutines at once: they
// return quickly and do not panic. What a hook returns may be nil.
//
// A hook with the result (context.Context, func) is the beginning of something:
// the context, nil for the one given, goes on with it, and the function is called
// once at its end.
type Hooks struct {
	// Request is a request to [Service.ServeHTTP], [Service.ServeTrigger] or
	// [Service.EventsHandler], before it is judged. route is the pattern of its
	// path, such as "/api/v1/web-triggers/{trigger_id}/status", or "" for none of
	// ours. The context begins from r.Context(). ended gets the status that was
	// answered, 0 when nothing was.
	Request func(r *http.Request, route string) (ctx context.Context, ended func(status int))

	// TraceParent is the W3C traceparent of what goes on under ctx, "" for none. It
	// is asked when a trigger is accepted, for the run, and before a callback is
	// sent, for its header. Without it, or with "", the traceparent of the request
	// is kept, and the one that was kept is sent.
	TraceParent func(ctx context.Context) string

	// Accepted is a trigger that was answered: stored, or a replay of one that
	// stood already.
	Accepted func(ctx context.Context, run Run, replayed bool)

	// Run is one attempt of a run, from when its Runner is called in this process
	// until its end is stored. Its Runner gets the context. The run waited from
	// run.CreatedAt to run.StartedAt, on the store's clock, when run.Attempts is 1;
	// run.TraceParent is what it continues. ended gets the run as it is then: ended,
	// or queued again, or still running when the lease was lost before.
	Run func(ctx context.Context, run Run) (attempt context.Context, ended func(run Run))

	// Ended is a run that this process has ended, however: finished by its worker,
	// cancelled while queued, or swept. It is called at most once for a run, by one
	// process: not at all when that crashes in between or does not get the store's
	// answer.
	Ended func(ctx context.Context, run Run)

	// Abandoned is a Runner that did not return within [Options.CancelGrace] after
	// its context had ended. returned is called if it does after all.
	Abandoned func(run Run) (returned func())

	// Callback is one attempt to deliver a callback, from before its name is
	// resolved. ended gets how it went; the zero DeliveryOutcome says that it could
	// not be claimed and that nothing was sent.
	Callback func(ctx context.Context, delivery Delivery, run Run) (attempt context.Context, ended func(DeliveryOutcome))

	// Stream is an event stream that was opened; closed is called at its end.
	Stream func(ctx context.Context, conversationID int64) (closed func())
}

// request begins a request. The writer tells its status to done.
func (h *Hooks) request(w http.ResponseWriter, r *http.Request, route string) (http.ResponseWriter, *http.Request, func()) {
	if h.Request == nil {
		return w, r, func() {}
	}
	ctx, ended := h.Request(r, route)
	if ctx != nil {
		r = r.WithContext(ctx)
	}
	if ended == nil {
		return w, r, func() {}
	}
	seen := &statusWriter{ResponseWriter: w}
	return seen, r, func() { ended(seen.status) }
}

// statusWriter remembers the status that was answered.
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

// traceParent is what goes on under ctx, else what it continues. What is not a
// traceparent is none.
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

func (h *Hooks) accepted(ctx context.Context, accepted CreatedTrigger) {
	if h.Accepted != nil {
		h.Accepted(ctx, accepted.Run, accepted.Replayed)
	}
}

func (h *Hooks) run(ctx context.Context, run Run) (context.Context, func(Run)) {
	if h.Run != nil {
		attempt, ended := h.Run(ctx, run)
		if attempt != nil {
			ctx = attempt
		}
		if ended != nil {
			return ctx, ended
		}
	}
	return ctx, func(Run) {}
}

// ended tells of a run that was not over before and is now.
func (h *Hooks) ended(ctx context.Context, run Run) {
	if h.Ended != nil && run.Status.Terminal() {
		h.Ended(ctx, run)
	}
}

func (h *Hooks) abandoned(run Run) (returned func()) {
	if h.Abandoned != nil {
		if returned = h.Abandoned(run); returned != nil {
			return returned
		}
	}
	return func() {}
}

func (h *Hooks) callback(ctx context.Context, d LeasedDelivery) (context.Context, func(DeliveryOutcome)) {
	if h.Callback != nil {
		attempt, ended := h.Callback(ctx, d.Delivery, d.Run)
		if attempt != nil {
			ctx = attempt
		}
		if ended != nil {
			return ctx, ended
		}
	}
	return ctx, func(DeliveryOutcome) {}
}

func (h *Hooks) stream(ctx context.Context, conversationID int64) (closed func()) {
	if h.Stream != nil {
		if closed = h.Stream(ctx, conversationID); closed != nil {
			return closed
		}
	}
	return func() {}
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
