package storetest

import "github.com/webtrigger-go/webtrigger"

// Batches: events come in numbered batches, and one that a lease has stored
// already is not stored again, so that a worker may repeat a call whose answer it
// did not get. Numbers belong to a lease.
func batchRules() []rule {
	count := func(b *rig, run webtrigger.Run, want int) {
		b.t.Helper()
		b.Len(b.events(run), want)
		b.holdsLog(b.run(run.ID))
	}
	return []rule{
		{"a repeated batch is good and stored once", func(b *rig) {
			run := b.start()
			for range 3 {
				b.append(run.Lease, steps(1, 2))
			}
			count(b, run.Run, 4)
			b.append(run.Lease, steps(2, 2))
			count(b, run.Run, 6)
		}},
		{"an earlier batch stands when a later one was stored", func(b *rig) {
			run := b.start()
			b.append(run.Lease, steps(1, 1))
			b.append(run.Lease, steps(2, 1))
			b.append(run.Lease, steps(1, 1))
			b.append(run.Lease, steps(2, 1))
			count(b, run.Run, 4)
		}},
		{"batch numbers may have gaps", func(b *rig) {
			run := b.start()
			b.append(run.Lease, steps(3, 1))
			b.append(run.Lease, steps(7, 1))
			count(b, run.Run, 4)
		}},
		{"simultaneous repeats of a batch store it once", func(b *rig) {
			run := b.start()
			b.all(b.together(16, func(int) error { return b.store.AppendEvents(b.ctx, run.Lease, steps(1, 3)) }))
			count(b, run.Run, 5)
		}},
		{"numbers of one run are not another's", func(b *rig) {
			one := b.start()
			b.append(one.Lease, steps(5, 1))
			b.finish(one.Lease, completed("Result"))
			two := b.start(in(one.Run.ConversationID))
			b.append(two.Lease, steps(1, 1))
			count(b, one.Run, 4)
			count(b, two.Run, 3)
		}},
		{"numbers start again with every taking", func(b *rig) {
			first := b.start()
			b.append(first.Lease, steps(1, 1))
			b.append(first.Lease, steps(2, 1))
			b.requeue(first.Lease)
			second := b.take(first.Run.ID, long)
			b.append(second.Lease, steps(1, 1))
			count(b, second.Run, 7)
		}},
		{"numbers start again after a sweep", func(b *rig) {
			b.attempts = 2
			run := b.take(b.accept().ID, fair)
			b.append(run.Lease, steps(4, 1))
			b.outlast(fair)
			b.Len(b.sweep(webtrigger.Sweep{}), 1)
			run = b.take(run.Run.ID, long)
			b.append(run.Lease, steps(1, 1))
			count(b, run.Run, 6)
		}},
		{"a last batch that stands is not stored again by the finish", func(b *rig) {
			run := b.start()
			b.append(run.Lease, steps(1, 2))
			_, err := b.store.FinishRun(b.ctx, run.Lease, webtrigger.Finish{Outcome: completed("Result"), Events: steps(1, 2)})
			b.NoError(err)
			count(b, run.Run, 5)
		}},
		{"a last batch that is new is stored by the finish", func(b *rig) {
			run := b.start()
			b.append(run.Lease, steps(1, 2))
			_, err := b.store.FinishRun(b.ctx, run.Lease, webtrigger.Finish{Outcome: completed("Result"), Events: steps(2, 2)})
			b.NoError(err)
			count(b, run.Run, 7)
		}},
		{"a last batch that stands is not stored again by the requeue", func(b *rig) {
			run := b.start()
			b.append(run.Lease, steps(1, 2))
			_, err := b.store.RequeueRun(b.ctx, run.Lease, shutdown(steps(1, 2)))
			b.NoError(err)
			count(b, run.Run, 5)
		}},
		{"a requeue stores its new last batch before its own event", func(b *rig) {
			run := b.start()
			_, err := b.store.RequeueRun(b.ctx, run.Lease, shutdown(steps(1, 2)))
			b.NoError(err)
			events := b.events(run.Run)
			b.Equal([]webtrigger.EventType{"run_queued", "run_started", "x_step", "x_step", "run_requeued"}, each(events, kind))
			b.holdsLog(b.run(run.Run.ID))
		}},
		{"an empty last batch stores no event", func(b *rig) {
			b.Len(b.events(b.complete()), 3)
		}},
	}
}
