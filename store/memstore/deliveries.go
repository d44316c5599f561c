package memstore

import (
	"container/list"
	"context"
	"iter"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// delivery is a delivery with what only the store knows of it.
type delivery struct {
	webtrigger.Delivery
	run     *run
	token   int64     // of the last lease
	expires time.Time // pending: when the last lease ends; zero: never leased

	place *list.Element // pending, sending: its place in the list of that state
}

// held reports whether token is the last lease of a delivery that is pending,
// and has not expired.
func (d *delivery) held(token int64, now time.Time) bool {
	return d.State == webtrigger.DeliveryPending && d.token == token && now.Before(d.expires)
}

// open reports whether the delivery is yet to be sent or under way.
func (d *delivery) open() bool {
	return d.State == webtrigger.DeliveryPending || d.State == webtrigger.DeliverySending
}

// deliveryList holds deliveries of one state in the order in which they came.
type deliveryList struct{ list list.List }

func (l *deliveryList) add(d *delivery)    { d.place = l.list.PushBack(d) }
func (l *deliveryList) remove(d *delivery) { l.list.Remove(d.place) }

// all yields the deliveries; the current one may be removed meanwhile.
func (l *deliveryList) all() iter.Seq[*delivery] {
	return func(yield func(*delivery) bool) {
		for e := l.list.Front(); e != nil; {
			next := e.Next()
			if !yield(e.Value.(*delivery)) {
				return
			}
			e = next
		}
	}
}

// owe adds a pending delivery of the run's callback.
func (s *Store) owe(r *run, now time.Time) *delivery {
	d := &delivery{run: r, Delivery: webtrigger.Delivery{
		ID:             s.deliveries.nextID(),
		RunID:          r.ID,
		RunKey:         r.Key,
		ConversationID: r.ConversationID,
		AssistantID:    r.AssistantID,
		URL:            r.CallbackURL,
		State:          webtrigger.DeliveryPending,
		CreatedAt:      now,
	}}
	s.deliveries = append(s.deliveries, d)
	r.deliveries = append(r.deliveries, d)
	s.pending.add(d)
	s.hint.Owed = true
	return d
}

// become moves a delivery to another state, and to the list of that state where
// there is one.
func (s *Store) become(d *delivery, state webtrigger.DeliveryState) {
	switch d.State {
	case webtrigger.DeliveryPending:
		s.pending.remove(d)
	case webtrigger.DeliverySending:
		s.sending.remove(d)
	}
	d.State = state
	if state == webtrigger.DeliverySending {
		s.sending.add(d)
	}
}

// LeaseDeliveries implements [webtrigger.DeliveryStore].
func (s *Store) LeaseDeliveries(ctx context.Context, claim webtrigger.DeliveryClaim) ([]webtrigger.OwedDelivery, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	now := s.now()
	var owed []webtrigger.OwedDelivery
	for d := range s.pending.all() {
		if len(owed) == claim.Limit {
			break
		}
		if d.held(d.token, now) {
			continue
		}
		s.lastToken++
		d.token = s.lastToken
		d.expires = now.Add(claim.Lease)
		owed = append(owed, webtrigger.OwedDelivery{
			Delivery: d.Delivery,
			Run:      d.run.copy(),
			Lease:    webtrigger.DeliveryLease{DeliveryID: d.ID, Token: d.token},
		})
	}
	return owed, nil
}

// BeginDelivery implements [webtrigger.DeliveryStore].
func (s *Store) BeginDelivery(ctx context.Context, lease webtrigger.DeliveryLease) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	now := s.now()
	d := s.deliveries.get(lease.DeliveryID)
	if d == nil || !d.held(lease.Token, now) {
		return webtrigger.ErrLeaseLost
	}
	s.become(d, webtrigger.DeliverySending)
	d.AttemptedAt = now
	return nil
}

// FinishDelivery implements [webtrigger.DeliveryStore].
func (s *Store) FinishDelivery(ctx context.Context, lease webtrigger.DeliveryLease, end webtrigger.DeliveryOutcome) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	now := s.now()
	d := s.deliveries.get(lease.DeliveryID)
	if d == nil || d.token != lease.Token {
		return webtrigger.ErrLeaseLost
	}
	begun := d.State == webtrigger.DeliverySending || d.State == webtrigger.DeliveryUnknown
	if !begun && !d.held(lease.Token, now) {
		return webtrigger.ErrLeaseLost
	}
	s.become(d, end.State)
	d.CompletedAt = now
	d.HTTPStatus = end.HTTPStatus
	d.Latency = end.Latency
	d.Error = end.Error
	d.Response = end.Response
	return nil
}

// SweepDeliveries implements [webtrigger.DeliveryStore].
func (s *Store) SweepDeliveries(ctx context.Context, after time.Duration, limit int) ([]webtrigger.Delivery, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	now := s.now()
	var swept []webtrigger.Delivery
	for d := range s.sending.all() {
		if len(swept) == limit {
			break
		}
		if now.Sub(d.AttemptedAt) > after {
			s.become(d, webtrigger.DeliveryUnknown)
			swept = append(swept, d.Delivery)
		}
	}
	return swept, nil
}

// Delivery implements [webtrigger.DeliveryStore].
func (s *Store) Delivery(ctx context.Context, deliveryID int64) (webtrigger.Delivery, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.Delivery{}, err
	}
	defer s.unlock()
	d := s.deliveries.get(deliveryID)
	if d == nil {
		return webtrigger.Delivery{}, webtrigger.ErrNotFound
	}
	return d.Delivery, nil
}

// Deliveries implements [webtrigger.DeliveryStore]. An absent run has none.
func (s *Store) Deliveries(ctx context.Context, runID int64) ([]webtrigger.Delivery, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	r := s.runs.get(runID)
	if r == nil {
		return nil, nil
	}
	var deliveries []webtrigger.Delivery
	for _, d := range r.deliveries {
		deliveries = append(deliveries, d.Delivery)
	}
	return deliveries, nil
}

// Redeliver implements [webtrigger.DeliveryStore].
func (s *Store) Redeliver(ctx context.Context, deliveryID int64) (webtrigger.Delivery, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.Delivery{}, err
	}
	defer s.unlock()
	d := s.deliveries.get(deliveryID)
	if d == nil {
		return webtrigger.Delivery{}, webtrigger.ErrNotFound
	}
	// Only the last can be open: each was owed when none was.
	if d.run.deliveries[len(d.run.deliveries)-1].open() {
		return webtrigger.Delivery{}, webtrigger.ErrConflict
	}
	return s.owe(d.run, s.now()).Delivery, nil
}
