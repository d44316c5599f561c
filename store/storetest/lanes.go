package storetest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/webtrigger-go/webtrigger"
)

// under gives a trigger a conversation key.
func under(key string) change {
	return func(t *webtrigger.NewTrigger) { t.ConversationKey = key }
}

func onBusy(what webtrigger.OnBusy) change {
	return func(t *webtrigger.NewTrigger) { t.OnBusy = what }
}

// The runs of a conversation are its lane: they execute one at a time, in creation
// order. A trigger may name the conversation by a key.
func laneRules() []rule {
	return append([]rule{
		{"the first trigger with a key starts a conversation, and later ones join it", func(b *rig) {
			first := b.accept(under("ticket 7"))
			b.False(first.Continues)
			b.Equal("ticket 7", first.ConversationKey)
			b.Equal(first, b.run(first.ID))
			second := b.accept(under("ticket 7"), saying("again"))
			b.True(second.Continues)
			b.Equal(first.ConversationID, second.ConversationID)
			b.Equal(second, b.run(second.ID))
			b.Equal([]string{"Message", "again"}, each(b.messages(first.ConversationID), content))
			conversation, err := b.store.Conversation(b.ctx, first.ConversationID)
			b.NoError(err)
			b.Equal(webtrigger.Conversation{ID: first.ConversationID, AssistantID: assistant, Key: "ticket 7", Subject: "Subject",
				CreatedAt: first.CreatedAt}, conversation)
			b.holdsLog(first)
			b.holdsLog(second)
		}},
		{"a run that joins by id has the key of the conversation", func(b *rig) {
			first := b.accept(under("k"))
			second := b.accept(in(first.ConversationID))
			b.Equal("k", second.ConversationKey)
			b.Equal("k", b.run(second.ID).ConversationKey)
			b.Empty(b.accept(in(b.accept().ConversationID)).ConversationKey)
		}},
		{"keys are compared byte by byte, and belong to one assistant", func(b *rig) {
			keys := []string{"k", "K", "k ", "ä", "a\u0308", "%", "_", "'", "\\"}
			seen := make(map[int64]bool)
			for _, key := range keys {
				seen[b.accept(under(key)).ConversationID] = true
				seen[b.accept(of(stranger), under(key)).ConversationID] = true
				seen[b.accept(keyed(key, 1, long)).ConversationID] = true // of requests
			}
			b.Len(seen, 3*len(keys))
			for _, key := range keys {
				b.True(seen[b.accept(under(key)).ConversationID])
			}
		}},
		{"simultaneous first triggers with one key start one conversation", func(b *rig) {
			runs := make([]webtrigger.Run, 32)
			b.all(b.together(len(runs), func(i int) error {
				accepted, err := b.store.CreateTrigger(b.ctx, trigger(under("k"), saying(fmt.Sprint(i))))
				runs[i] = accepted.Run
				return err
			}))
			slices.SortFunc(runs, func(x, y webtrigger.Run) int { return int(x.ID - y.ID) })
			for i, run := range runs {
				b.Equal(runs[0].ConversationID, run.ConversationID)
				b.Equal(i > 0, run.Continues)
				b.Equal(i > 0, run.Behind)
			}
			b.Len(b.messages(runs[0].ConversationID), len(runs))
			page := b.page(webtrigger.EventQuery{ConversationID: runs[0].ConversationID})
			b.Equal(each(runs, runID), each(page.Events, func(e webtrigger.Event) int64 { return e.RunID })) // creation order
			b.IsIncreasing(each(page.Events, eventID))
		}},
		{"simultaneous triggers with many keys are stored each on its own", func(b *rig) {
			b.all(b.together(32, func(i int) error {
				accepted, err := b.store.CreateTrigger(b.ctx, trigger(under(fmt.Sprint(i/2)), saying(fmt.Sprint(i))))
				if err == nil && accepted.Run.ConversationKey != fmt.Sprint(i/2) {
					return errors.New("another caller's answer")
				}
				return err
			}))
			runs, err := b.store.Runs(b.ctx, webtrigger.RunQuery{Page: webtrigger.Page{Limit: 100}})
			b.NoError(err)
			b.Len(runs, 32)
		}},
		{"the runs of a conversation are claimed one at a time, in creation order", func(b *rig) {
			for _, first := range []change{under("k"), saying("without a key")} {
				runs := []webtrigger.Run{b.accept(first)}
				for range 3 {
					runs = append(runs, b.accept(in(runs[0].ConversationID)))
				}
				b.True(b.run(runs[1].ID).Behind)
				b.Equal(webtrigger.RunQueued, b.run(runs[1].ID).Status)
				for i, run := range runs {
					for _, behind := range runs[i+1:] {
						b.Empty(b.claimBy(worker, 1, behind.ID))
					}
					claimed := b.claim(10)
					b.Equal([]int64{run.ID}, each(claimed, claimedID))
					b.False(claimed[0].Run.Behind)
					b.Empty(b.claim(10))
					b.finish(claimed[0].Lease, completed("Result"))
				}
			}
		}},
		{"a conversation hides no run of another one", func(b *rig) {
			first := b.accept(under("k"))
			b.accept(under("k"))
			other := b.accept(under("other"))
			alone := b.accept()
			b.Equal([]int64{first.ID, other.ID, alone.ID}, each(b.claim(10), claimedID))
		}},
		{"a run is claimed at its creation only if none of its conversation is open", func(b *rig) {
			accepted, err := b.store.CreateTrigger(b.ctx, trigger(under("k"), taking(worker)))
			b.NoError(err)
			if accepted.Lease == nil {
				b.declined(accepted.Run)
				return
			}
			b.Equal(accepted.Run, b.run(accepted.Run.ID))
			behind, err := b.store.CreateTrigger(b.ctx, trigger(under("k"), taking(worker)))
			b.NoError(err)
			b.Nil(behind.Lease)
			b.True(behind.Run.Behind)
			b.finish(*accepted.Lease, completed("Result"))
			b.finish(b.claim(1)[0].Lease, completed("Result"))
			next, err := b.store.CreateTrigger(b.ctx, trigger(under("k"), taking(worker)))
			b.NoError(err)
			b.NotNil(next.Lease)
		}},
		{"whatever ends the head makes the next run claimable", func(b *rig) {
			b.attempts = 1
			ways := map[string]func(head webtrigger.Run){
				"finish": func(head webtrigger.Run) { b.finish(b.take(head.ID, long).Lease, failed("no")) },
				"cancel while it is queued": func(head webtrigger.Run) {
					b.stop(head.ID, webtrigger.CancelStop(""))
				},
				"cancel while it is running": func(head webtrigger.Run) {
					claimed := b.take(head.ID, long)
					b.stop(head.ID, webtrigger.CancelStop(""))
					b.finish(claimed.Lease, completed("Result"))
				},
				"requeue with a stop": func(head webtrigger.Run) {
					claimed := b.take(head.ID, long)
					b.stop(head.ID, webtrigger.CancelStop(""))
					b.Equal(webtrigger.RunCancelled, b.requeue(claimed.Lease).Status)
				},
				"sweep of its process": func(head webtrigger.Run) {
					b.take(head.ID, brief)
					b.outlast(brief)
					b.Equal([]int64{head.ID}, each(b.sweep(webtrigger.Sweep{}), runID))
				},
			}
			for name, end := range ways {
				head := b.accept(under(name))
				next, last := b.accept(under(name)), b.accept(under(name))
				end(head)
				b.True(b.run(head.ID).Status.Terminal(), name)
				b.False(b.run(next.ID).Behind, name)
				b.True(b.run(last.ID).Behind, name)
				b.Equal([]int64{next.ID}, each(b.claim(10), claimedID), name)
			}
		}},
		{"a head that is requeued stays the head", func(b *rig) {
			head := b.start(under("k"))
			b.accept(under("k"))
			b.requeue(head.Lease)
			b.Equal([]int64{head.Run.ID}, each(b.claim(10), claimedID))
		}},
		{"a head that a sweep requeues stays the head", func(b *rig) {
			b.attempts = 2
			head := b.strand(under("k"))
			b.accept(under("k"))
			b.Equal(webtrigger.RunQueued, b.swept(head.Run.ID).Status)
			b.Equal([]int64{head.Run.ID}, each(b.claim(10), claimedID))
		}},
		{"a run behind another one is cancelled at once, and the head stays", func(b *rig) {
			head := b.accept(under("k"))
			behind, last := b.accept(under("k"), withCallback), b.accept(under("k"))
			ended := b.stop(behind.ID, webtrigger.CancelStop("reason"))
			b.Equal(webtrigger.RunCancelled, ended.Status)
			b.False(ended.Behind)
			b.Len(b.deliveries(behind.ID), 1)
			b.finish(b.take(head.ID, long).Lease, completed("Result"))
			b.Equal([]int64{last.ID}, each(b.claim(10), claimedID))
		}},
		{"a run that waits behind another one for too long is swept", func(b *rig) {
			b.start(under("k"))
			behind := b.accept(under("k"))
			b.past(behind.CreatedAt.Add(sameTransition + brief))
			swept := b.sweep(webtrigger.Sweep{MaxQueueTime: brief})
			b.Equal([]int64{behind.ID}, each(swept, runID))
			b.Equal("queue timeout", swept[0].StatusDetail)
		}},
		{"the time behind others counts toward the time in the queue", func(b *rig) {
			head := b.start(under("k"))
			next := b.accept(under("k"))
			b.past(next.CreatedAt.Add(sameTransition + brief))
			b.finish(head.Lease, completed("Result"))
			b.Equal([]int64{next.ID}, each(b.sweep(webtrigger.Sweep{MaxQueueTime: brief}), runID))
		}},
		{"runs behind others count as queued, and not for the oldest age", func(b *rig) {
			b.start(under("k"))
			b.accept(under("k"))
			state, err := b.store.QueueState(b.ctx)
			b.NoError(err)
			b.Equal(webtrigger.QueueState{Queued: 1, Running: 1}, state)
			runs, err := b.store.Runs(b.ctx, webtrigger.RunQuery{Statuses: []webtrigger.RunStatus{webtrigger.RunQueued}, Page: webtrigger.Page{Limit: 10}})
			b.NoError(err)
			b.Len(runs, 1)
		}},
		{"runs behind others count toward the bound of queued runs", func(b *rig) {
			b.accept(under("k"), bounded(2))
			b.accept(under("k"), bounded(2))
			for _, more := range []change{under("k"), under("other"), saying("alone")} {
				_, err := b.store.CreateTrigger(b.ctx, trigger(more, bounded(2)))
				b.ErrorIs(err, webtrigger.ErrQueueFull)
			}
			b.finish(b.claim(1)[0].Lease, completed("Result"))
			b.accept(under("other"), bounded(2))
		}},
		{"a conversation has a bounded number of unfinished runs", func(b *rig) {
			most := func(t *webtrigger.NewTrigger) { t.MaxUnfinished = 2 }
			head := b.start(under("k"), most)
			b.accept(under("k"), most)
			b.changesNothing(head.Run.ID, func() {
				_, err := b.store.CreateTrigger(b.ctx, trigger(under("k"), most, keyed("key", 1, long)))
				b.ErrorIs(err, webtrigger.ErrConversationFull)
				b.ErrorIs(err, webtrigger.ErrQueueFull)
			})
			b.accept(under("other"), most)
			b.finish(head.Lease, completed("Result"))
			b.accept(under("k"), most, keyed("key", 1, long))
		}},
		{"subject and metadata are each run's, and the conversation keeps the first", func(b *rig) {
			b.accept(under("k"))
			input := webtrigger.RunInput{Subject: "Another", Message: "m", Metadata: []byte(`{"n": 1e22}`)}
			second := b.accept(under("k"), func(t *webtrigger.NewTrigger) { t.Input = input })
			got, err := b.store.RunInput(b.ctx, second.ID)
			b.NoError(err)
			b.Equal(input, got)
			conversation, err := b.store.Conversation(b.ctx, second.ConversationID)
			b.NoError(err)
			b.Equal("Subject", conversation.Subject)
			b.Nil(conversation.Metadata)
		}},
		{"a repeated request returns its own run", func(b *rig) {
			first := b.accept(under("k"), keyed("key", 1, long))
			b.accept(under("k"))
			accepted, err := b.store.CreateTrigger(b.ctx, trigger(under("k"), onBusy(webtrigger.BusyInterrupt), keyed("key", 1, long)))
			b.NoError(err)
			b.True(accepted.Replayed)
			b.Equal(first.ID, accepted.Run.ID)
			b.Equal("k", accepted.Run.ConversationKey)
			b.Equal(webtrigger.RunQueued, b.run(first.ID).Status)
		}},
		{"the end of a head wakes the watchers", func(b *rig) {
			watched := b.watch()
			b.eventuallyHints(func() match {
				head := b.start(under("k"))
				b.accept(under("k"))
				b.quiet(watched)
				b.finish(head.Lease, completed("Result"))
				b.finish(b.claim(1)[0].Lease, completed("Result"))
				return func(h webtrigger.Hint) bool { return h.Queued }
			}, watched)
		}},
		{"a request reads the run that it names", func(b *rig) {
			_, hash := b.key(assistant)
			first := b.complete(under("k"))
			second := b.complete(under("k"))
			other := b.complete()
			for runID, want := range map[int64]int64{0: first.ID, first.ID: first.ID, second.ID: second.ID, other.ID: 0, absent: 0} {
				grant, err := b.store.Authenticate(b.ctx, hash, first.ConversationID, runID)
				b.NoError(err)
				if want == 0 {
					b.Nil(grant.Run)
					continue
				}
				b.Equal(want, grant.Run.ID)
				b.Equal("Result", grant.Run.Result)
				b.Equal("k", grant.Run.ConversationKey)
			}
		}},
	}, append(interruptRules(), laneRetentionRules()...)...)
}
