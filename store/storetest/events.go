package storetest

import (
	"encoding/json"
	"math"
	"strings"

	"github.com/webtrigger-go/webtrigger"
)

// The event log: sequences are gapless in a run, ids rise in a conversation
// across its runs, and a page is what passes every cursor, in the order of ids,
// at one instant.
func eventRules() []rule {
	const all = 1000
	return []rule{
		{"sequences are 1, 2, 3 … through the life of a run", func(b *rig) {
			run := b.start()
			b.append(run.Lease, steps(1, 3))
			b.requeue(run.Lease)
			run = b.take(run.Run.ID, long)
			b.append(run.Lease, steps(1, 2))
			b.stop(run.Run.ID, webtrigger.CancelStop(""))
			ended := b.finish(run.Lease, completed("Result"))
			b.Equal([]webtrigger.EventType{"run_queued", "run_started", "x_step", "x_step", "x_step", "run_requeued",
				"run_started", "x_step", "x_step", "cancel_requested", "run_cancelled"}, each(b.events(ended), kind))
			b.holdsLog(ended)
		}},
		{"an event is what was appended, in order, under its run", func(b *rig) {
			b.accept()
			run := b.start(in(b.complete().ConversationID))
			batch := steps(1, 3)
			batch.Events[1].Type = webtrigger.EventToolStarted
			b.append(run.Lease, batch)
			for i, e := range b.events(run.Run)[2:] {
				b.sameEvent(batch.Events[i], e)
				b.Equal(run.Run.ID, e.RunID)
				b.Equal(run.Run.Key, e.RunKey)
				b.Equal(run.Run.ConversationID, e.ConversationID)
			}
		}},
		{"ids rise in the conversation across its runs, sequences do not", func(b *rig) {
			one := b.start()
			joined := b.accept(in(one.Run.ConversationID))
			b.append(one.Lease, steps(1, 3))
			ended := b.finish(one.Lease, completed("Result"))
			two := b.take(joined.ID, long)
			b.append(two.Lease, steps(1, 6))
			page := b.page(webtrigger.EventQuery{ConversationID: one.Run.ConversationID})
			b.Len(page.Events, 14)
			b.IsIncreasing(append([]int64{0}, each(page.Events, eventID)...))
			b.holdsLog(ended)
			b.holdsLog(two.Run)
		}},
		{"a payload of 256 KiB keeps its bytes", func(b *rig) {
			const unit = "<&>é\u2028\U0001F600 "
			text := strings.Repeat(unit, (webtrigger.MaxEventPayloadBytes-100)/len(unit))
			text += strings.Repeat("x", webtrigger.MaxEventPayloadBytes-len(`{"text":""}`)-len(text))
			payload := json.RawMessage(`{"text":"` + text + `"}`)
			b.Len(payload, webtrigger.MaxEventPayloadBytes, "the suite's own")
			b.True(json.Valid(payload), "the suite's own")
			run := b.start()
			event := webtrigger.NewEvent{Type: "x_large", Payload: payload}
			b.append(run.Lease, webtrigger.EventBatch{Number: 1, Events: []webtrigger.NewEvent{event, event}})
			events := b.events(run.Run)
			b.sameEvent(event, events[2])
			b.sameEvent(event, events[3])
		}},
		{"a batch of 500 events is stored in order", func(b *rig) {
			run := b.start()
			batch := steps(1, 500)
			b.append(run.Lease, batch)
			for i, e := range b.events(run.Run)[2:] {
				b.sameEvent(batch.Events[i], e)
			}
			b.holdsLog(run.Run)
		}},
		{"a page holds higher ids only, up to its limit, in order", func(b *rig) {
			run := b.start()
			b.append(run.Lease, steps(1, 8))
			want := each(b.events(run.Run), eventID)
			var seen []int64
			query := webtrigger.EventQuery{ConversationID: run.Run.ConversationID, Limit: 3}
			for len(seen) <= len(want) {
				page := b.page(query)
				b.Equal(want[len(want)-1], page.LastID)
				if len(page.Events) == 0 {
					break
				}
				b.LessOrEqual(len(page.Events), 3)
				seen = append(seen, each(page.Events, eventID)...)
				query.AfterID = seen[len(seen)-1]
			}
			b.Equal(want, seen)
		}},
		{"a page reports whether more events match the query", func(b *rig) {
			run := b.start() // two events
			b.append(run.Lease, steps(1, 4))
			conversation := run.Run.ConversationID
			for _, runID := range []int64{0, run.Run.ID} {
				for limit, more := range map[int]bool{1: true, 5: true, 6: false, 7: false} {
					page := b.page(webtrigger.EventQuery{ConversationID: conversation, RunID: runID, Limit: limit})
					b.Len(page.Events, min(limit, 6))
					b.Equal(more, page.More, "limit %d", limit)
				}
			}
			last := b.page(webtrigger.EventQuery{ConversationID: conversation}).LastID
			b.False(b.page(webtrigger.EventQuery{ConversationID: conversation, AfterID: last}).More)
		}},
		{"a page has so many bytes of payloads, and one event at least", func(b *rig) {
			run := b.start()
			after := b.page(webtrigger.EventQuery{ConversationID: run.Run.ConversationID}).LastID
			batch := steps(1, 4) // payloads of one size
			b.append(run.Lease, batch)
			size := len(batch.Events[0].Payload)
			for bytes, events := range map[int]int{1: 1, size: 1, 2*size - 1: 1, 2 * size: 2, 4 * size: 4, 0: 4} {
				page := b.page(webtrigger.EventQuery{ConversationID: run.Run.ConversationID, AfterID: after, MaxBytes: bytes})
				b.Len(page.Events, events, "%d bytes", bytes)
				b.Equal(events < 4, page.More)
			}
		}},
		{"a cursor beyond the end gives an empty page", func(b *rig) {
			run := b.accept()
			for _, query := range []webtrigger.EventQuery{
				{AfterID: absent}, {RunID: run.ID, AfterID: absent}, {RunID: run.ID, AfterSequence: absent},
				{AfterID: math.MaxInt64}, {RunID: run.ID, AfterID: math.MaxInt64}, {RunID: run.ID, AfterSequence: math.MaxInt64},
			} {
				query.ConversationID = run.ConversationID
				page := b.page(query)
				b.Empty(page.Events)
				b.Equal(b.events(run)[0].ID, page.LastID)
				b.False(page.Ended)
			}
		}},
		{"a run's page holds its events only", func(b *rig) {
			one := b.start()
			joined := b.accept(in(one.Run.ConversationID))
			b.append(one.Lease, steps(1, 2))
			b.finish(one.Lease, completed("Result"))
			two := b.take(joined.ID, long)
			page := b.page(webtrigger.EventQuery{ConversationID: one.Run.ConversationID, RunID: two.Run.ID})
			b.Equal([]int64{two.Run.ID, two.Run.ID}, each(page.Events, func(e webtrigger.Event) int64 { return e.RunID }))
			b.Equal([]int64{1, 2}, each(page.Events, sequence))
		}},
		{"a page after a sequence holds higher sequences only", func(b *rig) {
			first := b.complete()
			run := b.start(in(first.ConversationID))
			b.append(run.Lease, steps(1, 4))
			query := webtrigger.EventQuery{ConversationID: first.ConversationID, RunID: run.Run.ID, AfterSequence: 2, Limit: 3}
			b.Equal([]int64{3, 4, 5}, each(b.page(query).Events, sequence))
			query.AfterSequence = 5
			b.Equal([]int64{6}, each(b.page(query).Events, sequence))
			query.AfterSequence = 6
			b.Empty(b.page(query).Events)
		}},
		{"an event passes every cursor or is not returned", func(b *rig) {
			b.accept()
			first := b.complete()
			run := b.start(in(first.ConversationID))
			b.append(run.Lease, steps(1, 6))
			events := b.events(run.Run)
			for _, c := range []struct{ afterID, afterSequence, first int64 }{
				{events[1].ID, 4, 5}, {events[4].ID, 2, 6}, {events[3].ID, 4, 5}, {0, 7, 8}, {events[6].ID, 0, 8}, {1, 0, 1},
			} {
				page := b.page(webtrigger.EventQuery{ConversationID: first.ConversationID, RunID: run.Run.ID,
					AfterID: c.afterID, AfterSequence: c.afterSequence, Limit: all})
				b.Equal(c.first, page.Events[0].Sequence)
				b.Len(page.Events, int(8-c.first)+1)
			}
		}},
		{"LastID is the conversation's last event, whatever the page holds", func(b *rig) {
			one := b.complete()
			two := b.start(in(one.ConversationID))
			b.append(two.Lease, steps(1, 5))
			events := b.events(two.Run)
			last := events[len(events)-1].ID
			for _, query := range []webtrigger.EventQuery{
				{Limit: 1}, {Limit: all}, {AfterID: last, Limit: all}, {RunID: one.ID, Limit: all}, {RunID: one.ID, AfterSequence: 1, Limit: 1},
			} {
				query.ConversationID = one.ConversationID
				b.Equal(last, b.page(query).LastID)
			}
		}},
		{"a conversation has ended when all its runs have", func(b *rig) {
			one := b.start()
			two := b.accept(in(one.Run.ConversationID))
			ended := func(runID int64) bool {
				return b.page(webtrigger.EventQuery{ConversationID: one.Run.ConversationID, RunID: runID, Limit: 1}).Ended
			}
			b.False(ended(0))
			b.finish(one.Lease, completed("Result"))
			b.Equal([]bool{false, true, false}, []bool{ended(0), ended(one.Run.ID), ended(two.ID)})
			b.requeue(b.take(two.ID, long).Lease)
			b.False(ended(0))
			b.stop(two.ID, webtrigger.CancelStop(""))
			b.Equal([]bool{true, true, true}, []bool{ended(0), ended(one.Run.ID), ended(two.ID)})
			three := b.accept(in(one.Run.ConversationID))
			b.Equal([]bool{false, true, false}, []bool{ended(0), ended(one.Run.ID), ended(three.ID)})
		}},
		{"each way to end a run ends its log", func(b *rig) {
			finished := b.complete()
			stopped := b.stop(b.accept().ID, webtrigger.DeadlineStop())
			requeued := b.start()
			b.stop(requeued.Run.ID, webtrigger.CancelStop(""))
			b.requeue(requeued.Lease)
			swept := b.swept(b.strand().Run.ID)
			for _, run := range []webtrigger.Run{finished, stopped, requeued.Run, swept} {
				b.True(b.page(webtrigger.EventQuery{ConversationID: run.ConversationID}).Ended)
				b.True(b.page(webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID}).Ended)
				b.holdsLog(b.run(run.ID))
			}
		}},
		{"an absent conversation, or a run that is not in it, is not found", func(b *rig) {
			one, two := b.accept(), b.accept()
			for _, query := range []webtrigger.EventQuery{
				{ConversationID: absent, Limit: 1},
				{ConversationID: absent, RunID: one.ID, Limit: 1},
				{ConversationID: one.ConversationID, RunID: two.ID, Limit: 1},
				{ConversationID: one.ConversationID, RunID: absent, Limit: 1},
			} {
				_, err := b.store.Events(b.ctx, query)
				b.notFound(err)
			}
		}},
		{"last ids are returned for conversations that exist", func(b *rig) {
			one, two := b.start(), b.accept()
			b.append(one.Lease, steps(1, 3))
			b.accept()
			events := b.events(one.Run)
			got, err := b.store.LastEventIDs(b.ctx, []int64{two.ConversationID, absent, one.Run.ConversationID})
			b.NoError(err)
			b.Equal(map[int64]int64{
				one.Run.ConversationID: events[len(events)-1].ID,
				two.ConversationID:     b.events(two)[0].ID,
			}, got)
		}},
		{"last ids of no conversation are none", func(b *rig) {
			b.accept()
			got, err := b.store.LastEventIDs(b.ctx, nil)
			b.NoError(err)
			b.Empty(got)
		}},
	}
}
