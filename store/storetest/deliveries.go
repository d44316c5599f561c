package storetest

import (
	"slices"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Deliveries: a pending callback is prepared under a short lease, and ClaimDelivery
// is the one claim that lets it be sent. The table of moves is DeliveryStore's.
func deliveryRules() []rule {
	return []rule{
		{"a pending delivery is leased with its ended run", func(b *rig) {
			task := b.task(assistant)
			run := b.complete(owing, doing(&task))
			owed := b.lease(long)
			b.Equal(b.run(run.ID), owed.Run)
			b.Equal(b.deliveries(run.ID)[0], owed.Delivery)
			b.Equal(owed.Delivery.ID, owed.Lease.DeliveryID)
			b.Equal(webtrigger.DeliveryPending, owed.Delivery.State)
			b.Equal(callbackURL, owed.Delivery.URL)
		}},
		{"deliveries are leased oldest first, up to the limit", func(b *rig) {
			var want []int64
			for range 5 {
				want = append(want, b.complete(owing).ID)
			}
			owed := slices.Concat(b.leased(2, long), b.leased(2, long), b.leased(2, long))
			b.Equal(want, each(owed, func(d webtrigger.LeasedDelivery) int64 { return d.Run.ID }))
			b.IsIncreasing(each(owed, func(d webtrigger.LeasedDelivery) int64 { return d.Delivery.ID }))
		}},
		{"a delivery that is held is not leased to others", func(b *rig) {
			b.complete(owing)
			b.lease(long)
			b.Empty(b.leased(10, long))
		}},
		{"a delivery whose lease has expired is leased anew under another token", func(b *rig) {
			b.complete(owing)
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
				b.complete(owing)
			}
			got := each(drain(b, 12, n, func() ([]webtrigger.LeasedDelivery, error) {
				return b.store.LeaseDeliveries(b.ctx, webtrigger.DeliveryQuery{Token: webtrigger.NewToken(), Lease: long, Limit: 4})
			}), func(d webtrigger.LeasedDelivery) int64 { return d.Delivery.ID })
			b.Len(got, n)
			slices.Sort(got)
			b.Len(slices.Compact(got), n)
		}},
		{"a delivery that has begun is sending and stamped, and leased no more", func(b *rig) {
			b.complete(owing)
			owed := b.lease(fair)
			b.NoError(b.store.ClaimDelivery(b.ctx, owed.Lease))
			want := owed.Delivery
			got := b.delivery(owed)
			b.False(got.AttemptedAt.Before(got.CreatedAt))
			want.State, want.AttemptedAt = webtrigger.DeliverySending, got.AttemptedAt
			b.Equal(want, got)
			b.outlast(fair)
			b.Empty(b.leased(10, long), "not even when the lease of its preparation is over")
		}},
		{"a claim of a delivery may be repeated under its lease, until it ends", func(b *rig) {
			for range 10 {
				b.complete(owing)
				owed := b.lease(long)
				b.all(b.together(16, func(int) error { return b.store.ClaimDelivery(b.ctx, owed.Lease) }))
				sending := b.delivery(owed)
				b.past(sending.AttemptedAt)
				b.NoError(b.store.ClaimDelivery(b.ctx, owed.Lease))
				b.Equal(sending, b.delivery(owed), "the first claim counts")
				b.NoError(b.store.FinishDelivery(b.ctx, owed.Lease, delivered()))
				b.leaseLost(b.store.ClaimDelivery(b.ctx, owed.Lease))
			}
		}},
		{"the tokens of leased deliveries are those of the caller, one number each", func(b *rig) {
			for range 3 {
				b.complete(owing)
			}
			owed, err := b.store.LeaseDeliveries(b.ctx, webtrigger.DeliveryQuery{Token: 7, Lease: long, Limit: 10})
			b.NoError(err)
			b.Equal([]int64{7, 8, 9}, each(owed, func(d webtrigger.LeasedDelivery) int64 { return d.Lease.Token }))
			for _, d := range owed {
				b.NoError(b.store.ClaimDelivery(b.ctx, d.Lease))
			}
		}},
		{"many deliveries begin at once, and a lost lease among them fails alone", func(b *rig) {
			for range 24 {
				b.complete(owing)
			}
			owed := b.leased(24, long)
			errs := b.together(len(owed), func(i int) error {
				lease := owed[i].Lease
				if i%6 == 1 {
					lease.Token += 1000
				}
				return b.store.ClaimDelivery(b.ctx, lease)
			})
			for i, d := range owed {
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
			b.complete(owing)
			owed := b.lease(brief)
			b.outlast(brief)
			b.leaseLost(b.store.ClaimDelivery(b.ctx, owed.Lease))
			b.Equal(owed.Delivery, b.delivery(owed))
			b.NoError(b.store.ClaimDelivery(b.ctx, b.lease(long).Lease))
		}},
		{"a wrong token begins and finishes nothing", func(b *rig) {
			b.complete(owing)
			owed := b.lease(long)
			for _, token := range []int64{0, owed.Lease.Token - 1, owed.Lease.Token + 1} {
				wrong := webtrigger.DeliveryLease{DeliveryID: owed.Delivery.ID, Token: token}
				b.leaseLost(b.store.ClaimDelivery(b.ctx, wrong))
				b.leaseLost(b.store.FinishDelivery(b.ctx, wrong, delivered()))
				b.leaseLost(b.store.FinishDelivery(b.ctx, wrong, webtrigger.DeliveryOutcome{State: webtrigger.DeliveryBlocked}))
			}
			b.Equal(owed.Delivery, b.delivery(owed))
			none := webtrigger.DeliveryLease{DeliveryID: absent, Token: owed.Lease.Token}
			b.leaseLost(b.store.ClaimDelivery(b.ctx, none))
			b.leaseLost(b.store.FinishDelivery(b.ctx, none, delivered()))
		}},
		{"a delivery that was never leased does not begin", func(b *rig) {
			d := b.deliveries(b.complete(owing).ID)[0]
			b.leaseLost(b.store.ClaimDelivery(b.ctx, webtrigger.DeliveryLease{DeliveryID: d.ID}))
			b.Equal(d, b.deliveries(d.RunID)[0])
		}},
		{"the token of one delivery does not begin another", func(b *rig) {
			b.complete(owing)
			b.complete(owing)
			owed := b.leased(2, long)
			b.leaseLost(b.store.ClaimDelivery(b.ctx,
				webtrigger.DeliveryLease{DeliveryID: owed[0].Delivery.ID, Token: owed[1].Lease.Token}))
		}},
		{"an absent delivery is not found", func(b *rig) {
			_, err := b.store.Delivery(b.ctx, absent)
			b.notFound(err)
			_, err = b.store.Redeliver(b.ctx, absent)
			b.notFound(err)
		}},
		{"a redelivery is a new pending one to the same URL", func(b *rig) {
			run := b.complete(owing)
			first := b.deliver()
			again, err := b.store.Redeliver(b.ctx, first.Delivery.ID)
			b.NoError(err)
			b.Greater(again.ID, first.Delivery.ID)
			want := first.Delivery
			want.ID, want.State, want.CreatedAt, want.DueAt = again.ID, webtrigger.DeliveryPending, again.CreatedAt, again.CreatedAt
			b.Equal(want, again)
			b.Equal([]webtrigger.Delivery{b.delivery(first), again}, b.deliveries(run.ID))
			b.Equal(webtrigger.DeliveryDelivered, b.delivery(first).State)
			owed := b.lease(long)
			b.Equal(again, owed.Delivery)
			run.Callback = mirror(b.delivery(first))
			b.Equal(run, owed.Run)
		}},
		{"a delivery that is pending or sending is not added twice", func(b *rig) {
			run := b.complete(owing)
			first := b.deliveries(run.ID)[0]
			refused := func(id int64) {
				_, err := b.store.Redeliver(b.ctx, id)
				b.conflict(err)
			}
			refused(first.ID)
			owed := b.lease(long)
			refused(first.ID)
			b.NoError(b.store.ClaimDelivery(b.ctx, owed.Lease))
			refused(first.ID)
			b.NoError(b.store.FinishDelivery(b.ctx, owed.Lease, delivered()))
			second, err := b.store.Redeliver(b.ctx, first.ID)
			b.NoError(err)
			refused(first.ID)
			refused(second.ID)
			b.Len(b.deliveries(run.ID), 2)
		}},
		{"a delivery may be repeated however it ended", func(b *rig) {
			run := b.complete(owing)
			for i, state := range []webtrigger.DeliveryState{webtrigger.DeliveryBlocked, webtrigger.DeliveryFailed, webtrigger.DeliveryUnknown} {
				owed := b.lease(long)
				if state == webtrigger.DeliveryUnknown {
					b.NoError(b.store.ClaimDelivery(b.ctx, owed.Lease))
					b.loseTrack()
				} else {
					b.NoError(b.store.FinishDelivery(b.ctx, owed.Lease, webtrigger.DeliveryOutcome{State: state}))
				}
				b.Equal(state, b.delivery(owed).State)
				_, err := b.store.Redeliver(b.ctx, owed.Delivery.ID)
				b.NoError(err)
				b.Len(b.deliveries(run.ID), i+2)
			}
		}},
		{"of simultaneous redeliveries one is added", func(b *rig) {
			run := b.complete(owing)
			first := b.deliver()
			errs := b.together(16, func(int) error {
				_, err := b.store.Redeliver(b.ctx, first.Delivery.ID)
				return err
			})
			b.Equal(1, b.succeeded(errs, webtrigger.ErrConflict))
			b.Len(b.deliveries(run.ID), 2)
		}},
		{"deliveries of a run are listed oldest first, and no other's", func(b *rig) {
			run := b.complete(owing)
			want := []int64{b.deliver().Delivery.ID}
			b.complete(owing)
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
	owed, err := b.store.LeaseDeliveries(b.ctx, webtrigger.DeliveryQuery{Token: webtrigger.NewToken(), Lease: d, Limit: limit})
	b.NoError(err)
	return owed
}

// lease leases the oldest pending delivery.
func (b *rig) lease(d time.Duration) webtrigger.LeasedDelivery {
	b.t.Helper()
	owed := b.leased(1, d)
	b.Len(owed, 1)
	return owed[0]
}

func delivered() webtrigger.DeliveryOutcome {
	return webtrigger.DeliveryOutcome{State: webtrigger.DeliveryDelivered, HTTPStatus: 200}
}

// claimDelivery leases the oldest pending delivery and claims it.
func (b *rig) claimDelivery() webtrigger.LeasedDelivery {
	b.t.Helper()
	owed := b.lease(long)
	b.NoError(b.store.ClaimDelivery(b.ctx, owed.Lease))
	return owed
}

// deliver delivers the oldest pending delivery.
func (b *rig) deliver() webtrigger.LeasedDelivery {
	b.t.Helper()
	owed := b.claimDelivery()
	b.NoError(b.store.FinishDelivery(b.ctx, owed.Lease, delivered()))
	return owed
}

// delivery reads a delivery as it is now.
func (b *rig) delivery(owed webtrigger.LeasedDelivery) webtrigger.Delivery {
	b.t.Helper()
	d, err := b.store.Delivery(b.ctx, owed.Delivery.ID)
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
