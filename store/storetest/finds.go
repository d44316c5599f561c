package storetest

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Lists over all runs, for operators: deliveries by filter, their counts, more filters of
// runs, and what people recognize runs by.
func findRules() []rule {
	return append(deliveryFindRules(), runFindRules()...)
}

func deliveryFindRules() []rule {
	return []rule{
		{"deliveries of all runs are listed newest first, page by page, as they are", func(b *rig) {
			one, two := b.complete(at("a.example")), b.complete(at("b.example"), of(stranger))
			b.complete()
			found := pages(b, deliveryID, func(page webtrigger.Page) ([]webtrigger.Delivery, error) {
				return b.store.FindDeliveries(b.ctx, webtrigger.DeliveryFilter{Page: page})
			})
			b.Equal(append(b.deliveries(two.ID), b.deliveries(one.ID)...), found)
		}},
		{"deliveries are found by state, host, assistant and time", func(b *rig) {
			failed := b.ended(webtrigger.DeliveryFailed, at("a.example"))
			b.past(failed.CreatedAt)
			blocked := b.ended(webtrigger.DeliveryBlocked, at("b.example"), of(stranger))
			b.past(blocked.CreatedAt)
			delivered := b.ended(webtrigger.DeliveryDelivered, at("a.example"))
			pending := b.deliveries(b.complete(at("c.example")).ID)[0]
			found := func(filter webtrigger.DeliveryFilter) []int64 {
				filter.Page.Limit = 100
				found, err := b.store.FindDeliveries(b.ctx, filter)
				b.NoError(err)
				return each(found, deliveryID)
			}
			states := func(states ...webtrigger.DeliveryState) webtrigger.DeliveryFilter {
				return webtrigger.DeliveryFilter{States: states}
			}
			b.Equal([]int64{blocked.ID, failed.ID}, found(states(webtrigger.DeliveryFailed, webtrigger.DeliveryBlocked, webtrigger.DeliveryUnknown)))
			b.Equal([]int64{delivered.ID, failed.ID}, found(states(webtrigger.DeliveryFailed, webtrigger.DeliveryDelivered)))
			b.Equal([]int64{pending.ID}, found(states(webtrigger.DeliveryPending)))
			b.Equal([]int64{delivered.ID, failed.ID}, found(webtrigger.DeliveryFilter{Host: "a.example"}))
			b.Empty(found(webtrigger.DeliveryFilter{Host: "a.exampl"}))
			b.Equal([]int64{blocked.ID}, found(webtrigger.DeliveryFilter{AssistantID: stranger}))
			b.Equal([]int64{blocked.ID}, found(webtrigger.DeliveryFilter{From: blocked.CreatedAt, To: delivered.CreatedAt}))
		}},
		{"only the last delivery of a run may be asked for", func(b *rig) {
			first := b.ended(webtrigger.DeliveryFailed, withCallback)
			other := b.ended(webtrigger.DeliveryFailed, withCallback).ID
			next, err := b.store.Redeliver(b.ctx, first.ID)
			b.NoError(err)
			last, err := b.store.FindDeliveries(b.ctx, webtrigger.DeliveryFilter{Last: true, Page: webtrigger.Page{Limit: 10}})
			b.NoError(err)
			b.Equal([]int64{next.ID, other}, each(last, deliveryID))
			failed, err := b.store.FindDeliveries(b.ctx, webtrigger.DeliveryFilter{Last: true,
				States: []webtrigger.DeliveryState{webtrigger.DeliveryFailed}, Page: webtrigger.Page{Limit: 10}})
			b.NoError(err)
			b.Equal([]int64{other}, each(failed, deliveryID))
		}},
		{"deliveries are counted by host and state, the newest up to a limit", func(b *rig) {
			b.ended(webtrigger.DeliveryFailed, at("b.example"))
			b.ended(webtrigger.DeliveryFailed, at("a.example"))
			b.ended(webtrigger.DeliveryFailed, at("a.example"))
			b.ended(webtrigger.DeliveryDelivered, at("a.example"))
			count := func(filter webtrigger.DeliveryFilter, limit int) []webtrigger.DeliveryCount {
				counts, err := b.store.CountDeliveries(b.ctx, filter, limit)
				b.NoError(err)
				return counts
			}
			b.Equal([]webtrigger.DeliveryCount{
				{Host: "a.example", State: webtrigger.DeliveryDelivered, Count: 1}, {Host: "a.example", State: webtrigger.DeliveryFailed, Count: 2},
				{Host: "b.example", State: webtrigger.DeliveryFailed, Count: 1},
			}, count(webtrigger.DeliveryFilter{}, 100))
			b.Equal([]webtrigger.DeliveryCount{
				{Host: "a.example", State: webtrigger.DeliveryDelivered, Count: 1}, {Host: "a.example", State: webtrigger.DeliveryFailed, Count: 1},
			}, count(webtrigger.DeliveryFilter{}, 2))
			b.Equal([]webtrigger.DeliveryCount{{Host: "b.example", State: webtrigger.DeliveryFailed, Count: 1}},
				count(webtrigger.DeliveryFilter{Host: "b.example"}, 100))
			b.Empty(count(webtrigger.DeliveryFilter{AssistantID: stranger}, 100))
		}},
	}
}

func runFindRules() []rule {
	list := func(b *rig, query webtrigger.RunQuery) []int64 {
		query.Page.Limit = 100
		runs, err := b.store.Runs(b.ctx, query)
		b.NoError(err)
		return each(runs, runID)
	}
	return []rule{
		{"runs are listed by several statuses", func(b *rig) {
			queued, completed := b.accept().ID, b.complete().ID
			failed := b.finish(b.start().Lease, failed("Broken.")).ID
			running := b.start().Run.ID
			timedOut := b.stop(b.accept().ID, webtrigger.DeadlineStop()).ID
			find := func(statuses ...webtrigger.RunStatus) []int64 {
				return list(b, webtrigger.RunQuery{Statuses: statuses})
			}
			b.ElementsMatch([]int64{queued, running}, find(webtrigger.RunQueued, webtrigger.RunRunning))
			b.ElementsMatch([]int64{timedOut, failed}, find(webtrigger.RunFailed, webtrigger.RunTimedOut))
			b.ElementsMatch([]int64{running, failed}, find(webtrigger.RunFailed, webtrigger.RunRunning))
			b.ElementsMatch([]int64{queued, completed}, find(webtrigger.RunCompleted, webtrigger.RunQueued))
			counts, err := b.store.CountRuns(b.ctx, webtrigger.RunQuery{}, 10)
			b.NoError(err)
			b.Equal(map[webtrigger.RunStatus]int{webtrigger.RunQueued: 1, webtrigger.RunRunning: 1, webtrigger.RunCompleted: 1,
				webtrigger.RunFailed: 1, webtrigger.RunTimedOut: 1}, counts)
		}},
		{"runs are counted by status up to a limit, as the filter has them", func(b *rig) {
			for range 3 {
				b.accept()
			}
			b.accept(of(stranger))
			b.complete(of(stranger))
			count := func(query webtrigger.RunQuery, limit int) map[webtrigger.RunStatus]int {
				counts, err := b.store.CountRuns(b.ctx, query, limit)
				b.NoError(err)
				return counts
			}
			b.Equal(map[webtrigger.RunStatus]int{webtrigger.RunQueued: 2, webtrigger.RunCompleted: 1}, count(webtrigger.RunQuery{}, 2))
			b.Equal(map[webtrigger.RunStatus]int{webtrigger.RunQueued: 3}, count(webtrigger.RunQuery{AssistantID: assistant}, 10))
			b.Equal(map[webtrigger.RunStatus]int{webtrigger.RunCompleted: 1},
				count(webtrigger.RunQuery{Statuses: []webtrigger.RunStatus{webtrigger.RunCompleted}}, 10))
		}},
		{"runs are listed by task definition", func(b *rig) {
			one, eleven := b.task(assistant), b.task(assistant)
			eleven.ID = one.ID*10 + 1
			first, second := b.accept(doing(&one)), b.accept(doing(&one))
			other := b.accept(doing(&eleven))
			b.accept()
			b.Equal([]int64{second.ID, first.ID}, list(b, webtrigger.RunQuery{TaskDefinitionID: one.ID}))
			b.Equal([]int64{other.ID}, list(b, webtrigger.RunQuery{TaskDefinitionID: eleven.ID}))
			b.Empty(list(b, webtrigger.RunQuery{TaskDefinitionID: absent}))
		}},
		{"runs are listed by the state of their last delivery", func(b *rig) {
			b.complete()
			failed, delivered := b.ended(webtrigger.DeliveryFailed, withCallback), b.ended(webtrigger.DeliveryDelivered, withCallback)
			repeated := b.ended(webtrigger.DeliveryFailed, withCallback)
			_, err := b.store.Redeliver(b.ctx, repeated.ID)
			b.NoError(err)
			for state, runID := range map[webtrigger.DeliveryState]int64{webtrigger.DeliveryFailed: failed.RunID,
				webtrigger.DeliveryDelivered: delivered.RunID, webtrigger.DeliveryPending: repeated.RunID} {
				b.Equal([]int64{runID}, list(b, webtrigger.RunQuery{CallbackStates: []webtrigger.DeliveryState{state}}), state)
			}
			b.Empty(list(b, webtrigger.RunQuery{CallbackStates: []webtrigger.DeliveryState{webtrigger.DeliverySending}}))
			b.Equal([]int64{repeated.RunID, delivered.RunID, failed.RunID}, list(b, webtrigger.RunQuery{CallbackStates: []webtrigger.DeliveryState{
				webtrigger.DeliveryFailed, webtrigger.DeliveryDelivered, webtrigger.DeliveryPending, webtrigger.DeliverySending}}))
			b.Equal([]int64{failed.RunID}, list(b, webtrigger.RunQuery{CallbackStates: []webtrigger.DeliveryState{
				webtrigger.DeliveryUnknown, webtrigger.DeliveryFailed, webtrigger.DeliveryBlocked}}))
		}},
		{"the texts of runs are those of the list, with or without messages", func(b *rig) {
			metadata := json.RawMessage(`{"n":1e1000000, "\u00e4": [true]}`)
			first := b.accept(func(t *webtrigger.NewTrigger) {
				t.Input = webtrigger.RunInput{Subject: "Ärger", Message: "Order 4711", Metadata: metadata}
				t.RequestID = "req-1"
			})
			b.stop(first.ID, webtrigger.CancelStop("superseded"))
			broken := b.finish(b.start(of(stranger)).Lease, failed("CRM does not answer"))
			done := b.finish(b.start().Lease, completed(strings.Repeat("ä", webtrigger.SearchedResultRunes+1)))
			large := json.RawMessage(`"` + strings.Repeat("x", webtrigger.SearchedMetadataBytes) + `"`)
			waiting := b.accept(func(t *webtrigger.NewTrigger) { t.Input.Metadata = large })
			page := webtrigger.Page{Limit: 10}
			all, err := b.store.RunTexts(b.ctx, webtrigger.RunQuery{Page: page}, true)
			b.NoError(err)
			b.Equal([]int64{waiting.ID, done.ID, broken.ID, first.ID}, each(all, textsID))
			b.Nil(all[0].Metadata, "too large")
			b.Equal(webtrigger.RunQueued, all[0].Status)
			b.Equal(strings.Repeat("ä", webtrigger.SearchedResultRunes), all[1].Result)
			b.Equal("CRM does not answer", all[2].ErrorMessage)
			b.Equal(webtrigger.RunTexts{RunID: first.ID, RunKey: first.Key, Status: webtrigger.RunCancelled, CreatedAt: first.CreatedAt, Subject: "Ärger",
				RequestID: "req-1", StatusDetail: "superseded", Message: "Order 4711", Metadata: metadata}, all[3])
			few, err := b.store.RunTexts(b.ctx, webtrigger.RunQuery{AssistantID: assistant, Statuses: []webtrigger.RunStatus{webtrigger.RunCancelled, webtrigger.RunCompleted},
				OldestFirst: true, Page: page}, false)
			b.NoError(err)
			b.Equal([]int64{first.ID, done.ID}, each(few, textsID))
			b.Empty(few[0].Message + few[1].Result)
			b.Nil(few[0].Metadata)
			next, err := b.store.RunTexts(b.ctx, webtrigger.RunQuery{Page: webtrigger.Page{Before: done.ID, Limit: 1}}, true)
			b.NoError(err)
			b.Equal([]int64{broken.ID}, each(next, textsID))
		}},
		{"runs are listed by their ids, within the rest of the query", func(b *rig) {
			one, two, three := b.accept(), b.accept(of(stranger)), b.accept()
			b.Equal([]int64{three.ID, one.ID}, list(b, webtrigger.RunQuery{IDs: []int64{one.ID, three.ID, absent}}))
			b.Equal([]int64{one.ID, two.ID}, list(b, webtrigger.RunQuery{IDs: []int64{two.ID, one.ID}, OldestFirst: true}))
			b.Equal([]int64{two.ID}, list(b, webtrigger.RunQuery{IDs: []int64{one.ID, two.ID}, AssistantID: stranger}))
		}},
		{"runs are listed oldest first, page by page", func(b *rig) {
			var created []int64
			for range 5 {
				created = append(created, b.accept().ID)
			}
			b.Equal(created, each(pages(b, runID, func(page webtrigger.Page) ([]webtrigger.Run, error) {
				return b.store.Runs(b.ctx, webtrigger.RunQuery{OldestFirst: true, Page: page})
			}), runID))
		}},
		{"the labels of runs are their subject and the names of their key and task", func(b *rig) {
			key, _ := b.key(assistant)
			task := b.task(assistant)
			full := b.accept(doing(&task), func(t *webtrigger.NewTrigger) { t.KeyID, t.Input.Subject = key.ID, "Ärger" })
			plain := b.accept()
			gone := b.task(assistant)
			deleted := b.accept(doing(&gone))
			b.NoError(b.store.DeleteTaskDefinition(b.ctx, gone.ID))
			labels, err := b.store.RunLabels(b.ctx, []int64{full.ID, plain.ID, deleted.ID, absent})
			b.NoError(err)
			for id, l := range labels {
				l.QueuedAt = time.Time{}
				labels[id] = l
			}
			b.Equal(map[int64]webtrigger.RunLabels{
				full.ID:  {Subject: "Ärger", KeyName: key.Name, TaskName: task.Name},
				plain.ID: {Subject: "Subject"}, deleted.ID: {Subject: "Subject"},
			}, labels)
		}},
		{"the labels of a queued run have the time since which it is queued", func(b *rig) {
			queuedAt := func(id int64) time.Time {
				labels, err := b.store.RunLabels(b.ctx, []int64{id})
				b.NoError(err)
				b.Contains(labels, id)
				return labels[id].QueuedAt
			}
			run := b.start()
			b.Zero(queuedAt(run.Run.ID))
			b.outlast(5 * sameTransition)
			before := b.now()
			b.requeue(run.Lease)
			after := b.now()
			requeued := queuedAt(run.Run.ID)
			b.False(requeued.Before(before.Add(-sameTransition)), "%v before %v", requeued, before)
			b.False(requeued.After(after.Add(sameTransition)), "%v after %v", requeued, after)
			first := b.accept(under("ticket"))
			behind := b.accept(under("ticket"))
			b.True(b.run(behind.ID).Behind)
			for _, waits := range []webtrigger.Run{first, behind} {
				b.WithinDuration(waits.CreatedAt, queuedAt(waits.ID), sameTransition)
			}
			done := b.complete()
			b.Zero(queuedAt(done.ID))
		}},
	}
}

func textsID(t webtrigger.RunTexts) int64 { return t.RunID }

// ended is the delivery of a new run, which has ended with a state.
func (b *rig) ended(state webtrigger.DeliveryState, changes ...change) webtrigger.Delivery {
	b.t.Helper()
	run := b.complete(changes...)
	leased := b.lease(long)
	b.Equal(run.ID, leased.Delivery.RunID)
	if state != webtrigger.DeliveryBlocked {
		b.NoError(b.store.ClaimDelivery(b.ctx, leased.Lease))
	}
	b.NoError(b.store.FinishDelivery(b.ctx, leased.Lease, webtrigger.DeliveryOutcome{State: state}))
	return b.delivery(leased)
}
