package webtrigger

import (
	"encoding/json"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// Event is one step in the life of a run.
type Event struct {
	ID             int64 // rises within the conversation; the cursor of its streams
	Sequence       int64 // 1, 2, 3 … within the run, without a hole
	RunID          int64
	RunKey         string
	ConversationID int64
	Type           EventType
	Payload        json.RawMessage // a JSON object, at most MaxEventPayloadBytes bytes
	CreatedAt      time.Time
}

// NewEvent is an event to be stored.
type NewEvent struct {
	Type    EventType
	Payload json.RawMessage // a JSON object
}

// MaxEventPayloadBytes bounds one event's payload, in bytes of JSON.
const MaxEventPayloadBytes = 256 << 10

// EventType names what happened. Types that begin with x_ are a Runner's own.
type EventType string

// The life of a run. Only the library writes these.
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

// What a Runner may emit besides its own x_ types. The payload fields in
// parentheses are what readers rely on.
const (
	EventMessageDelta     EventType = "message_delta"     // (text) a piece of the message under way
	EventMessageCompleted EventType = "message_completed" // (text) a whole message
	EventToolStarted      EventType = "tool_started"      // (tool, call_id, arguments)
	EventToolCompleted    EventType = "tool_completed"    // (tool, call_id, arguments, result)
	EventToolFailed       EventType = "tool_failed"       // (tool, call_id, arguments, error)
	EventModelCompleted   EventType = "model_completed"   // (model, duration_ms, usage)
)

// Terminal reports whether the event is the last of its run.
func (t EventType) Terminal() bool {
	switch t {
	case EventRunCompleted, EventRunFailed, EventRunCancelled, EventRunTimedOut:
		return true
	}
	return false
}

// RequeueReason says why a taken run went back to the queue.
type RequeueReason string

// Why a run is requeued.
const (
	RequeueHeartbeat RequeueReason = "heartbeat timeout"
	RequeueShutdown  RequeueReason = "shutdown"
)

// QueuedEvent is the first event of every run.
func QueuedEvent() NewEvent {
	return NewEvent{Type: EventRunQueued, Payload: json.RawMessage(`{}`)}
}

// StartedEvent is stored whenever a run is taken; attempt counts from 1.
func StartedEvent(attempt int) NewEvent {
	return NewEvent{Type: EventRunStarted, Payload: mustJSON(struct {
		Attempt int `json:"attempt"`
	}{attempt})}
}

// CancelRequestedEvent is stored when a cancellation is recorded.
func CancelRequestedEvent(stop Stop) NewEvent {
	return NewEvent{Type: EventCancelRequested, Payload: mustJSON(struct {
		Reason *string `json:"reason"`
	}{wire.NullableString(stop.StatusDetail)})}
}

// RequeuedEvent is stored when a taken run goes back to the queue.
func RequeuedEvent(reason RequeueReason) NewEvent {
	return NewEvent{Type: EventRunRequeued, Payload: mustJSON(struct {
		Reason RequeueReason `json:"reason"`
	}{reason})}
}

// mustJSON marshals a value of a fixed, harmless shape.
func mustJSON(v any) json.RawMessage {
	raw, err := wire.Marshal(v)
	if err != nil {
		panic("webtrigger: marshal: " + err.Error())
	}
	return raw
}
