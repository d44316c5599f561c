package webtrigger

import (
	"context"
	"fmt"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/egress"
)

// Delivery is the one POST that a run's end owes to its callback_url, or one
// more of them: a retry by [CallbackOptions.Retry], or a redelivery that an
// operator asked for. Each is an attempt of its own and leaves a record of its
// own.
type Delivery struct {
	ID             int64
	RunID          int64
	RunKey         string
	ConversationID int64
	AssistantID    string
	URL            string
	Host           string // host:port of the URL, the name in lower case; what caps and rests go by
	State          DeliveryState
	Retry          int // how many retries led to it; 0: owed by the run's end or by an operator
	CreatedAt      time.Time
	DueAt          time.Time     // not attempted before; CreatedAt unless it is a retry
	AttemptedAt    time.Time     // when the POST was claimed; zero: it was not
	CompletedAt    time.Time     // when the outcome was recorded; zero: none
	HTTPStatus     int           // 0: no answer
	Latency        time.Duration // of the exchange after the connection stood
	ErrorClass     string        // "": none; else a stable word, see below
	Error          string        // a sentence; "": none
	Response       string        // the first 4 KiB of the answer's body, made valid UTF-8 without NUL
}

// The words of Delivery.ErrorClass. Whether the receiver may have seen the POST
// is told by Delivery.AttemptedAt: without it nothing was written.
const (
	ErrorBlocked  = egress.ClassBlocked  // "blocked": the guard refused the URL or an address
	ErrorDNS      = egress.ClassDNS      // "dns": the name does not exist, or no name server gave an answer
	ErrorConnect  = egress.ClassConnect  // "connect": no address accepted the connection
	ErrorTLS      = egress.ClassTLS      // "tls": handshake or certificate
	ErrorTimeout  = egress.ClassTimeout  // "timeout": the 10 s were over, before or after the POST was written
	ErrorBroken   = egress.ClassBroken   // "broken": the connection ended before the head of an answer
	ErrorProtocol = egress.ClassProtocol // "protocol": the answer is not HTTP/1.1, or its head is over 32 KiB
	ErrorStatus   = "status"             // an answer other than 2xx
	ErrorInternal = egress.ClassInternal // "internal": a mistake on this side
)

// CallbackOutcome is how the last delivery of a run that has an outcome ended.
type CallbackOutcome struct {
	DeliveryID int64         // 0: none has an outcome yet
	State      DeliveryState // delivered, failed, blocked or unknown
	HTTPStatus int           // 0: no answer
	ErrorClass string        // "": none
	At         time.Time     // when it was recorded, or when it was found unknown
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

// Delivery returns one delivery.
func (s *Service) Delivery(ctx context.Context, deliveryID int64) (Delivery, error) {
	return s.store.Delivery(ctx, deliveryID)
}

// Deliveries lists the deliveries of a run, oldest first. A run that owes none,
// and an absent run, has none.
func (s *Service) Deliveries(ctx context.Context, runID int64) ([]Delivery, error) {
	return s.store.Deliveries(ctx, runID)
}

// Redeliver owes a run's callback once more, on an operator's word: it returns
// a new pending delivery to the URL of the given one, which Work sends in some
// process. ErrConflict says that the run has a delivery pending or under way.
//
// The receiver sees the same body again; the run_key in it tells it that it is a
// repetition.
func (s *Service) Redeliver(ctx context.Context, deliveryID int64) (Delivery, error) {
	delivery, err := s.store.Redeliver(ctx, deliveryID)
	if err != nil {
		return Delivery{}, fmt.Errorf("redeliver: %w", err)
	}
	s.log.InfoContext(ctx, "redelivery requested", "assistant_id", delivery.AssistantID,
		"run_id", delivery.RunID, "run_key", delivery.RunKey, "delivery_id", delivery.ID, "of_delivery_id", deliveryID)
	return delivery, nil
}
