package webtrigger

import (
	"errors"
	"net/http"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// Limits bounds what callers may ask of the trigger endpoint. Zero: nothing is
// bounded. What is refused is answered with 429 and Retry-After, is judged after
// everything else about the request, and uses up nothing; a replay by
// Idempotency-Key is never refused.
type Limits struct {
	// TriggersPerKey is how many triggers an API key may make in Window: a bucket of
	// so many, which fills evenly, so that a key which has rested may use them at
	// once. Each process counts by itself: n processes let n times as many pass.
	// Triggers without a key (Go calls, ServeTrigger) are not counted. 0: no limit.
	TriggersPerKey int

	// Window is what TriggersPerKey counts for, in whole seconds. 0: 1 min.
	Window time.Duration

	// QueuedPerAssistant is how many runs of an assistant may wait in the queue, over
	// all processes, whoever triggers: [Service.Trigger] and [Service.TriggerVia]
	// return [ErrQueueFull]. A run that is executed at once does not wait. Runs that
	// were accepted while it was 0 do not count. 0: no limit.
	QueuedPerAssistant int
}

// complete checks l and puts the default where it is zero.
func (l *Limits) complete() error {
	if l.TriggersPerKey < 0 || l.QueuedPerAssistant < 0 {
		return errors.New("neither TriggersPerKey nor QueuedPerAssistant may be negative")
	}
	if l.Window == 0 {
		l.Window = time.Minute
	}
	if l.Window < time.Second || l.Window%time.Second != 0 {
		return errors.New("the Window must be whole seconds")
	}
	return nil
}

// queueRetry is when a caller may try again whose run found the queue full. How
// long that takes is up to the runs before it.
const queueRetry = 5 * time.Second

func queueFull(limit int) *wire.Problem {
	return &wire.Problem{Status: http.StatusTooManyRequests, Code: "queue_full",
		Detail: "Too many runs of this assistant wait already.", RetryAfter: queueRetry,
		Quota: &wire.Quota{Policy: "queue", Limit: limit, Unit: "concurrent-requests", Reset: queueRetry}}
}

func rateLimited(q wire.Quota) *wire.Problem {
	return &wire.Problem{Status: http.StatusTooManyRequests, Code: "rate_limited",
		Detail: "This API key has made too many triggers.", RetryAfter: q.Reset, Quota: &q}
}
