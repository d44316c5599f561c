package storetest

import (
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// How deliveries end: once each, from where the table of DeliveryStore allows it,
// with all of the outcome kept. Unknown is an end that a late outcome replaces.
func deliveryOutcomeRules() []rule {
	answered := webtrigger.DeliveryOutcome{State: webtrigger.DeliveryDelivered, HTTPStatus: 202,
		Latency: 1234567 * time.Microsecond, Response: "{\"ok\": true}\n"}
	refused := webtrigger.DeliveryOutcome{State: webtrigger.DeliveryFailed, HTTPStatus: 503,
		Latency: time.Microsecond, FailureClass: "status", Error: "the receiver did not answer with 2xx", Response: "busy"}
	unreached := webtrigger.DeliveryOutcome{State: webtrigger.DeliveryFailed, FailureClass: "connect", Error: "connection refused"}
	blocked := webtrigger.DeliveryOutcome{State: webtrigger.DeliveryBlocked, FailureClass: "blocked", Error: "the address is private"}

	begun := []struct {
		name    string
		outcome webtrigger.DeliveryOutcome
	}{
		{"an answer is kept as it was", answered},
		{"a bad answer is kept as it was", refused},
		{"no answer is kept as none", unreached},
		{"4 KiB of an answer are kept", webtrigger.DeliveryOutcome{State: webtrigger.DeliveryDelivered, HTTPStatus: 200,
			Latency: 59*time.Second + 999999*time.Microsecond, Response: strings.Repeat("<é\r\n&\"\\\x01", 4096/9)}},
	}
	var rules []rule
	for _, x := range begun {
		rules = append(rules, rule{x.name, func(b *rig) {
			b.complete(withCallback)
			leased := b.claimDelivery()
			sending := b.delivery(leased)
			b.NoError(b.store.FinishDelivery(b.ctx, leased.Lease, x.outcome))
			b.deliveryEnded(x.outcome, sending)
			b.Empty(b.leased(10, long))
			b.Empty(b.loseTrackOfNone())
		}})
	}
	return append(rules,
		rule{"a delivery may end before it began, failed or blocked", func(b *rig) {
			for _, outcome := range []webtrigger.DeliveryOutcome{unreached, blocked} {
				b.complete(withCallback)
				leased := b.lease(long)
				b.NoError(b.store.FinishDelivery(b.ctx, leased.Lease, outcome))
				b.True(b.delivery(leased).AttemptedAt.IsZero())
				b.deliveryEnded(outcome, leased.Delivery)
				b.leaseLost(b.store.ClaimDelivery(b.ctx, leased.Lease))
				b.Empty(b.leased(10, long))
			}
		}},
		rule{"a delivery does not end before it began once its lease has expired", func(b *rig) {
			b.complete(withCallback)
			leased := b.lease(brief)
			b.outlast(brief)
			for _, outcome := range []webtrigger.DeliveryOutcome{unreached, blocked} {
				b.leaseLost(b.store.FinishDelivery(b.ctx, leased.Lease, outcome))
			}
			b.Equal(leased.Delivery, b.delivery(leased))
			b.lease(long)
		}},
		rule{"a delivery that has begun may end when its lease has expired", func(b *rig) {
			b.complete(withCallback)
			leased := b.lease(fair)
			b.NoError(b.store.ClaimDelivery(b.ctx, leased.Lease))
			b.outlast(fair)
			b.NoError(b.store.FinishDelivery(b.ctx, leased.Lease, answered))
			b.Equal(webtrigger.DeliveryDelivered, b.delivery(leased).State)
		}},
		rule{"a delivery that has ended keeps its outcome", func(b *rig) {
			for _, first := range []webtrigger.DeliveryOutcome{answered, refused, blocked} {
				b.complete(withCallback)
				leased := b.lease(long)
				if first.State != webtrigger.DeliveryBlocked {
					b.NoError(b.store.ClaimDelivery(b.ctx, leased.Lease))
				}
				b.NoError(b.store.FinishDelivery(b.ctx, leased.Lease, first))
				ended := b.delivery(leased)
				b.leaseLost(b.store.FinishDelivery(b.ctx, leased.Lease, unreached))
				b.leaseLost(b.store.ClaimDelivery(b.ctx, leased.Lease))
				b.Equal(ended, b.delivery(leased))
			}
		}},
		rule{"of simultaneous outcomes one is kept", func(b *rig) {
			for range 10 {
				b.complete(withCallback)
				leased := b.claimDelivery()
				errs := b.together(8, func(i int) error {
					return b.store.FinishDelivery(b.ctx, leased.Lease, webtrigger.DeliveryOutcome{State: webtrigger.DeliveryFailed, HTTPStatus: 500 + i})
				})
				b.Equal(1, b.succeeded(errs, webtrigger.ErrLeaseLost))
				b.NoError(errs[b.delivery(leased).HTTPStatus-500])
			}
		}},
		rule{"a delivery that stays sending for too long is unknown", func(b *rig) {
			b.complete(withCallback)
			leased := b.claimDelivery()
			sending := b.delivery(leased)
			b.outlast(brief)
			swept, err := b.store.SweepDeliveries(b.ctx, brief, 10)
			b.NoError(err)
			want := sending
			want.State = webtrigger.DeliveryUnknown
			b.Equal([]webtrigger.Delivery{want}, swept)
			b.Equal(want, b.delivery(leased))
			b.Empty(b.leased(10, long), "nothing is sent again")
			b.Empty(b.loseTrackOfNone())
		}},
		rule{"a delivery whose claim is recent is not unknown", func(b *rig) {
			b.complete(withCallback)
			leased := b.claimDelivery()
			swept, err := b.store.SweepDeliveries(b.ctx, time.Hour, 10)
			b.NoError(err)
			b.Empty(swept)
			b.Equal(webtrigger.DeliverySending, b.delivery(leased).State)
		}},
		rule{"a delivery is not unknown before its time", func(b *rig) {
			b.complete(withCallback)
			attempted := b.delivery(b.claimDelivery()).AttemptedAt
			b.eventually(func() bool {
				swept, err := b.store.SweepDeliveries(b.ctx, fair, 10)
				b.NoError(err)
				return len(swept) > 0
			})
			b.False(b.now().Before(attempted.Add(fair)))
		}},
		rule{"a delivery that has not begun is never unknown", func(b *rig) {
			b.complete(withCallback)
			b.outlast(brief)
			b.Empty(b.loseTrackOfNone())
			leased := b.lease(long)
			b.outlast(brief)
			b.Empty(b.loseTrackOfNone())
			b.NoError(b.store.ClaimDelivery(b.ctx, leased.Lease))
		}},
		rule{"deliveries become unknown up to the limit, each once", func(b *rig) {
			var want, got []int64
			for range 5 {
				b.complete(withCallback)
				want = append(want, b.claimDelivery().Delivery.ID)
			}
			b.outlast(brief)
			for range 3 {
				swept, err := b.store.SweepDeliveries(b.ctx, brief, 2)
				b.NoError(err)
				b.LessOrEqual(len(swept), 2)
				got = append(got, each(swept, deliveryID)...)
			}
			b.ElementsMatch(want, got)
		}},
		rule{"a late outcome replaces unknown, once", func(b *rig) {
			for _, outcome := range []webtrigger.DeliveryOutcome{answered, refused} {
				b.complete(withCallback)
				leased := b.claimDelivery()
				unknown := b.loseTrack()
				b.NoError(b.store.FinishDelivery(b.ctx, leased.Lease, outcome))
				b.deliveryEnded(outcome, unknown)
				b.leaseLost(b.store.FinishDelivery(b.ctx, leased.Lease, unreached))
				b.deliveryEnded(outcome, unknown)
			}
		}},
		rule{"a wrong token does not replace unknown", func(b *rig) {
			b.complete(withCallback)
			leased := b.claimDelivery()
			b.loseTrack()
			leased.Lease.Token++
			b.leaseLost(b.store.FinishDelivery(b.ctx, leased.Lease, answered))
			b.Equal(webtrigger.DeliveryUnknown, b.delivery(leased).State)
		}},
		rule{"a late outcome lands on its own delivery after a redelivery", func(b *rig) {
			run := b.complete(withCallback)
			leased := b.claimDelivery()
			unknown := b.loseTrack()
			again, err := b.store.Redeliver(b.ctx, leased.Delivery.ID)
			b.NoError(err)
			b.NoError(b.store.FinishDelivery(b.ctx, leased.Lease, answered))
			b.deliveryEnded(answered, unknown)
			b.Equal(again, b.deliveries(run.ID)[1])
		}},
		rule{"the outcome of a callback is mirrored on its run, and changes nothing else of it", func(b *rig) {
			for _, outcome := range []webtrigger.DeliveryOutcome{answered, refused} {
				run := b.complete(withCallback)
				before := b.record(run.ID)
				b.Zero(before.Run.Callback)
				leased := b.claimDelivery()
				b.Equal(before.Run, b.run(run.ID), "no outcome yet")
				b.NoError(b.store.FinishDelivery(b.ctx, leased.Lease, outcome))
				after := b.record(run.ID)
				after.Deliveries, before.Run.Callback = before.Deliveries, mirror(b.delivery(leased))
				b.Equal(before, after)
			}
		}},
		rule{"an outcome before the claim is mirrored", func(b *rig) {
			for _, outcome := range []webtrigger.DeliveryOutcome{unreached, blocked} {
				run := b.complete(withCallback)
				leased := b.lease(long)
				b.NoError(b.store.FinishDelivery(b.ctx, leased.Lease, outcome))
				b.Equal(mirror(b.delivery(leased)), b.run(run.ID).Callback)
			}
		}},
		rule{"an unknown outcome is mirrored, and the late one in its place", func(b *rig) {
			run := b.complete(withCallback)
			leased := b.claimDelivery()
			b.loseTrack()
			got := b.run(run.ID).Callback
			b.False(got.At.Before(b.delivery(leased).AttemptedAt))
			got.At = time.Time{}
			b.Equal(mirror(b.delivery(leased)), got)
			b.NoError(b.store.FinishDelivery(b.ctx, leased.Lease, refused))
			b.Equal(mirror(b.delivery(leased)), b.run(run.ID).Callback)
		}},
		rule{"a run mirrors its last delivery that has an outcome", func(b *rig) {
			run := b.complete(withCallback)
			first := b.claimDelivery()
			b.loseTrack()
			unknown := b.run(run.ID).Callback
			_, err := b.store.Redeliver(b.ctx, first.Delivery.ID)
			b.NoError(err)
			b.Equal(unknown, b.run(run.ID).Callback, "the second has none yet")
			second := b.claimDelivery()
			b.Equal(unknown, b.run(run.ID).Callback, "the second has none yet")
			b.NoError(b.store.FinishDelivery(b.ctx, second.Lease, answered))
			want := mirror(b.delivery(second))
			b.Equal(want, b.run(run.ID).Callback)
			b.NoError(b.store.FinishDelivery(b.ctx, first.Lease, refused))
			b.Equal(want, b.run(run.ID).Callback, "the late outcome of an earlier one")
		}},
	)
}

// mirror is what a run shows of a delivery.
func mirror(d webtrigger.Delivery) webtrigger.CallbackOutcome {
	return webtrigger.CallbackOutcome{
		DeliveryID: d.ID, State: d.State, HTTPStatus: d.HTTPStatus, FailureClass: d.FailureClass, At: d.CompletedAt}
}

// deliveryEnded holds a delivery to have ended with an outcome, and to be as it
// was before in everything else.
func (b *rig) deliveryEnded(want webtrigger.DeliveryOutcome, before webtrigger.Delivery) {
	b.t.Helper()
	got, err := b.store.Delivery(b.ctx, before.ID)
	b.NoError(err)
	b.False(got.CompletedAt.Before(before.CreatedAt))
	b.False(got.CompletedAt.IsZero())
	b.False(got.CompletedAt.Before(before.AttemptedAt))
	b.Equal(want, webtrigger.DeliveryOutcome{
		State: got.State, HTTPStatus: got.HTTPStatus, Latency: got.Latency, FailureClass: got.FailureClass, Error: got.Error, Response: got.Response})
	before.State, before.CompletedAt = got.State, got.CompletedAt
	before.HTTPStatus, before.Latency = got.HTTPStatus, got.Latency
	before.FailureClass, before.Error, before.Response = got.FailureClass, got.Error, got.Response
	b.Equal(before, got)
}

// loseTrackOfNone sweeps where there is nothing to sweep.
func (b *rig) loseTrackOfNone() []webtrigger.Delivery {
	b.t.Helper()
	swept, err := b.store.SweepDeliveries(b.ctx, time.Microsecond, 10)
	b.NoError(err)
	return swept
}
