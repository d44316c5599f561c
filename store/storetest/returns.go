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
			leased := b.claimDelivery()
			b.loseTrack()
			return leased
		}},
	}
	var rules []rule
	for _, from := range states {
		rules = append(rules, rule{"a delivery that is " + string(from.state) + " is returned as if it had never been leased", func(b *rig) {
			run := b.complete(withCallback)
			before := b.record(run.ID).clone()
			leased := from.reach(b)
			b.Equal(from.state, b.delivery(leased).State)
			b.NoError(b.store.ReturnDelivery(b.ctx, leased.Lease))
			b.Equal(before, b.record(run.ID))
			b.changesNothing(run.ID, func() {
				b.leaseLost(b.store.ClaimDelivery(b.ctx, leased.Lease))
				b.leaseLost(b.store.FinishDelivery(b.ctx, leased.Lease, delivered()))
				b.leaseLost(b.store.ReturnDelivery(b.ctx, leased.Lease))
			})
			b.Empty(b.loseTrackOfNone())
			again := b.lease(long)
			b.Equal(leased.Delivery, again.Delivery)
			b.NoError(b.store.ClaimDelivery(b.ctx, again.Lease))
			b.NoError(b.store.FinishDelivery(b.ctx, again.Lease, delivered()))
			b.Equal(webtrigger.DeliveryDelivered, b.run(run.ID).Callback.State)
		}})
	}
	return append(rules,
		rule{"a delivery is not returned under another token, nor if it was never leased", func(b *rig) {
			b.complete(withCallback)
			never := b.deliveries(b.complete(withCallback).ID)[0]
			leased := b.claimDelivery()
			for _, lease := range []webtrigger.DeliveryLease{
				{DeliveryID: leased.Delivery.ID}, {DeliveryID: leased.Delivery.ID, Token: leased.Lease.Token + 1},
				{DeliveryID: never.ID}, {DeliveryID: absent, Token: 1},
			} {
				b.leaseLost(b.store.ReturnDelivery(b.ctx, lease))
			}
			b.Equal(webtrigger.DeliverySending, b.delivery(leased).State)
			b.NoError(b.store.FinishDelivery(b.ctx, leased.Lease, delivered()))
		}},
		rule{"a delivery that has an outcome is not returned", func(b *rig) {
			run := b.complete(withCallback)
			leased := b.deliver()
			b.changesNothing(run.ID, func() { b.leaseLost(b.store.ReturnDelivery(b.ctx, leased.Lease)) })
		}},
		rule{"a delivery is not returned beside another open one", func(b *rig) {
			run := b.complete(withCallback)
			leased := b.claimDelivery()
			b.loseTrack()
			_, err := b.store.Redeliver(b.ctx, leased.Delivery.ID)
			b.NoError(err)
			b.changesNothing(run.ID, func() { b.conflict(b.store.ReturnDelivery(b.ctx, leased.Lease)) })
		}},
		rule{"an outcome of the run is the last that stands after a return", func(b *rig) {
			run := b.complete(withCallback)
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
			run := b.complete(withCallback)
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
				b.complete(withCallback)
				leased := b.lease(long)
				errs := b.together(2, func(i int) error {
					if i == 0 {
						return b.store.ClaimDelivery(b.ctx, leased.Lease)
					}
					return b.store.ReturnDelivery(b.ctx, leased.Lease)
				})
				b.NoError(errs[1])
				if errs[0] != nil {
					b.leaseLost(errs[0])
				}
				b.Equal(leased.Delivery, b.delivery(leased))
				b.deliver()
			}
		}},
	)
}
