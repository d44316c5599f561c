package memstore

import (
	"context"
	"slices"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// delivery is a delivery with what only the store knows of it.
type delivery struct {
	webtrigger.Delivery
	run     *run
	token   int64     // of the last lease
	expires time.Time // pending: when the last lease ends; zero: never leased

	aside    bool // pending: it lies in outbox.aside
	placedAt int  // its place in the outbox while pending, in Store.sending while sending
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

// openDelivery is the one delivery of the run that is open, or nil: only the last
// can be, since a delivery is added only if none is open.
func (r *run) openDelivery() *delivery {
	if n := len(r.deliveries); n > 0 && r.deliveries[n-1].open() {
		return r.deliveries[n-1]
	}
	return nil
}

// addDelivery adds a pending delivery of the run's callback.
func (s *Store) addDelivery(r *run, now, due time.Time, retry int) *delivery {
	d := &delivery{run: r, Delivery: webtrigger.Delivery{
		ID:             s.deliveries.nextID(),
		RunID:          r.ID,
		RunKey:         r.Key,
		ConversationID: r.ConversationID,
		AssistantID:    r.AssistantID,
		URL:            r.CallbackURL,
		Host:           r.host,
		State:          webtrigger.DeliveryPending,
		Retry:          retry,
		CreatedAt:      now,
		DueAt:          due,
	}}
	s.deliveries = append(s.deliveries, d)
	r.deliveries = append(r.deliveries, d)
	s.outbox.add(d, now)
	if !now.Before(due) {
		s.hint.Pending = true
	}
	return d
}

// become moves a delivery to another state, and mirrors it on the run where it is
// an outcome.
func (s *Store) become(d *delivery, state webtrigger.DeliveryState, now time.Time) {
	switch d.State {
	case webtrigger.DeliveryPending:
		s.outbox.remove(d)
	case webtrigger.DeliverySending:
		s.sending.remove(d)
	}
	d.State = state
	if state == webtrigger.DeliverySending {
		d.AttemptedAt = now
		s.sending.add(d)
		return
	}
	if d.ID >= d.run.Callback.DeliveryID {
		d.run.Callback = webtrigger.CallbackOutcome{
			DeliveryID: d.ID, State: state, HTTPStatus: d.HTTPStatus, FailureClass: d.FailureClass, At: now,
		}
	}
}

// LeaseDeliveries implements [webtrigger.DeliveryStore].
func (s *Store) LeaseDeliveries(ctx context.Context, claim webtrigger.DeliveryQuery) ([]webtrigger.LeasedDelivery, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	now := s.now()
	var leased []webtrigger.LeasedDelivery
	for _, d := range s.outbox.pick(claim, now) {
		s.lastToken++
		d.token = s.lastToken
		d.expires = now.Add(claim.Lease)
		s.outbox.add(d, now)
		leased = append(leased, webtrigger.LeasedDelivery{
			Delivery: d.Delivery,
			Run:      d.run.copy(),
			Lease:    webtrigger.DeliveryLease{DeliveryID: d.ID, Token: d.token},
			LeasedAt: now,
			Secrets:  slices.Clone(s.secrets[d.AssistantID]),
		})
	}
	return leased, nil
}

// ClaimDelivery implements [webtrigger.DeliveryStore].
func (s *Store) ClaimDelivery(ctx context.Context, lease webtrigger.DeliveryLease) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	now := s.now()
	d := s.deliveries.get(lease.DeliveryID)
	if d == nil || !d.held(lease.Token, now) {
		return webtrigger.ErrLeaseLost
	}
	s.become(d, webtrigger.DeliverySending, now)
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
	d.CompletedAt = now
	d.HTTPStatus = end.HTTPStatus
	d.Latency = end.Latency
	d.FailureClass = end.FailureClass
	d.Error = end.Error
	d.Response = end.Response
	s.become(d, end.State, now)
	if end.RetryIn > 0 && d.run.openDelivery() == nil {
		s.addDelivery(d.run, now, stored(now.Add(end.RetryIn)), d.Retry+1)
	}
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
	for len(swept) < limit {
		d := s.sending.first()
		if d == nil || now.Sub(d.AttemptedAt) <= after {
			break
		}
		s.become(d, webtrigger.DeliveryUnknown, now)
		swept = append(swept, d.Delivery)
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
	now := s.now()
	open := d.run.openDelivery()
	if open == nil {
		return s.addDelivery(d.run, now, now, 0).Delivery, nil
	}
	if open.Retry == 0 || open.State != webtrigger.DeliveryPending || open.held(open.token, now) {
		return webtrigger.Delivery{}, webtrigger.ErrConflict
	}
	s.outbox.remove(open)
	open.Retry, open.DueAt = 0, now
	s.outbox.add(open, now)
	s.hint.Pending = true
	return open.Delivery, nil
}
