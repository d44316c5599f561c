package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/webtrigger-go/webtrigger"
)

// Turns between assistants, and their shares.
func assistantTurns() []rule {
	const one, two, three = "assistant-1", "assistant-2", "assistant-3"
	return []rule{
		{"assistants take turns, and within each its hosts", func(b *rig) {
			b.pendBy(one, "a", "a", "a", "b")
			b.pendBy(two, "c", "c")
			b.pendBy(three, "d")
			b.Equal([]string{"a1", "c5", "d7", "b4", "c6", "a2", "a3"}, b.turns(webtrigger.DeliveryQuery{Limit: 10}))
		}},
		{"the limit falls on the assistants alike", func(b *rig) {
			b.pendBy(one, "a", "b", "c", "d", "e")
			b.pendBy(two, "f", "f", "f")
			b.Equal([]string{"a1", "f6", "b2", "f7"}, b.turns(webtrigger.DeliveryQuery{Limit: 4}))
		}},
		{"what an assistant has in progress counts for its turn", func(b *rig) {
			b.pendBy(one, "a", "a", "a", "b")
			b.pendBy(two, "c", "c")
			b.pendBy(three, "d")
			b.Equal([]string{"d7", "c5", "b4", "c6", "a1", "a2", "a3"}, b.turns(webtrigger.DeliveryQuery{
				Limit: 10, Busy: map[string]int{"a": 1}, BusyAssistants: map[string]int{one: 2, two: 1, "absent": 9}}))
		}},
		{"an assistant gets no more than its share, those in progress included", func(b *rig) {
			b.pendBy(one, "a", "b", "c", "d")
			b.pendBy(two, "e", "f", "g", "h")
			claim := webtrigger.DeliveryQuery{Limit: 10, PerAssistant: 2, BusyAssistants: map[string]int{two: 1}}
			b.Equal([]string{"a1", "b2", "e5"}, b.turns(claim))
			claim.BusyAssistants = map[string]int{one: 2, two: 3}
			b.Empty(b.turns(claim))
			claim.BusyAssistants = map[string]int{one: 1, two: 2}
			b.Equal([]string{"c3"}, b.turns(claim))
		}},
		{"an assistant gets more than its share while no other waits", func(b *rig) {
			b.pendBy(one, "a", "b", "c", "d", "e", "f")
			b.pendBy(two, "g")
			claim := webtrigger.DeliveryQuery{Limit: 10, PerAssistant: 2, Alone: 4}
			b.Equal([]string{"a1", "g7", "b2", "c3", "d4"}, b.turns(claim))
			claim.BusyAssistants = map[string]int{one: 4, two: 1}
			b.Empty(b.turns(claim))
			claim.BusyAssistants = map[string]int{one: 3, two: 1}
			b.Equal([]string{"e5"}, b.turns(claim))
			claim.Alone = 1 // is not higher
			claim.BusyAssistants = map[string]int{one: 1}
			b.Equal([]string{"f6"}, b.turns(claim))
		}},
		{"no assistant gets more than its share while two wait", func(b *rig) {
			b.pendBy(one, "a", "b", "c")
			b.pendBy(two, "d", "e", "f")
			claim := webtrigger.DeliveryQuery{Limit: 10, PerAssistant: 2, Alone: 4}
			b.Equal([]string{"a1", "d4", "b2", "e5"}, b.turns(claim))
			claim.BusyAssistants = map[string]int{one: 2, two: 2}
			b.Empty(b.turns(claim))
		}},
		{"an assistant whose hosts must wait does not wait", func(b *rig) {
			b.pendBy(one, "a", "b", "c")
			b.pendBy(two, "z", "z", "z")
			b.Equal([]string{"a1", "b2", "c3"}, b.turns(webtrigger.DeliveryQuery{
				Limit: 10, PerHost: 1, PerAssistant: 1, Alone: 3, Busy: map[string]int{"z": 1}}))
		}},
		{"the reserve is for assistants with nothing in progress", func(b *rig) {
			b.pendBy(one, "a", "b", "c", "d", "e", "f")
			claim := webtrigger.DeliveryQuery{Limit: 4, Reserved: 2}
			b.Equal([]string{"a1", "b2"}, b.turns(claim))
			b.pendBy(two, "g")
			b.pendBy(three, "h", "i")
			claim.BusyAssistants = map[string]int{one: 1}
			b.Equal([]string{"g7", "h8"}, b.turns(claim), "and no third of those that have one")
			claim.BusyAssistants = map[string]int{one: 1, three: 1}
			claim.Limit = 2
			b.Empty(b.turns(claim))
		}},
		{"assistants share the places of a host", func(b *rig) {
			b.pendBy(one, "h", "h", "h")
			b.pendBy(two, "h", "h")
			b.Equal([]string{"h1", "h4"}, b.turns(webtrigger.DeliveryQuery{Limit: 10, PerHost: 2}))
			b.Equal([]string{"h5"}, b.turns(webtrigger.DeliveryQuery{
				Limit: 10, PerHost: 3, Busy: map[string]int{"h": 2}, BusyAssistants: map[string]int{one: 1}}))
		}},
		{"a backlog of many hosts of one assistant does not hide another", func(b *rig) {
			const hosts = 300
			b.pendTogether(hosts, func(i int) change { return at(fmt.Sprint("dead", i)) })
			b.pendBy(two, "b")
			claim := webtrigger.DeliveryQuery{Limit: 4, PerAssistant: 8, BusyAssistants: map[string]int{one: 8}}
			b.Len(b.turns(claim), 1)
			b.pendBy(two, "c")
			claim.BusyAssistants = map[string]int{one: 7}
			b.Equal("c302", b.turns(claim)[0])
		}},
		{"all assistants and hosts come to their turn", func(b *rig) {
			const assistants, hosts = 200, 2
			b.pendTogether(assistants*hosts, func(i int) change {
				return func(t *webtrigger.NewTrigger) {
					of(fmt.Sprint("assistant-", i/hosts))(t)
					at(fmt.Sprint("host-", i))(t)
				}
			})
			seen := make(map[string]bool)
			for range 100 {
				claim := webtrigger.DeliveryQuery{Token: webtrigger.NewToken(), Lease: long, Limit: 16, PerHost: 1, PerAssistant: hosts}
				leased, err := b.store.LeaseDeliveries(b.ctx, claim)
				b.NoError(err)
				var who []string
				for _, d := range leased {
					b.False(seen[d.Delivery.Host])
					seen[d.Delivery.Host] = true
					who = append(who, d.Delivery.AssistantID)
				}
				if len(seen) < assistants*hosts*3/4 { // enough wait
					b.Len(leased, claim.Limit)
					slices.Sort(who)
					b.Len(slices.Compact(who), claim.Limit, "an assistant got two while others waited")
				}
			}
			b.Len(seen, assistants*hosts)
		}},
		{"deliveries that must not be leased hide no others", func(b *rig) {
			const blocked, assistants, hosts = 300, 40, 3
			b.pendTogether(blocked, func(int) change { return at("full") })
			b.pendTogether(assistants*hosts, func(i int) change {
				return func(t *webtrigger.NewTrigger) {
					of(fmt.Sprint("assistant-", i/hosts))(t)
					at(fmt.Sprint("host-", i))(t)
				}
			})
			total := 0
			for range 100 {
				leased, err := b.store.LeaseDeliveries(b.ctx, webtrigger.DeliveryQuery{
					Token: webtrigger.NewToken(), Lease: long, Limit: 8, PerHost: 1, Busy: map[string]int{"full": 1}})
				b.NoError(err)
				total += len(leased)
			}
			b.Equal(assistants*hosts, total)
		}},
	}
}

// pendTogether completes n runs with a callback each. It does not wait for one before the
// next, so that their order is open.
func (b *rig) pendTogether(n int, what func(i int) change) {
	b.t.Helper()
	var group sync.WaitGroup
	var mu sync.Mutex
	var failed error
	next := make(chan int)
	for range 16 {
		group.Go(func() {
			for i := range next {
				created, err := b.store.CreateTrigger(b.ctx, trigger(what(i), taking(worker)))
				if err == nil {
					_, err = b.store.FinishRun(b.ctx, *created.Lease, webtrigger.Finish{Outcome: completed("Result")})
				}
				mu.Lock()
				b.pendingRuns = append(b.pendingRuns, created.Run.ID)
				failed = errors.Join(failed, err)
				mu.Unlock()
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	group.Wait()
	b.NoError(failed)
}
