package memstore

import (
	"context"
	"slices"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// delivery is a delivery with the store's own fields.
type delivery struct {
	webtrigger.Delivery
	run       *run
	token     int64         // of the last lease; 0: none
	due       time.Duration // when it is due
	expires   time.Duration // pending: when the last lease ends; 0: never leased
	attempted time.Duration // sending: when it was claimed
	unknownAt time.Time     // unknown: since when

	aside    bool // pending: it is in outbox.aside
	placedAt int  // its place in the outbox while pending, in Store.sending while sending
}

// held reports whether token is the last lease of a delivery that is pending,
// and has not expired.
func (d *delivery) held(token int64, now time.Duration) bool {
	return d.State == webtrigger.DeliveryPending && d.token == token && now < d.expires
}

// open reports whether the delivery is yet to be sent or under way.
func (d *delivery) open() bool {
	return d.State == webtrigger.DeliveryPending || d.State == webtrigger.DeliverySending
}

// openDelivery is the one delivery of the run that is open, or nil.
func (r *run) openDelivery() *delivery {
	for _, d := range slices.Backward(r.deliveries) {
		if d.open() {
			return d
		}
	}
	return nil
}

// addDelivery adds a pending delivery of the run's callback that is due after a time.
func (s *Store) addDelivery(r *run, now time.Time, after time.Duration, retry int) *delivery {
	d := &delivery{run: r, due: s.elapsed + after, Delivery: webtrigger.Delivery{
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
		DueAt:          stored(now.Add(after)),
	}}
	s.deliveries = append(s.deliveries, d)
	r.deliveries = append(r.deliveries, d)
	s.outbox.add(d, s.elapsed)
	if after <= 0 {
		s.hint.Pending = true
	}
	return d
}

// become moves a delivery to another state.
func (s *Store) become(d *delivery, state webtrigger.DeliveryState) {
	switch d.State {
	case webtrigger.DeliveryPending:
		s.outbox.remove(d)
	case webtrigger.DeliverySending:
		s.sending.remove(d)
	}
	d.State = state
	switch state {
	case webtrigger.DeliveryPending:
		s.outbox.add(d, s.elapsed)
	case webtrigger.DeliverySending:
		s.sending.add(d)
	}
	d.run.Callback = d.run.callback()
}

// callback is the outcome of the run's last delivery that has one.
func (r *run) callback() webtrigger.CallbackOutcome {
	for _, d := range slices.Backward(r.deliveries) {
		if d.open() {
			continue
		}
		at := d.CompletedAt
		if d.State == webtrigger.DeliveryUnknown {
			at = d.unknownAt
		}
		return webtrigger.CallbackOutcome{
			DeliveryID: d.ID, State: d.State, HTTPStatus: d.HTTPStatus, FailureClass: d.FailureClass, At: at,
		}
	}
	return webtrigger.CallbackOutcome{}
}

// LeaseDeliveries implements [webtrigger.DeliveryStore].
func (s *Store) LeaseDeliveries(ctx context.Context, claim webtrigger.DeliveryQuery) ([]webtrigger.LeasedDelivery, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	now := s.now()
	var leased []webtrigger.LeasedDelivery
	for i, d := range s.outbox.pick(claim, s.elapsed) {
		d.token = claim.Token + int64(i)
		d.expires = s.elapsed + claim.Lease
		s.outbox.add(d, s.elapsed)
		leased = append(leased, webtrigger.LeasedDelivery{
			Delivery: d.Delivery,
			Run:      d.run.copy(),
			Lease:    webtrigger.DeliveryLease{DeliveryID: d.ID, Token: d.token},
			LeasedAt: now,
			Secrets:  slices.Clone(s.secrets[d.AssistantID].Secrets),
		})
	}
	return leased, nil
}

// claimRepeats is how long a claim of a delivery may be repeated.
const claimRepeats = 10 * time.Second

// ClaimDelivery implements [webtrigger.DeliveryStore].
func (s *Store) ClaimDelivery(ctx context.Context, lease webtrigger.DeliveryLease) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	now := s.elapsed
	d := s.deliveries.get(lease.DeliveryID)
	switch {
	case d == nil || d.token != lease.Token:
		return webtrigger.ErrLeaseLost
	case d.State == webtrigger.DeliverySending && now-d.attempted < claimRepeats:
		return nil
	case !d.held(lease.Token, now):
		return webtrigger.ErrLeaseLost
	}
	d.AttemptedAt, d.attempted = s.now(), now
	s.become(d, webtrigger.DeliverySending)
	return nil
}

// ReturnDelivery implements [webtrigger.DeliveryStore].
func (s *Store) ReturnDelivery(ctx context.Context, lease webtrigger.DeliveryLease) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	d := s.deliveries.get(lease.DeliveryID)
	if d == nil || d.token == 0 || d.token != lease.Token || !d.open() && d.State != webtrigger.DeliveryUnknown {
		return webtrigger.ErrLeaseLost
	}
	if open := d.run.openDelivery(); open != nil && open != d {
		return webtrigger.ErrConflict
	}
	d.token, d.expires, d.AttemptedAt, d.unknownAt = 0, 0, time.Time{}, time.Time{}
	s.become(d, webtrigger.DeliveryPending)
	s.hint.Pending = true
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
	if d == nil || d.token == 0 || d.token != lease.Token {
		return webtrigger.ErrLeaseLost
	}
	begun := d.State == webtrigger.DeliverySending || d.State == webtrigger.DeliveryUnknown
	if !begun && !d.held(lease.Token, s.elapsed) {
		return webtrigger.ErrLeaseLost
	}
	d.CompletedAt = now
	d.HTTPStatus = end.HTTPStatus
	d.Latency = end.Latency
	d.FailureClass = end.FailureClass
	d.Error = end.Error
	d.Response = end.Response
	s.become(d, end.State)
	if end.RetryIn > 0 && d.run.openDelivery() == nil {
		s.addDelivery(d.run, now, end.RetryIn, d.Retry+1)
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
		if d == nil || s.elapsed-d.attempted <= after {
			break
		}
		d.unknownAt = now
		s.become(d, webtrigger.DeliveryUnknown)
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
		s.audit(ctx, 0)
		return s.addDelivery(d.run, now, 0, 0).Delivery, nil
	}
	if open.Retry == 0 || open.State != webtrigger.DeliveryPending || open.held(open.token, s.elapsed) {
		return webtrigger.Delivery{}, webtrigger.ErrConflict
	}
	s.outbox.remove(open)
	open.Retry, open.DueAt, open.due = 0, now, s.elapsed
	s.outbox.add(open, open.due)
	s.hint.Pending = true
	s.audit(ctx, 0)
	return open.Delivery, nil
}
