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
	FailureClass   FailureClass  // "": none
	Error          string        // a sentence; "": none
	Response       string        // the first 4 KiB of the answer's body, made valid UTF-8 without NUL
}

// FailureClass names the kind of a failure, with a word that does not change.
type FailureClass string

// The classes of failures. Delivery.AttemptedAt says whether the receiver may
// have seen the POST: if it is zero, nothing was written.
const (
	FailureBlocked  FailureClass = egress.ClassBlocked  // the egress guard blocked the URL or an address
	FailureDNS      FailureClass = egress.ClassDNS      // the name does not exist, or no name server answered
	FailureConnect  FailureClass = egress.ClassConnect  // no address accepted the connection
	FailureTLS      FailureClass = egress.ClassTLS      // the handshake failed, or the certificate is not valid
	FailureTimeout  FailureClass = egress.ClassTimeout  // the 10 s were over, before or after the POST was written
	FailureBroken   FailureClass = egress.ClassBroken   // the connection ended before the head of a response
	FailureProtocol FailureClass = egress.ClassProtocol // the response is not HTTP/1.1, or its head exceeds 32 KiB
	FailureStatus   FailureClass = "status"             // the response status is not 2xx
	FailureInternal FailureClass = egress.ClassInternal // an error of this process
)

// CallbackOutcome is how the last delivery of a run that has an outcome ended.
type CallbackOutcome struct {
	DeliveryID   int64         // 0: none has an outcome yet
	State        DeliveryState // delivered, failed, blocked or unknown
	HTTPStatus   int           // 0: no answer
	FailureClass FailureClass  // "": none
	At           time.Time     // when it was recorded, or when it was found unknown
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
