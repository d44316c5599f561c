package storetest

import (
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Ended runs are purged at their age and not before, their events earlier. Readers get
// the purged range. Purged data is absent from every read.
func retentionRules() []rule {
	soon := webtrigger.Retention{Events: 1, Completed: 1, Failed: 1, Cancelled: 1, TimedOut: 1}
	return []rule{
		{"without ages nothing goes", func(b *rig) {
			run := b.complete(withCallback)
			b.outlast(time.Millisecond)
			b.changesNothing(run.ID, func() { b.Zero(b.purge(webtrigger.Retention{})) })
		}},
		{"what is younger than its age stays", func(b *rig) {
			run := b.complete()
			b.changesNothing(run.ID, func() {
				b.Zero(b.purge(webtrigger.Retention{Events: time.Hour, Completed: time.Hour}))
			})
		}},
		{"the events of an old run go and the rest stays", func(b *rig) {
			run := b.complete()
			before := b.record(run.ID)
			b.outlast(time.Millisecond)
			b.Equal(webtrigger.Purged{Events: 1}, b.purge(webtrigger.Retention{Events: 1}))
			last := before.Events.LastID
			before.Events.Events, before.Events.PurgedTo = nil, last
			b.Equal(before, b.record(run.ID))
			b.Zero(b.purge(webtrigger.Retention{Events: 1}), "they go once")
		}},
		{"readers of purged events get the purged range", func(b *rig) {
			run := b.complete()
			last := b.page(webtrigger.EventQuery{ConversationID: run.ConversationID}).LastID
			b.outlast(time.Millisecond)
			b.purge(webtrigger.Retention{Events: 1})
			for _, runID := range []int64{0, run.ID} {
				for after := range last + 1 {
					page := b.page(webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: runID, AfterID: after})
					b.Empty(page.Events)
					b.True(page.Ended)
					b.Equal(last, page.LastID)
					if after < last {
						b.Equal(last, page.PurgedTo)
					} else {
						b.Zero(page.PurgedTo)
					}
				}
			}
			b.Equal(last, b.page(webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID, AfterSequence: 2}).PurgedTo)
			b.Zero(b.page(webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID, AfterSequence: 3}).PurgedTo)
		}},
		{"the events of a run that has not ended stay", func(b *rig) {
			old := b.complete()
			young := b.start(in(old.ConversationID))
			b.append(young.Lease, steps(1, 2))
			b.outlast(time.Millisecond)
			b.Equal(webtrigger.Purged{Events: 1}, b.purge(soon))
			b.Len(b.events(young.Run), 4)
			b.Zero(b.page(webtrigger.EventQuery{ConversationID: old.ConversationID, RunID: young.Run.ID}).PurgedTo)
			b.Len(b.page(webtrigger.EventQuery{ConversationID: old.ConversationID}).Events, 4)
		}},
		{"ids and sequences continue after purged ones", func(b *rig) {
			old := b.complete()
			b.outlast(time.Millisecond)
			b.purge(webtrigger.Retention{Events: 1})
			last := b.page(webtrigger.EventQuery{ConversationID: old.ConversationID}).LastID
			events := b.events(b.complete(in(old.ConversationID)))
			b.Equal(last+1, events[0].ID)
			b.EqualValues(1, events[0].Sequence)
		}},
		{"an old trigger goes whole", func(b *rig) {
			_, hash := b.key(assistant)
			run := b.complete(withCallback, keyed("key", 1, long))
			d := b.deliver()
			stays := b.finish(b.start(of(stranger)).Lease, failed("text"))
			b.outlast(time.Millisecond)
			before := b.record(stays.ID)
			b.Equal(webtrigger.Purged{Triggers: 1}, b.purge(webtrigger.Retention{Completed: 1}))
			b.absentEverywhere(run, d.Delivery.ID, hash)
			b.Equal(before, b.record(stays.ID))
			again := b.accept(keyed("key", 2, long))
			b.Greater(again.ID, stays.ID)
			b.Greater(again.ConversationID, stays.ConversationID)
		}},
		{"each state has its age", func(b *rig) {
			ends := map[webtrigger.RunStatus]webtrigger.Run{
				webtrigger.RunCompleted: b.complete(),
				webtrigger.RunFailed:    b.finish(b.start().Lease, failed("text")),
				webtrigger.RunCancelled: b.stop(b.accept().ID, webtrigger.CancelStop("")),
				webtrigger.RunTimedOut:  b.swept(b.strand().Run.ID),
			}
			b.outlast(time.Millisecond)
			for status, keep := range map[webtrigger.RunStatus]webtrigger.Retention{
				webtrigger.RunCompleted: {Completed: 1}, webtrigger.RunFailed: {Failed: 1},
				webtrigger.RunCancelled: {Cancelled: 1}, webtrigger.RunTimedOut: {TimedOut: 1},
			} {
				b.Equal(webtrigger.Purged{Triggers: 1}, b.purge(keep))
				_, err := b.store.RunByID(b.ctx, ends[status].ID)
				b.notFound(err)
				delete(ends, status)
				for _, run := range ends {
					b.run(run.ID)
				}
			}
		}},
		{"a trigger stays while one of its runs has not ended or is younger", func(b *rig) {
			run := b.complete()
			open := b.start(in(run.ConversationID))
			b.outlast(time.Millisecond)
			b.Zero(b.purge(webtrigger.Retention{Completed: 1}))
			b.finish(open.Lease, failed("text"))
			b.outlast(time.Millisecond)
			b.Zero(b.purge(webtrigger.Retention{Completed: 1, Failed: time.Hour}))
			b.Zero(b.purge(webtrigger.Retention{Completed: 1}))
			b.Equal(webtrigger.Purged{Triggers: 1}, b.purge(webtrigger.Retention{Completed: 1, Failed: 1}))
		}},
		{"a trigger stays while its callback is pending or under way", func(b *rig) {
			run := b.complete(withCallback)
			b.outlast(time.Millisecond)
			b.Zero(b.purge(webtrigger.Retention{Completed: 1}))
			leased := b.claimDelivery()
			b.Zero(b.purge(webtrigger.Retention{Completed: 1}))
			b.NoError(b.store.FinishDelivery(b.ctx, leased.Lease, webtrigger.DeliveryOutcome{State: webtrigger.DeliveryDelivered}))
			b.Equal(webtrigger.Purged{Triggers: 1}, b.purge(webtrigger.Retention{Completed: 1}))
			_, err := b.store.RunByID(b.ctx, run.ID)
			b.notFound(err)
		}},
		{"a pass of small calls looks at every run once", func(b *rig) {
			const n = 25
			for range n {
				b.complete()
			}
			b.outlast(time.Millisecond)
			after, triggers := int64(0), 0
			for range 2 * n {
				done, err := b.store.Purge(b.ctx, webtrigger.Purge{Keep: webtrigger.Retention{Completed: 1}, After: after, Limit: 2})
				b.NoError(err)
				b.LessOrEqual(done.Triggers, 2)
				triggers += done.Triggers
				if after = done.Next; after == 0 {
					break
				}
			}
			b.Zero(after)
			b.Equal(n, triggers)
			runs, err := b.store.Runs(b.ctx, webtrigger.RunQuery{Page: webtrigger.Page{Limit: 10}})
			b.NoError(err)
			b.Empty(runs)
		}},
		{"simultaneous passes purge each run once", func(b *rig) {
			const n = 20
			for range n {
				b.complete()
			}
			b.outlast(time.Millisecond)
			done := make([]webtrigger.Purged, 4)
			b.all(b.together(len(done), func(i int) (err error) {
				done[i], err = b.store.Purge(b.ctx, webtrigger.Purge{Keep: webtrigger.Retention{Completed: 1}, Limit: 100})
				return err
			}))
			triggers := 0
			for _, d := range done {
				triggers += d.Triggers
			}
			b.Equal(n, triggers)
		}},
		{"a trigger is erased at once, with its pending callback", func(b *rig) {
			_, hash := b.key(assistant)
			run := b.complete(withCallback, keyed("key", 1, long))
			sending := b.claimDelivery()
			b.NoError(b.store.EraseTrigger(b.ctx, run.ConversationID))
			b.absentEverywhere(run, sending.Delivery.ID, hash)
			b.ErrorIs(b.store.FinishDelivery(b.ctx, sending.Lease,
				webtrigger.DeliveryOutcome{State: webtrigger.DeliveryDelivered}), webtrigger.ErrLeaseLost)
			withCallback := b.complete(withCallback)
			b.NoError(b.store.EraseTrigger(b.ctx, withCallback.ConversationID))
			b.Empty(b.leased(10, long))
			b.notFound(b.store.EraseTrigger(b.ctx, run.ConversationID))
		}},
		{"a trigger with a run that has not ended is not erased", func(b *rig) {
			for _, run := range []webtrigger.Run{b.accept(), b.start().Run, b.accept(in(b.complete().ConversationID))} {
				b.changesNothing(run.ID, func() {
					b.ErrorIs(b.store.EraseTrigger(b.ctx, run.ConversationID), webtrigger.ErrConflict)
				})
			}
		}},
		{"the store reports what it contains", func(b *rig) {
			b.Zero(b.dataState().Runs)
			b.Zero(b.dataState().OldestRun)
			oldest := b.complete(withCallback)
			b.past(oldest.CreatedAt)
			b.accept(of(stranger))
			b.NoError(b.store.SetChannel(b.audited("channel/"+assistant), webtrigger.Channel{AssistantID: assistant}))
			state := b.dataState()
			b.Equal([]webtrigger.StoredCount{{Count: 2}, {Count: 1}, {Count: 1}}, []webtrigger.StoredCount{state.Runs, state.Deliveries, state.AuditEntries})
			b.Equal(oldest.CreatedAt, state.OldestRun)
			b.GreaterOrEqual(state.Bytes, int64(0))
			b.NoError(b.store.EraseTrigger(b.ctx, oldest.ConversationID))
			state = b.dataState()
			b.Equal([]webtrigger.StoredCount{{Count: 1}, {}}, []webtrigger.StoredCount{state.Runs, state.Deliveries})
			b.True(state.OldestRun.After(oldest.CreatedAt))
		}},
		{"the report of purges has the last pass, and the last one that deleted data", func(b *rig) {
			report := b.dataState()
			b.Zero(report.PassedAt)
			b.Zero(report.DeletedAt)
			b.NoError(b.store.RecordPass(b.ctx, webtrigger.Purged{}))
			first := b.dataState()
			b.NotZero(first.PassedAt)
			b.Zero(first.DeletedAt)
			b.past(first.PassedAt)
			deleted := webtrigger.Purged{Events: 1, Triggers: 2, AuditEntries: 3, StatsHours: 4}
			b.NoError(b.store.RecordPass(b.ctx, deleted))
			second := b.dataState()
			b.Equal(deleted, second.Deleted)
			b.Equal(second.PassedAt, second.DeletedAt)
			b.ordered(first.PassedAt, second.PassedAt)
			b.past(second.PassedAt)
			b.NoError(b.store.RecordPass(b.ctx, webtrigger.Purged{}))
			third := b.dataState()
			b.Equal(deleted, third.Deleted)
			b.Equal(second.DeletedAt, third.DeletedAt)
			b.ordered(second.PassedAt, third.PassedAt)
		}},
		{"an absent trigger cannot be erased", func(b *rig) {
			b.notFound(b.store.EraseTrigger(b.ctx, absent))
		}},
	}
}

func (b *rig) dataState() webtrigger.DataState {
	b.t.Helper()
	state, err := b.store.DataState(b.ctx)
	b.NoError(err)
	return state
}

// purge makes a complete pass and returns the sum of the purged data.
func (b *rig) purge(keep webtrigger.Retention) (all webtrigger.Purged) {
	b.t.Helper()
	for after := int64(0); ; {
		done, err := b.store.Purge(b.ctx, webtrigger.Purge{Keep: keep, After: after, Limit: 100})
		b.NoError(err)
		all.Events += done.Events
		all.Triggers += done.Triggers
		all.AuditEntries += done.AuditEntries
		if done.Next == 0 {
			return all
		}
		b.Greater(done.Next, after)
		after = done.Next
	}
}

// absentEverywhere requires that a run's trigger is absent from every read.
func (b *rig) absentEverywhere(run webtrigger.Run, deliveryID int64, hash webtrigger.KeyHash) {
	b.t.Helper()
	b.purged(run)
	_, err := b.store.Conversation(b.ctx, run.ConversationID)
	b.notFound(err)
	_, err = b.store.Events(b.ctx, webtrigger.EventQuery{ConversationID: run.ConversationID, Limit: 1})
	b.notFound(err)
	_, err = b.store.Delivery(b.ctx, deliveryID)
	b.notFound(err)
	_, err = b.store.Redeliver(b.ctx, deliveryID)
	b.notFound(err)
	_, err = b.store.Replay(b.ctx, assistant, *use("key", 1, long))
	b.notFound(err)
	b.Empty(b.messages(run.ConversationID))
	last, err := b.store.LastEventIDs(b.ctx, []int64{run.ConversationID})
	b.NoError(err)
	b.Empty(last)
	grant, err := b.store.Authenticate(b.ctx, hash, run.ConversationID, 0)
	b.NoError(err)
	b.Nil(grant.Run)
	runs, err := b.store.Runs(b.ctx, webtrigger.RunQuery{AssistantID: assistant, Page: webtrigger.Page{Limit: 100}})
	b.NoError(err)
	b.NotContains(each(runs, runID), run.ID)
}
