package storetest

import (
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Retries: a failed delivery may add another one in the same transition, which
// is not handed out before its time. A run has one open delivery at most.
func retryRules() []rule {
	busy := webtrigger.DeliveryOutcome{State: webtrigger.DeliveryFailed, HTTPStatus: 503, FailureClass: "status", Error: "busy"}
	unreached := webtrigger.DeliveryOutcome{State: webtrigger.DeliveryFailed, FailureClass: "dns", Error: "no such name"}
	retried := func(o webtrigger.DeliveryOutcome, in time.Duration) webtrigger.DeliveryOutcome {
		o.RetryIn = in
		return o
	}
	return []rule{
		{"a failure that must be retried adds a delivery like it, due later", func(b *rig) {
			run := b.complete(at("receiver.example:443"))
			leased := b.claimDelivery()
			b.NoError(b.store.FinishDelivery(b.ctx, leased.Lease, retried(busy, time.Hour)))
			all := b.deliveries(run.ID)
			b.Len(all, 2)
			b.deliveryEnded(busy, func() webtrigger.Delivery { d := leased.Delivery; d.AttemptedAt = all[0].AttemptedAt; return d }())
			retry := all[1]
			b.Greater(retry.ID, leased.Delivery.ID)
			b.Equal(all[0].CompletedAt, retry.CreatedAt)
			b.Equal(retry.CreatedAt.Add(time.Hour), retry.DueAt)
			want := leased.Delivery
			want.ID, want.Retry, want.CreatedAt, want.DueAt = retry.ID, 1, retry.CreatedAt, retry.DueAt
			b.Equal(want, retry)
			b.Equal(mirror(all[0]), b.run(run.ID).Callback)
		}},
		{"a delivery that failed before it began may be retried", func(b *rig) {
			run := b.complete(withCallback)
			b.NoError(b.store.FinishDelivery(b.ctx, b.lease(long).Lease, retried(unreached, time.Hour)))
			all := b.deliveries(run.ID)
			b.Len(all, 2)
			b.Equal(1, all[1].Retry)
			b.Equal(webtrigger.DeliveryPending, all[1].State)
		}},
		{"a rejected outcome adds no retry", func(b *rig) {
			run := b.complete(withCallback)
			leased := b.claimDelivery()
			wrong := leased.Lease
			wrong.Token++
			b.leaseLost(b.store.FinishDelivery(b.ctx, wrong, retried(busy, time.Hour)))
			b.NoError(b.store.FinishDelivery(b.ctx, leased.Lease, busy))
			b.leaseLost(b.store.FinishDelivery(b.ctx, leased.Lease, retried(busy, time.Hour)))
			b.Len(b.deliveries(run.ID), 1)
		}},
		{"of simultaneous outcomes one adds a retry", func(b *rig) {
			for range 10 {
				run := b.complete(withCallback)
				leased := b.claimDelivery()
				errs := b.together(8, func(int) error {
					return b.store.FinishDelivery(b.ctx, leased.Lease, retried(busy, time.Hour))
				})
				b.Equal(1, b.succeeded(errs, webtrigger.ErrLeaseLost))
				b.Len(b.deliveries(run.ID), 2)
			}
		}},
		{"a retry is not handed out before its time, and then is", func(b *rig) {
			b.complete(withCallback)
			b.NoError(b.store.FinishDelivery(b.ctx, b.claimDelivery().Lease, retried(busy, fair)))
			b.Empty(b.leased(10, long))
			var leased []webtrigger.LeasedDelivery
			b.eventually(func() bool {
				leased = b.leased(10, long)
				return len(leased) > 0
			})
			b.Len(leased, 1)
			b.Equal(1, leased[0].Delivery.Retry)
			b.False(b.now().Before(leased[0].Delivery.DueAt))
			b.NoError(b.store.ClaimDelivery(b.ctx, leased[0].Lease))
			b.NoError(b.store.FinishDelivery(b.ctx, leased[0].Lease, delivered()))
			b.Equal(mirror(b.delivery(leased[0])), b.run(leased[0].Run.ID).Callback)
		}},
		{"retries count up", func(b *rig) {
			run := b.complete(withCallback)
			for range 4 {
				var leased []webtrigger.LeasedDelivery
				b.eventually(func() bool {
					leased = b.leased(1, long)
					return len(leased) > 0
				})
				b.NoError(b.store.FinishDelivery(b.ctx, leased[0].Lease, retried(unreached, time.Microsecond)))
			}
			b.Equal([]int{0, 1, 2, 3, 4}, each(b.deliveries(run.ID), func(d webtrigger.Delivery) int { return d.Retry }))
		}},
		{"a late failure adds a retry, unless another delivery is open", func(b *rig) {
			alone := b.complete(withCallback)
			leased := b.claimDelivery()
			b.loseTrack()
			b.NoError(b.store.FinishDelivery(b.ctx, leased.Lease, retried(busy, time.Hour)))
			b.Len(b.deliveries(alone.ID), 2)

			run := b.complete(withCallback)
			leased = b.claimDelivery()
			b.loseTrack()
			again, err := b.store.Redeliver(b.ctx, leased.Delivery.ID)
			b.NoError(err)
			b.NoError(b.store.FinishDelivery(b.ctx, leased.Lease, retried(busy, time.Hour)))
			b.Equal([]webtrigger.Delivery{b.delivery(leased), again}, b.deliveries(run.ID))
		}},
		{"a retry that waits becomes the redelivery", func(b *rig) {
			run := b.complete(withCallback)
			first := b.claimDelivery()
			b.NoError(b.store.FinishDelivery(b.ctx, first.Lease, retried(busy, time.Hour)))
			waiting := b.deliveries(run.ID)[1]
			b.past(waiting.CreatedAt)
			again, err := b.store.Redeliver(b.ctx, first.Delivery.ID)
			b.NoError(err)
			b.True(again.DueAt.After(waiting.CreatedAt))
			b.True(again.DueAt.Before(waiting.DueAt))
			waiting.Retry, waiting.DueAt = 0, again.DueAt
			b.Equal(waiting, again)
			b.Equal([]webtrigger.Delivery{b.delivery(first), again}, b.deliveries(run.ID))
			b.Equal(again, b.lease(long).Delivery)
		}},
		{"a retry that is leased or under way is not added twice", func(b *rig) {
			run := b.complete(withCallback)
			b.NoError(b.store.FinishDelivery(b.ctx, b.claimDelivery().Lease, retried(busy, time.Microsecond)))
			var leased []webtrigger.LeasedDelivery
			b.eventually(func() bool {
				leased = b.leased(1, long)
				return len(leased) > 0
			})
			_, err := b.store.Redeliver(b.ctx, leased[0].Delivery.ID)
			b.conflict(err)
			b.NoError(b.store.ClaimDelivery(b.ctx, leased[0].Lease))
			_, err = b.store.Redeliver(b.ctx, leased[0].Delivery.ID)
			b.conflict(err)
			b.Len(b.deliveries(run.ID), 2)
		}},
		{"a retry whose lease has expired becomes the redelivery", func(b *rig) {
			b.complete(withCallback)
			b.NoError(b.store.FinishDelivery(b.ctx, b.claimDelivery().Lease, retried(busy, time.Microsecond)))
			var leased []webtrigger.LeasedDelivery
			b.eventually(func() bool {
				leased = b.leased(1, brief)
				return len(leased) > 0
			})
			b.outlast(brief)
			again, err := b.store.Redeliver(b.ctx, leased[0].Delivery.ID)
			b.NoError(err)
			b.Equal(leased[0].Delivery.ID, again.ID)
			b.Zero(again.Retry)
			b.leaseLost(b.store.ClaimDelivery(b.ctx, leased[0].Lease))
			b.lease(long)
		}},
	}
}
