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
	EventInputRequested  EventType = "input_requested"
	EventInputReceived   EventType = "input_received"
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

// EventQuery selects events of one conversation. A page contains only events that
// match every cursor.
type EventQuery struct {
	ConversationID int64
	RunID          int64 // 0 for all runs
	AfterID        int64 // only higher ids
	AfterSequence  int64 // only higher sequences; requires RunID
	Limit          int
	MaxBytes       int // maximum size of the payloads of a page, which has at least one event; 0 for no limit
}

// EventPage is one read of the event log, as of one instant.
type EventPage struct {
	Events []Event
	More   bool  // Limit or MaxBytes ended the page; more events match the query
	LastID int64 // id of the conversation's last event, of any run; 0 if there is none
	Ended  bool  // every run that the query covers has ended and adds no more events

	// PurgedTo is the highest id of the purged events that match the query, after its
	// cursors. Events that still exist may have lower ids. If zero, no such event was
	// purged.
	PurgedTo int64
}

// Hint is a wake-up from the store. It may be incomplete. A zero Hint means that
// anything may have changed.
type Hint struct {
	Queued        bool    // runs are queued
	Pending       bool    // deliveries are pending
	Conversations []int64 // conversations with new events, other than those in Events
	Stopped       []int64 // runs whose stop was recorded

	// Events are new events of AppendEvents, as Events returns them, except that
	// RunKey may be missing. The events of one batch are adjacent. A store may list
	// their conversations in Conversations instead.
	Events []Event
}

// isZero reports whether the hint is the zero Hint.
func (h Hint) isZero() bool {
	return !h.Queued && !h.Pending && len(h.Conversations) == 0 && len(h.Stopped) == 0 && len(h.Events) == 0
}

// RequeueReason is the reason why a claimed run was requeued.
type RequeueReason string

// Reasons for a requeue.
const (
	RequeueHeartbeat      RequeueReason = "heartbeat timeout"
	RequeueShutdown       RequeueReason = "shutdown"
	RequeueUnacknowledged RequeueReason = "unacknowledged" // the process did not receive the response to its claim
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

// InputRequestedEvent returns the event that is stored when a run becomes waiting.
func InputRequestedEvent(input Input) NewEvent {
	return NewEvent{Type: EventInputRequested, Payload: mustJSON(input.View())}
}

// InputReceivedEvent returns the event that is stored with an answer. It has no answer
// and no reason.
func InputReceivedEvent(input Input) NewEvent {
	return NewEvent{Type: EventInputReceived, Payload: mustJSON(struct {
		ID         int64   `json:"id"`
		Decision   *string `json:"decision"`
		AnsweredBy *string `json:"answered_by"`
	}{input.ID, wire.NullableString(string(input.Answer.Decision)), wire.NullableString(input.Answer.By)})}
}

// mustJSON marshals a value that always has a JSON form.
func mustJSON(v any) json.RawMessage {
	raw, err := wire.Marshal(v)
	if err != nil {
		panic("webtrigger: marshal: " + err.Error())
	}
	return raw
}
