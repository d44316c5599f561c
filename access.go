package webtrigger

import "net/http"

// Authorizer is the host's word on whether the request's session may do
// something: the same function serves the event stream and the admin handler.
// It answers nil, or [ErrUnauthenticated] when nobody is signed in (shown as
// 401), or any other error (shown as the 404 of an absent thing). It writes
// nothing to the client. During a long stream it is asked again; there an error
// that wraps [ErrUnavailable] says that it cannot tell now, and the stream waits.
type Authorizer func(r *http.Request, access Access) error

// Access is what an Authorizer judges.
type Access struct {
	Action Action

	// AssistantID is whose data it is about. Empty: all assistants, for a list
	// that names none, or a thing that does not exist: refusing those to
	// everyone but administrators gives nothing away.
	AssistantID string

	// ConversationID is set where one conversation is concerned, else 0.
	ConversationID int64
}

// Action is what a request wants to do.
type Action string

// The actions that an Authorizer is asked about. ActionReadEvents is the event
// stream's; the others are the admin handler's.
const (
	ActionReadEvents           Action = "events.read"
	ActionReadChannel          Action = "channel.read"
	ActionWriteChannel         Action = "channel.write"
	ActionReadKeys             Action = "keys.read"
	ActionWriteKeys            Action = "keys.write"
	ActionReadTaskDefinitions  Action = "tasks.read"
	ActionWriteTaskDefinitions Action = "tasks.write"
	ActionReadRuns             Action = "runs.read"
	ActionWriteRuns            Action = "runs.write" // cancel, test triggers
	ActionReadDeliveries       Action = "deliveries.read"
	ActionWriteDeliveries      Action = "deliveries.write" // redeliver, test callbacks
	ActionReadAssistants       Action = "assistants.read"
)
