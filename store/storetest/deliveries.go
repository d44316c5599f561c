package storetest

import (
	"slices"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Deliveries: a pending callback is prepared under a short lease. Only ClaimDelivery
// permits its POST. The table of moves is DeliveryStore's.
func deliveryRules() []rule {
	return []rule{
		{"a pending delivery is leased with its ended run", func(b *rig) {
			task := b.task(assistant)
			run := b.complete(withCallback, doing(&task))
			leased := b.lease(long)
			b.Equal(b.run(run.ID), leased.Run)
			b.Equal(b.deliveries(run.ID)[0], leased.Delivery)
			b.Equal(leased.Delivery.ID, leased.Lease.DeliveryID)
			b.Equal(webtrigger.DeliveryPending, leased.Delivery.State)
			b.Equal(callbackURL, leased.Delivery.URL)
		}},
		{"deliveries are leased oldest first, up to the limit", func(b *rig) {
			var want []int64
			for range 5 {
				want = append(want, b.complete(withCallback).ID)
			}
			leased := slices.Concat(b.leased(2, long), b.leased(2, long), b.leased(2, long))
			b.Equal(want, each(leased, func(d webtrigger.LeasedDelivery) int64 { return d.Run.ID }))
			b.IsIncreasing(each(leased, func(d webtrigger.LeasedDelivery) int64 { return d.Delivery.ID }))
		}},
		{"a delivery that is held is not leased to others", func(b *rig) {
			b.complete(withCallback)
			b.lease(long)
			b.Empty(b.leased(10, long))
		}},
		{"a delivery with an expired lease is leased again under another token", func(b *rig) {
			b.complete(withCallback)
			first := b.lease(brief)
			b.outlast(brief)
			second := b.lease(long)
			b.Equal(first.Delivery, second.Delivery)
			b.NotEqual(first.Lease.Token, second.Lease.Token)
			b.leaseLost(b.store.ClaimDelivery(b.ctx, first.Lease))
			b.leaseLost(b.store.FinishDelivery(b.ctx, first.Lease, delivered()))
			b.Equal(webtrigger.DeliveryPending, b.delivery(first).State)
			b.NoError(b.store.ClaimDelivery(b.ctx, second.Lease))
		}},
		{"of many who lease each delivery goes to one", func(b *rig) {
			const n = 60
			for range n {
				b.complete(withCallback)
			}
			got := each(drain(b, 12, n, func() ([]webtrigger.LeasedDelivery, error) {
				return b.store.LeaseDeliveries(b.ctx, webtrigger.DeliveryQuery{Token: webtrigger.NewToken(), Lease: long, Limit: 4})
			}), func(d webtrigger.LeasedDelivery) int64 { return d.Delivery.ID })
			b.Len(got, n)
			slices.Sort(got)
			b.Len(slices.Compact(got), n)
		}},
		{"a delivery that has begun is sending and stamped, and leased no more", func(b *rig) {
			b.complete(withCallback)
			leased := b.lease(fair)
			b.NoError(b.store.ClaimDelivery(b.ctx, leased.Lease))
			want := leased.Delivery
			got := b.delivery(leased)
			b.False(got.AttemptedAt.Before(got.CreatedAt))
			want.State, want.AttemptedAt = webtrigger.DeliverySending, got.AttemptedAt
			b.Equal(want, got)
			b.outlast(fair)
			b.Empty(b.leased(10, long), "not even when the lease of its preparation is over")
		}},
		{"a claim of a delivery may be repeated under its lease, until it ends", func(b *rig) {
			for range 10 {
				b.complete(withCallback)
				leased := b.lease(long)
				b.all(b.together(16, func(int) error { return b.store.ClaimDelivery(b.ctx, leased.Lease) }))
				sending := b.delivery(leased)
				b.past(sending.AttemptedAt)
				b.NoError(b.store.ClaimDelivery(b.ctx, leased.Lease))
				b.Equal(sending, b.delivery(leased), "the first claim counts")
				b.NoError(b.store.FinishDelivery(b.ctx, leased.Lease, delivered()))
				b.leaseLost(b.store.ClaimDelivery(b.ctx, leased.Lease))
			}
		}},
		{"the tokens of leased deliveries are those of the caller, one number each", func(b *rig) {
			for range 3 {
				b.complete(withCallback)
			}
			leased, err := b.store.LeaseDeliveries(b.ctx, webtrigger.DeliveryQuery{Token: 7, Lease: long, Limit: 10})
			b.NoError(err)
			b.Equal([]int64{7, 8, 9}, each(leased, func(d webtrigger.LeasedDelivery) int64 { return d.Lease.Token }))
			for _, d := range leased {
				b.NoError(b.store.ClaimDelivery(b.ctx, d.Lease))
			}
		}},
		{"many deliveries begin at once, and a lost lease among them fails alone", func(b *rig) {
			for range 24 {
				b.complete(withCallback)
			}
			leased := b.leased(24, long)
			errs := b.together(len(leased), func(i int) error {
				lease := leased[i].Lease
				if i%6 == 1 {
					lease.Token += 1000
				}
				return b.store.ClaimDelivery(b.ctx, lease)
			})
			for i, d := range leased {
				if i%6 == 1 {
					b.leaseLost(errs[i])
					b.Equal(d.Delivery, b.delivery(d))
					continue
				}
				b.NoError(errs[i])
				b.Equal(webtrigger.DeliverySending, b.delivery(d).State)
			}
		}},
		{"a delivery does not begin under a lease that has expired, even if no other process has leased it", func(b *rig) {
			b.complete(withCallback)
			leased := b.lease(brief)
			b.outlast(brief)
			b.leaseLost(b.store.ClaimDelivery(b.ctx, leased.Lease))
			b.Equal(leased.Delivery, b.delivery(leased))
			b.NoError(b.store.ClaimDelivery(b.ctx, b.lease(long).Lease))
		}},
		{"a wrong token begins and finishes nothing", func(b *rig) {
			b.complete(withCallback)
			leased := b.lease(long)
			for _, token := range []int64{0, leased.Lease.Token - 1, leased.Lease.Token + 1} {
				wrong := webtrigger.DeliveryLease{DeliveryID: leased.Delivery.ID, Token: token}
				b.leaseLost(b.store.ClaimDelivery(b.ctx, wrong))
				b.leaseLost(b.store.FinishDelivery(b.ctx, wrong, delivered()))
				b.leaseLost(b.store.FinishDelivery(b.ctx, wrong, webtrigger.DeliveryOutcome{State: webtrigger.DeliveryBlocked}))
			}
			b.Equal(leased.Delivery, b.delivery(leased))
			none := webtrigger.DeliveryLease{DeliveryID: absent, Token: leased.Lease.Token}
			b.leaseLost(b.store.ClaimDelivery(b.ctx, none))
			b.leaseLost(b.store.FinishDelivery(b.ctx, none, delivered()))
		}},
		{"a delivery that was never leased does not begin", func(b *rig) {
			d := b.deliveries(b.complete(withCallback).ID)[0]
			b.leaseLost(b.store.ClaimDelivery(b.ctx, webtrigger.DeliveryLease{DeliveryID: d.ID}))
			b.Equal(d, b.deliveries(d.RunID)[0])
		}},
		{"the token of one delivery does not begin another", func(b *rig) {
			b.complete(withCallback)
			b.complete(withCallback)
			leased := b.leased(2, long)
			b.leaseLost(b.store.ClaimDelivery(b.ctx,
				webtrigger.DeliveryLease{DeliveryID: leased[0].Delivery.ID, Token: leased[1].Lease.Token}))
		}},
		{"an absent delivery is not found", func(b *rig) {
			_, err := b.store.Delivery(b.ctx, absent)
			b.notFound(err)
			_, err = b.store.Redeliver(b.ctx, absent)
			b.notFound(err)
		}},
		{"a redelivery is a new pending one to the same URL", func(b *rig) {
			run := b.complete(withCallback)
			first := b.deliver()
			again, err := b.store.Redeliver(b.ctx, first.Delivery.ID)
			b.NoError(err)
			b.Greater(again.ID, first.Delivery.ID)
			want := first.Delivery
			want.ID, want.State, want.CreatedAt, want.DueAt = again.ID, webtrigger.DeliveryPending, again.CreatedAt, again.CreatedAt
			b.Equal(want, again)
			b.Equal([]webtrigger.Delivery{b.delivery(first), again}, b.deliveries(run.ID))
			b.Equal(webtrigger.DeliveryDelivered, b.delivery(first).State)
			leased := b.lease(long)
			b.Equal(again, leased.Delivery)
			run.Callback = mirror(b.delivery(first))
			b.Equal(run, leased.Run)
		}},
		{"a delivery that is pending or sending is not added twice", func(b *rig) {
			run := b.complete(withCallback)
			first := b.deliveries(run.ID)[0]
			refused := func(id int64) {
				_, err := b.store.Redeliver(b.ctx, id)
				b.conflict(err)
			}
			refused(first.ID)
			leased := b.lease(long)
			refused(first.ID)
			b.NoError(b.store.ClaimDelivery(b.ctx, leased.Lease))
			refused(first.ID)
			b.NoError(b.store.FinishDelivery(b.ctx, leased.Lease, delivered()))
			second, err := b.store.Redeliver(b.ctx, first.ID)
			b.NoError(err)
			refused(first.ID)
			refused(second.ID)
			b.Len(b.deliveries(run.ID), 2)
		}},
		{"a delivery may be repeated however it ended", func(b *rig) {
			run := b.complete(withCallback)
			for i, state := range []webtrigger.DeliveryState{webtrigger.DeliveryBlocked, webtrigger.DeliveryFailed, webtrigger.DeliveryUnknown} {
				leased := b.lease(long)
				if state == webtrigger.DeliveryUnknown {
					b.NoError(b.store.ClaimDelivery(b.ctx, leased.Lease))
					b.loseTrack()
				} else {
					b.NoError(b.store.FinishDelivery(b.ctx, leased.Lease, webtrigger.DeliveryOutcome{State: state}))
				}
				b.Equal(state, b.delivery(leased).State)
				_, err := b.store.Redeliver(b.ctx, leased.Delivery.ID)
				b.NoError(err)
				b.Len(b.deliveries(run.ID), i+2)
			}
		}},
		{"of simultaneous redeliveries one is added", func(b *rig) {
			run := b.complete(withCallback)
			first := b.deliver()
			errs := b.together(16, func(int) error {
				_, err := b.store.Redeliver(b.ctx, first.Delivery.ID)
				return err
			})
			b.Equal(1, b.succeeded(errs, webtrigger.ErrConflict))
			b.Len(b.deliveries(run.ID), 2)
		}},
		{"deliveries of a run are listed oldest first, and no other's", func(b *rig) {
			run := b.complete(withCallback)
			want := []int64{b.deliver().Delivery.ID}
			b.complete(withCallback)
			b.deliver()
			for range 3 {
				_, err := b.store.Redeliver(b.ctx, want[0])
				b.NoError(err)
				want = append(want, b.deliver().Delivery.ID)
			}
			b.Equal(want, each(b.deliveries(run.ID), deliveryID))
		}},
	}
}

// leased leases up to limit deliveries.
func (b *rig) leased(limit int, d time.Duration) []webtrigger.LeasedDelivery {
	b.t.Helper()
	leased, err := b.store.LeaseDeliveries(b.ctx, webtrigger.DeliveryQuery{Token: webtrigger.NewToken(), Lease: d, Limit: limit})
	b.NoError(err)
	return leased
}

// lease leases the oldest pending delivery.
func (b *rig) lease(d time.Duration) webtrigger.LeasedDelivery {
	b.t.Helper()
	leased := b.leased(1, d)
	b.Len(leased, 1)
	return leased[0]
}

func delivered() webtrigger.DeliveryOutcome {
	return webtrigger.DeliveryOutcome{State: webtrigger.DeliveryDelivered, HTTPStatus: 200}
}

// claimDelivery leases the oldest pending delivery and claims it.
func (b *rig) claimDelivery() webtrigger.LeasedDelivery {
	b.t.Helper()
	leased := b.lease(long)
	b.NoError(b.store.ClaimDelivery(b.ctx, leased.Lease))
	return leased
}

// deliver delivers the oldest pending delivery.
func (b *rig) deliver() webtrigger.LeasedDelivery {
	b.t.Helper()
	leased := b.claimDelivery()
	b.NoError(b.store.FinishDelivery(b.ctx, leased.Lease, delivered()))
	return leased
}

// delivery reads a delivery as it is now.
func (b *rig) delivery(leased webtrigger.LeasedDelivery) webtrigger.Delivery {
	b.t.Helper()
	d, err := b.store.Delivery(b.ctx, leased.Delivery.ID)
	b.NoError(err)
	return d
}

// loseTrack makes the delivery that is sending unknown.
func (b *rig) loseTrack() webtrigger.Delivery {
	b.t.Helper()
	var swept []webtrigger.Delivery
	b.eventually(func() (found bool) {
		var err error
		swept, err = b.store.SweepDeliveries(b.ctx, time.Microsecond, 10)
		b.NoError(err)
		return len(swept) > 0
	})
	b.Len(swept, 1)
	return swept[0]
}
