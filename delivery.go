package webtrigger

import "time"

// Delivery is the one POST that a run's end owes to its callback_url, or one
// more of them that an operator asked for.
type Delivery struct {
	ID             int64
	RunID          int64
	RunKey         string
	ConversationID int64
	AssistantID    string
	URL            string
	State          DeliveryState
	CreatedAt      time.Time
	AttemptedAt    time.Time     // when the POST was claimed; zero: it was not
	CompletedAt    time.Time     // when the outcome was recorded; zero: none
	HTTPStatus     int           // 0: no answer
	Latency        time.Duration // of the exchange after the connection stood
	Error          string        // "": none
	Response       string        // the start of the answer's body
}

// DeliveryState is where a delivery stands; see [DeliveryStore] for the moves.
type DeliveryState string

// The states of a delivery.
const (
	DeliveryPending   DeliveryState = "pending"   // owed
	DeliverySending   DeliveryState = "sending"   // the POST is claimed
	DeliveryDelivered DeliveryState = "delivered" // answered 2xx
	DeliveryFailed    DeliveryState = "failed"    // not reached, or answered otherwise
	DeliveryBlocked   DeliveryState = "blocked"   // refused by the guard, nothing was sent
	DeliveryUnknown   DeliveryState = "unknown"   // claimed, and no outcome came back
)
