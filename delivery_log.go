package webtrigger

import (
	"context"
	"fmt"
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
