package webtrigger

import (
	"encoding/json"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// Event is one stored step of a run.
type Event struct {
	ID             int64 // rises within the conversation; the cursor of its event streams
	Sequence       int64 // 1, 2, 3 … within the run, without gaps
	RunID          int64
	RunKey         string
	ConversationID int64
	Type           EventType
	Payload        json.RawMessage // a JSON object, at most MaxEventPayloadBytes bytes
	CreatedAt      time.Time
}

// NewEvent is an event that the store creates.
type NewEvent struct {
	Type    EventType
	Payload json.RawMessage // a JSON object
}

// MaxEventPayloadBytes is the maximum size of one event's payload, in bytes of JSON.
const MaxEventPayloadBytes = 256 << 10

// EventType is the type of an event. Types that start with x_ are specific to a
// Runner.
type EventType string

// Event types of the run lifecycle. Only the library writes them.
const (
	EventRunQueued       EventType = "run_queued" // always sequence 1
	EventRunStarted      EventType = "run_started"
	EventCancelRequested EventType = "cancel_requested"
	EventRunRequeued     EventType = "run_requeued"
	EventRunCompleted    EventType = "run_completed"
	EventRunFailed       EventType = "run_failed"
	EventRunCancelled    EventType = "run_cancelled"
	EventRunTimedOut     EventType = "run_timed_out"
)

// Event types that a Runner may emit, besides its own x_ types. Readers rely on the
// payload fields in parentheses.
const (
	EventMessageDelta     EventType = "message_delta"     // (text) a piece of the current message
	EventMessageCompleted EventType = "message_completed" // (text) a complete message
	EventToolStarted      EventType = "tool_started"      // (tool, call_id, arguments)
	EventToolCompleted    EventType = "tool_completed"    // (tool, call_id, arguments, result)
	EventToolFailed       EventType = "tool_failed"       // (tool, call_id, arguments, error)
	EventModelCompleted   EventType = "model_completed"   // (model, duration_ms, usage)
)

// Terminal reports whether an event of this type is the last one of its run.
func (t EventType) Terminal() bool {
	switch t {
	case EventRunCompleted, EventRunFailed, EventRunCancelled, EventRunTimedOut:
		return true
	}
	return false
}

// RequeueReason is the reason why a claimed run was requeued.
type RequeueReason string

// Reasons for a requeue.
const (
	RequeueHeartbeat      RequeueReason = "heartbeat timeout"
	RequeueShutdown       RequeueReason = "shutdown"
	RequeueUnacknowledged RequeueReason = "unacknowledged" // the process did not learn that it had claimed the run
)

// QueuedEvent returns the first event of every run.
func QueuedEvent() NewEvent {
	return NewEvent{Type: EventRunQueued, Payload: json.RawMessage(`{}`)}
}

// StartedEvent returns the event that is stored when a run is claimed. attempt counts
// from 1.
func StartedEvent(attempt int) NewEvent {
	return NewEvent{Type: EventRunStarted, Payload: mustJSON(struct {
		Attempt int `json:"attempt"`
	}{attempt})}
}

// CancelRequestedEvent returns the event that is stored when a cancellation is
// recorded.
func CancelRequestedEvent(stop Stop) NewEvent {
	return NewEvent{Type: EventCancelRequested, Payload: mustJSON(struct {
		Reason *string `json:"reason"`
	}{wire.NullableString(stop.StatusDetail)})}
}

// RequeuedEvent returns the event that is stored when a claimed run is requeued.
func RequeuedEvent(reason RequeueReason) NewEvent {
	return NewEvent{Type: EventRunRequeued, Payload: mustJSON(struct {
		Reason RequeueReason `json:"reason"`
	}{reason})}
}

// mustJSON marshals a value that always has a JSON form.
func mustJSON(v any) json.RawMessage {
	raw, err := wire.Marshal(v)
	if err != nil {
		panic("webtrigger: marshal: " + err.Error())
	}
	return raw
}
