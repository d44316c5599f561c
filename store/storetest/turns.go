package storetest

import (
	"slices"
	"strconv"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Turns: which deliveries of several assistants and hosts are leased, and in which
// order. The assistant with the fewest in progress comes first, and within it the host
// with the fewest, so that no backlog of one delays another.
func turnRules() []rule { return append(hostTurns(), assistantTurns()...) }

func hostTurns() []rule {
	return []rule{
		{"a delivery has its host, and the time of its lease", func(b *rig) {
			run := b.complete(at("receiver.example:8443"))
			leased := b.lease(long)
			b.Equal("receiver.example:8443", leased.Delivery.Host)
			b.Equal("receiver.example:8443", b.deliveries(run.ID)[0].Host)
			b.False(leased.LeasedAt.Before(leased.Delivery.DueAt))
			b.False(b.now().Before(leased.LeasedAt))
			b.Equal(time.UTC, leased.LeasedAt.Location())
		}},
		{"a redelivery keeps the host", func(b *rig) {
			b.complete(at("receiver.example:443"))
			again, err := b.store.Redeliver(b.ctx, b.deliver().Delivery.ID)
			b.NoError(err)
			b.Equal("receiver.example:443", again.Host)
		}},
		{"hosts take turns, each oldest first", func(b *rig) {
			b.pend("a", "a", "a", "a", "b", "c", "b")
			b.Equal([]string{"a1", "b5", "c6", "a2", "b7", "a3", "a4"}, b.turns(webtrigger.DeliveryQuery{Limit: 10}))
		}},
		{"the limit falls on the hosts alike", func(b *rig) {
			b.pend("a", "a", "a", "a", "b", "c", "b")
			b.Equal([]string{"a1", "b5", "c6", "a2"}, b.turns(webtrigger.DeliveryQuery{Limit: 4}))
			b.Equal([]string{"a3", "b7"}, b.turns(webtrigger.DeliveryQuery{Limit: 2}))
			b.Equal([]string{"a4"}, b.turns(webtrigger.DeliveryQuery{Limit: 2}))
		}},
		{"what is under way already counts for the turn", func(b *rig) {
			b.pend("a", "a", "b", "b", "c")
			b.Equal([]string{"c5", "b3", "b4", "a1", "a2"},
				b.turns(webtrigger.DeliveryQuery{Limit: 10, Busy: map[string]int{"a": 5, "b": 1, "z": 9}}))
		}},
		{"a host gets no more than its share, those under way counted in", func(b *rig) {
			b.pend("a", "a", "a", "b", "b", "b", "c", "c")
			claim := webtrigger.DeliveryQuery{Limit: 10, PerHost: 2, Busy: map[string]int{"b": 1, "c": 2}}
			b.Equal([]string{"a1", "a2", "b4"}, b.turns(claim))
			claim.Busy = map[string]int{"a": 2, "b": 3, "c": 1}
			b.Equal([]string{"c7"}, b.turns(claim))
		}},
		{"a backlog of one host does not hide another", func(b *rig) {
			b.pend(slices.Repeat([]string{"a"}, 300)...)
			b.pend("b")
			claim := webtrigger.DeliveryQuery{Limit: 8, PerHost: 4, Busy: map[string]int{"a": 4}}
			b.Equal([]string{"b301"}, b.turns(claim))
		}},
		{"a resting host gets first attempts only", func(b *rig) {
			b.pend("a", "b")
			for range 2 {
				failed := b.lease(long)
				b.NoError(b.store.FinishDelivery(b.ctx, failed.Lease, webtrigger.DeliveryOutcome{
					State: webtrigger.DeliveryFailed, FailureClass: "connect", RetryIn: time.Microsecond}))
			}
			b.outlast(brief)
			b.pend("a", "b")
			b.Equal([]string{"b4", "a5", "b6"}, b.turns(webtrigger.DeliveryQuery{Limit: 10, Resting: []string{"a", "z"}}))
			b.Empty(b.turns(webtrigger.DeliveryQuery{Limit: 10, Resting: []string{"z", "a"}}))
			b.Equal([]string{"a3"}, b.turns(webtrigger.DeliveryQuery{Limit: 10}))
		}},
		{"a redelivery does not rest", func(b *rig) {
			b.pend("a")
			failed := b.lease(long)
			b.NoError(b.store.FinishDelivery(b.ctx, failed.Lease, webtrigger.DeliveryOutcome{
				State: webtrigger.DeliveryFailed, FailureClass: "connect", RetryIn: time.Microsecond}))
			b.outlast(brief)
			b.Empty(b.turns(webtrigger.DeliveryQuery{Limit: 10, Resting: []string{"a"}}))
			_, err := b.store.Redeliver(b.ctx, failed.Delivery.ID)
			b.NoError(err)
			b.Equal([]string{"a2"}, b.turns(webtrigger.DeliveryQuery{Limit: 10, Resting: []string{"a"}}))
		}},
		{"a delivery whose turn was lost comes by its due time again", func(b *rig) {
			b.pend("a", "a", "b")
			b.Equal([]string{"a1"}, b.turns(webtrigger.DeliveryQuery{Limit: 1, Lease: brief}))
			b.outlast(brief)
			b.Equal([]string{"a1", "b3", "a2"}, b.turns(webtrigger.DeliveryQuery{Limit: 10}))
		}},
	}
}

// pend completes a run for each host.
func (b *rig) pend(hosts ...string) {
	b.t.Helper()
	b.pendBy(assistant, hosts...)
}

// pendBy completes a run of an assistant for each host.
func (b *rig) pendBy(assistantID string, hosts ...string) {
	b.t.Helper()
	for _, host := range hosts {
		b.pendingRuns = append(b.pendingRuns, b.complete(of(assistantID), at(host)).ID)
	}
}

// turns leases deliveries of the runs of pend and names each by its host and by
// which of all their deliveries it is, from 1.
func (b *rig) turns(claim webtrigger.DeliveryQuery) []string {
	b.t.Helper()
	if claim.Lease == 0 {
		claim.Lease = long
	}
	claim.Token = webtrigger.NewToken()
	leased, err := b.store.LeaseDeliveries(b.ctx, claim)
	b.NoError(err)
	var all []int64
	for _, runID := range b.pendingRuns {
		all = append(all, each(b.deliveries(runID), deliveryID)...)
	}
	slices.Sort(all)
	return each(leased, func(d webtrigger.LeasedDelivery) string {
		return d.Delivery.Host + strconv.Itoa(slices.Index(all, d.Delivery.ID)+1)
	})
}
