package storetest

import "github.com/webtrigger-go/webtrigger"

// Returns: a delivery that was leased or claimed, and of which nothing was sent, is
// pending again as if it had never been leased. A claim still under way is fenced.
func returnRules() []rule {
	states := []struct {
		state webtrigger.DeliveryState
		reach func(b *rig) webtrigger.LeasedDelivery
	}{
		{webtrigger.DeliveryPending, func(b *rig) webtrigger.LeasedDelivery { return b.lease(long) }},
		{webtrigger.DeliverySending, func(b *rig) webtrigger.LeasedDelivery { return b.claimDelivery() }},
		{webtrigger.DeliveryUnknown, func(b *rig) webtrigger.LeasedDelivery {
			owed := b.claimDelivery()
			b.loseTrack()
			return owed
		}},
	}
	var rules []rule
	for _, from := range states {
		rules = append(rules, rule{"a delivery that is " + string(from.state) + " is returned as if it had never been leased", func(b *rig) {
			run := b.complete(owing)
			before := b.record(run.ID).clone()
			owed := from.reach(b)
			b.Equal(from.state, b.delivery(owed).State)
			b.NoError(b.store.ReturnDelivery(b.ctx, owed.Lease))
			b.Equal(before, b.record(run.ID))
			b.changesNothing(run.ID, func() {
				b.leaseLost(b.store.ClaimDelivery(b.ctx, owed.Lease))
				b.leaseLost(b.store.FinishDelivery(b.ctx, owed.Lease, delivered()))
				b.leaseLost(b.store.ReturnDelivery(b.ctx, owed.Lease))
			})
			b.Empty(b.loseTrackOfNone())
			again := b.lease(long)
			b.Equal(owed.Delivery, again.Delivery)
			b.NoError(b.store.ClaimDelivery(b.ctx, again.Lease))
			b.NoError(b.store.FinishDelivery(b.ctx, again.Lease, delivered()))
			b.Equal(webtrigger.DeliveryDelivered, b.run(run.ID).Callback.State)
		}})
	}
	return append(rules,
		rule{"a delivery is not returned under another token, nor if it was never leased", func(b *rig) {
			b.complete(owing)
			never := b.deliveries(b.complete(owing).ID)[0]
			owed := b.claimDelivery()
			for _, lease := range []webtrigger.DeliveryLease{
				{DeliveryID: owed.Delivery.ID}, {DeliveryID: owed.Delivery.ID, Token: owed.Lease.Token + 1},
				{DeliveryID: never.ID}, {DeliveryID: absent, Token: 1},
			} {
				b.leaseLost(b.store.ReturnDelivery(b.ctx, lease))
			}
			b.Equal(webtrigger.DeliverySending, b.delivery(owed).State)
			b.NoError(b.store.FinishDelivery(b.ctx, owed.Lease, delivered()))
		}},
		rule{"a delivery that has an outcome is not returned", func(b *rig) {
			run := b.complete(owing)
			owed := b.deliver()
			b.changesNothing(run.ID, func() { b.leaseLost(b.store.ReturnDelivery(b.ctx, owed.Lease)) })
		}},
		rule{"a delivery is not returned beside another open one", func(b *rig) {
			run := b.complete(owing)
			owed := b.claimDelivery()
			b.loseTrack()
			_, err := b.store.Redeliver(b.ctx, owed.Delivery.ID)
			b.NoError(err)
			b.changesNothing(run.ID, func() { b.conflict(b.store.ReturnDelivery(b.ctx, owed.Lease)) })
		}},
		rule{"an outcome of the run is the last that stands after a return", func(b *rig) {
			run := b.complete(owing)
			first := b.deliver()
			_, err := b.store.Redeliver(b.ctx, first.Delivery.ID)
			b.NoError(err)
			second := b.claimDelivery()
			b.loseTrack()
			b.Equal(webtrigger.DeliveryUnknown, b.run(run.ID).Callback.State)
			b.NoError(b.store.ReturnDelivery(b.ctx, second.Lease))
			b.Equal(mirror(b.delivery(first)), b.run(run.ID).Callback)
		}},
		rule{"a returned delivery that is not the last of its run is the open one", func(b *rig) {
			run := b.complete(owing)
			first := b.claimDelivery()
			b.loseTrack()
			again, err := b.store.Redeliver(b.ctx, first.Delivery.ID)
			b.NoError(err)
			b.deliver()
			b.NoError(b.store.ReturnDelivery(b.ctx, first.Lease))
			_, err = b.store.Redeliver(b.ctx, again.ID)
			b.conflict(err)
			b.Equal(webtrigger.DeliveryDelivered, b.run(run.ID).Callback.State)
			b.Equal(first.Delivery.ID, b.deliver().Delivery.ID)
			b.Equal(mirror(b.deliveries(run.ID)[1]), b.run(run.ID).Callback)
		}},
		rule{"return and claim at once: it is claimed or pending, never both", func(b *rig) {
			for range 10 {
				b.complete(owing)
				owed := b.lease(long)
				errs := b.together(2, func(i int) error {
					if i == 0 {
						return b.store.ClaimDelivery(b.ctx, owed.Lease)
					}
					return b.store.ReturnDelivery(b.ctx, owed.Lease)
				})
				b.NoError(errs[1])
				if errs[0] != nil {
					b.leaseLost(errs[0])
				}
				b.Equal(owed.Delivery, b.delivery(owed))
				b.deliver()
			}
		}},
	)
}
