package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

func interruptRules() []rule {
	return []rule{
		{"a trigger that rejects a busy conversation stores nothing", func(b *rig) {
			idle := b.accept(under("k"), onBusy(webtrigger.BusyReject))
			b.changesNothing(idle.ID, func() {
				refused := trigger(under("k"), onBusy(webtrigger.BusyReject), keyed("key", 1, long))
				_, err := b.store.CreateTrigger(b.ctx, refused)
				b.ErrorIs(err, webtrigger.ErrConversationBusy)
				_, err = b.store.RunByKey(b.ctx, refused.RunKey)
				b.notFound(err)
			})
			b.stop(idle.ID, webtrigger.CancelStop(""))
			b.accept(under("k"), onBusy(webtrigger.BusyReject), keyed("key", 1, long))
		}},
		{"an interrupt ends queued runs at once, with their callbacks", func(b *rig) {
			runs := []webtrigger.Run{b.accept(under("k"), withCallback), b.accept(under("k")), b.accept(under("k"), withCallback)}
			accepted, err := b.store.CreateTrigger(b.ctx, trigger(under("k"), onBusy(webtrigger.BusyInterrupt)))
			b.NoError(err)
			b.False(accepted.Run.Behind)
			b.Equal(each(runs, runID), each(accepted.Interrupted, runID))
			for i, run := range runs {
				ended := b.run(run.ID)
				b.Equal(ended, accepted.Interrupted[i])
				b.Equal(webtrigger.RunCancelled, ended.Status)
				b.Equal(fmt.Sprintf("superseded by run %d", accepted.Run.ID), ended.StatusDetail)
				b.Len(b.deliveries(run.ID), (i+1)%2)
				b.Equal([]webtrigger.EventType{webtrigger.EventRunQueued, webtrigger.EventCancelRequested, webtrigger.EventRunCancelled},
					each(b.events(run), kind))
				b.holdsLog(ended)
			}
			b.Equal([]int64{accepted.Run.ID}, each(b.claim(10), claimedID))
		}},
		{"an interrupt stops a running run, which ends before the next one starts", func(b *rig) {
			head := b.start(under("k"))
			behind := b.accept(under("k"))
			accepted, err := b.store.CreateTrigger(b.ctx, trigger(under("k"), onBusy(webtrigger.BusyInterrupt), taking(worker)))
			b.NoError(err)
			b.Nil(accepted.Lease)
			b.True(accepted.Run.Behind)
			b.Equal([]int64{behind.ID}, each(accepted.Interrupted, runID))
			b.Equal(webtrigger.RunRunning, b.run(head.Run.ID).Status)
			b.Empty(b.claim(10))
			ended := b.finish(head.Lease, completed("Result"))
			b.Equal(webtrigger.RunCancelled, ended.Status)
			b.Equal(fmt.Sprintf("superseded by run %d", accepted.Run.ID), ended.StatusDetail)
			b.Equal([]int64{accepted.Run.ID}, each(b.claim(10), claimedID))
		}},
		{"an interrupt keeps a stop that is recorded", func(b *rig) {
			head := b.start(under("k"))
			b.stop(head.Run.ID, webtrigger.CancelStop("by hand"))
			b.accept(under("k"), onBusy(webtrigger.BusyInterrupt))
			b.accept(under("k"), onBusy(webtrigger.BusyInterrupt))
			b.Equal("by hand", b.finish(head.Lease, completed("Result")).StatusDetail)
		}},
		{"an interrupt ends a head that was requeued", func(b *rig) {
			head := b.start(under("k"))
			b.append(head.Lease, steps(1, 2))
			b.requeue(head.Lease)
			accepted, err := b.store.CreateTrigger(b.ctx, trigger(under("k"), onBusy(webtrigger.BusyInterrupt)))
			b.NoError(err)
			b.Len(accepted.Interrupted, 1)
			b.Equal(b.run(head.Run.ID), accepted.Interrupted[0])
			b.holdsLog(accepted.Interrupted[0])
		}},
		{"what an interrupt ends does not count toward bounds", func(b *rig) {
			limits := func(t *webtrigger.NewTrigger) { t.MaxQueued, t.MaxUnfinished = 2, 2 }
			b.accept(under("k"), limits)
			b.accept(under("k"), limits)
			b.accept(under("k"), limits, onBusy(webtrigger.BusyInterrupt))
			b.accept(under("k"), limits)
			_, err := b.store.CreateTrigger(b.ctx, trigger(under("k"), limits))
			b.ErrorIs(err, webtrigger.ErrQueueFull)
		}},
		{"an interrupt of a single conversation by its id", func(b *rig) {
			run := b.accept(withCallback)
			accepted, err := b.store.CreateTrigger(b.ctx, trigger(in(run.ConversationID), onBusy(webtrigger.BusyInterrupt)))
			b.NoError(err)
			b.Equal([]int64{run.ID}, each(accepted.Interrupted, runID))
			b.Len(b.deliveries(run.ID), 1)
		}},
		{"of simultaneous interrupts one run is left, and each other one has ended once", func(b *rig) {
			const n = 24
			b.all(b.together(n, func(int) error {
				_, err := b.store.CreateTrigger(b.ctx, trigger(under("k"), withCallback, onBusy(webtrigger.BusyInterrupt)))
				return err
			}))
			runs, err := b.store.Runs(b.ctx, webtrigger.RunQuery{Page: webtrigger.Page{Limit: 100}})
			b.NoError(err)
			b.Len(runs, n)
			slices.Reverse(runs)
			for i, run := range runs[:n-1] {
				b.Equal(webtrigger.RunCancelled, run.Status)
				b.Equal(fmt.Sprintf("superseded by run %d", runs[i+1].ID), run.StatusDetail)
				b.Len(b.deliveries(run.ID), 1)
				b.holdsLog(run)
			}
			b.Equal(webtrigger.RunQueued, runs[n-1].Status)
			b.Equal([]int64{runs[n-1].ID}, each(b.claim(10), claimedID))
		}},
		{"an end and an interrupt that come together leave one head", func(b *rig) {
			for i := range 8 {
				key := fmt.Sprint(i)
				head := b.start(under(key))
				b.accept(under(key))
				b.all(b.together(3, func(i int) (err error) {
					if i == 0 {
						_, err = b.store.FinishRun(b.ctx, head.Lease, webtrigger.Finish{Outcome: completed("Result")})
					} else {
						_, err = b.store.CreateTrigger(b.ctx, trigger(under(key), onBusy(webtrigger.BusyInterrupt)))
					}
					return err
				}))
				b.Len(b.claim(10), 1)
			}
		}},
		{"pages of one event are the log, in order, whatever happens to the lane", func(b *rig) {
			b.attempts = 2
			first := b.strand(under("k"))
			b.accept(under("k"))
			b.swept(first.Run.ID)
			again := b.claim(1)[0]
			b.append(again.Lease, steps(1, 2))
			b.accept(under("k"), onBusy(webtrigger.BusyInterrupt))
			b.append(again.Lease, steps(2, 1))
			b.finish(again.Lease, completed("Result"))
			last := b.claim(1)[0]
			b.finish(last.Lease, completed("Result"))
			all := b.page(webtrigger.EventQuery{ConversationID: first.Run.ConversationID}).Events
			b.IsIncreasing(each(all, eventID))
			b.EqualValues(len(all), all[len(all)-1].ID)
			var seen []webtrigger.Event
			for after := int64(0); ; {
				page := b.page(webtrigger.EventQuery{ConversationID: first.Run.ConversationID, AfterID: after, Limit: 1})
				if len(page.Events) == 0 {
					break
				}
				seen = append(seen, page.Events...)
				after = page.Events[0].ID
			}
			b.Equal(all, seen)
		}},
	}
}

func laneRetentionRules() []rule {
	keep := webtrigger.Retention{Completed: time.Microsecond}
	return []rule{
		{"a conversation with a key is purged run by run", func(b *rig) {
			_, hash := b.key(assistant)
			first := b.complete(under("k"), saying("1"))
			open := b.start(under("k"), saying("2"))
			b.past(first.CompletedAt)
			b.purgeAll(keep, 1)
			b.purged(first)
			b.Equal([]string{"2"}, each(b.messages(first.ConversationID), content))
			grant, err := b.store.Authenticate(b.ctx, hash, first.ConversationID, 0)
			b.NoError(err)
			b.Nil(grant.Run, "the first run is purged")
			grant, err = b.store.Authenticate(b.ctx, hash, first.ConversationID, open.Run.ID)
			b.NoError(err)
			b.Equal(open.Run.ID, grant.Run.ID)
			page := b.page(webtrigger.EventQuery{ConversationID: first.ConversationID})
			b.Positive(page.PurgedTo)
			for _, e := range page.Events {
				b.Equal(open.Run.ID, e.RunID)
			}
			b.append(open.Lease, steps(1, 1))
			ended := b.finish(open.Lease, completed("3"))
			b.holdsLog(ended)
			next := b.complete(under("k"))
			b.Equal(first.ConversationID, next.ConversationID)
			b.True(next.Continues)
			b.Equal([]string{"2", "3"}, each(b.history(next, 100, 1000), content))
		}},
		{"the key is free when its last run is purged", func(b *rig) {
			first, second := b.complete(under("k")), b.complete(under("k"))
			b.past(second.CompletedAt)
			b.purgeAll(keep, 2)
			b.purged(first)
			b.purged(second)
			_, err := b.store.Conversation(b.ctx, first.ConversationID)
			b.notFound(err)
			next := b.accept(under("k"))
			b.NotEqual(first.ConversationID, next.ConversationID)
			b.False(next.Continues)
		}},
		{"a run of a conversation with a key is kept while its callback is open", func(b *rig) {
			first, second := b.complete(under("k"), withCallback), b.complete(under("k"))
			b.past(second.CompletedAt)
			b.purgeAll(keep, 1)
			b.purged(second)
			b.run(first.ID)
		}},
		{"the events of a lane's runs are purged by age", func(b *rig) {
			first := b.complete(under("k"))
			open := b.start(under("k"))
			b.past(first.CompletedAt)
			_, err := b.store.Purge(b.ctx, webtrigger.Purge{Keep: webtrigger.Retention{Events: time.Microsecond}, Limit: 10})
			b.NoError(err)
			b.Empty(b.events(first))
			b.run(first.ID)
			b.Len(b.events(open.Run), 2)
		}},
		{"a conversation is erased with its key, once all its runs have ended", func(b *rig) {
			first := b.complete(under("k"))
			head := b.start(under("k"))
			behind := b.accept(under("k"))
			b.ErrorIs(b.store.EraseTrigger(b.ctx, first.ConversationID), webtrigger.ErrConflict)
			b.finish(head.Lease, completed("Result"))
			b.ErrorIs(b.store.EraseTrigger(b.ctx, first.ConversationID), webtrigger.ErrConflict)
			b.stop(behind.ID, webtrigger.CancelStop(""))
			b.NoError(b.store.EraseTrigger(b.ctx, first.ConversationID))
			for _, run := range []webtrigger.Run{first, head.Run, behind} {
				b.purged(run)
			}
			next := b.accept(under("k"))
			b.NotEqual(first.ConversationID, next.ConversationID)
		}},
	}
}

// purgeAll purges and holds the pass to a number of triggers.
func (b *rig) purgeAll(keep webtrigger.Retention, triggers int) {
	b.t.Helper()
	done, err := b.store.Purge(b.ctx, webtrigger.Purge{Keep: keep, Limit: 100})
	b.NoError(err)
	b.Equal(triggers, done.Triggers)
	b.Zero(done.Next)
}

// purged holds a run to be absent from every read.
func (b *rig) purged(run webtrigger.Run) {
	b.t.Helper()
	_, err := b.store.RunByID(b.ctx, run.ID)
	b.notFound(err)
	_, err = b.store.RunByKey(b.ctx, run.Key)
	b.notFound(err)
	_, err = b.store.RunInput(b.ctx, run.ID)
	b.notFound(err)
	_, err = b.store.Events(b.ctx, webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID, Limit: 1})
	b.notFound(err)
	b.Empty(b.deliveries(run.ID))
	runs, err := b.store.Runs(b.ctx, webtrigger.RunQuery{Page: webtrigger.Page{Limit: 100}})
	b.NoError(err)
	b.NotContains(each(runs, runID), run.ID)
}
