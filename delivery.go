package webtrigger

import (
	"context"
	"fmt"
	"time"
)

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
