package storetest

import "github.com/webtrigger-go/webtrigger"

// A requeued run keeps its attempt count, its event log continues, and it keeps its
// position in the queue.
func requeueRules() []rule {
	return []rule{
		{"a requeued run is queued, and its attempt is not counted", func(b *rig) {
			run := b.start(withCallback)
			back := b.requeue(run.Lease)
			b.Equal(webtrigger.RunQueued, back.Status)
			b.Zero(back.Attempts)
			b.True(back.CompletedAt.IsZero())
			b.Equal(run.Run.CreatedAt, back.CreatedAt)
			events := b.events(back)
			b.Len(events, 3)
			b.sameEvent(webtrigger.RequeuedEvent(webtrigger.RequeueShutdown), events[2])
			b.holdsLog(back)
			b.Empty(b.deliveries(run.Run.ID))
			b.Len(b.messages(run.Run.ConversationID), 1)
		}},
		{"a requeued run is claimed as if for the first time", func(b *rig) {
			first := b.start()
			b.requeue(first.Lease)
			second := b.take(first.Run.ID, long)
			b.Equal(1, second.Run.Attempts)
			b.Equal(first.Input, second.Input)
			events := b.events(second.Run)
			b.sameEvent(webtrigger.StartedEvent(1), events[3])
			b.ends(completed("Result"), b.finish(second.Lease, completed("Result")))
		}},
		{"a requeued run keeps its position by id", func(b *rig) {
			var leases []webtrigger.Lease
			var ids []int64
			for range 4 {
				run := b.start()
				leases, ids = append(leases, run.Lease), append(ids, run.Run.ID)
			}
			ids = append(ids, b.accept().ID)
			for _, i := range []int{2, 0, 3, 1} {
				b.requeue(leases[i])
			}
			b.Equal(ids, each(b.claim(10), claimedID))
		}},
		{"only the interrupted attempt is not counted", func(b *rig) {
			b.attempts = 5
			run := b.strand().Run
			b.Len(b.sweep(webtrigger.Sweep{}), 1)
			second := b.take(run.ID, long)
			b.Equal(2, second.Run.Attempts)
			b.Equal(1, b.requeue(second.Lease).Attempts)
			b.Equal(2, b.take(run.ID, long).Run.Attempts)
		}},
		{"a run is requeued once", func(b *rig) {
			for range 10 {
				run := b.start()
				errs := b.together(8, func(int) error {
					_, err := b.store.RequeueRun(b.ctx, run.Lease, shutdown(webtrigger.EventBatch{}))
					return err
				})
				b.Equal(1, b.succeeded(errs, webtrigger.ErrLeaseLost))
				b.Zero(b.run(run.Run.ID).Attempts)
				b.Len(b.events(run.Run), 3)
			}
		}},
	}
}
