package storetest

import (
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Trigger creation checks the bound on an assistant's queued runs. A run beyond it is
// rejected, and nothing is stored.
func boundRules() []rule {
	return []rule{
		{"the bound limits queued runs, and the next run is rejected", func(b *rig) {
			for range 3 {
				b.accept(bounded(3))
			}
			b.full(3)
			b.Len(b.claim(10), 3)
		}},
		{"a rejected trigger stores nothing and uses no idempotency key", func(b *rig) {
			run := b.accept(bounded(1))
			b.changesNothing(run.ID, func() {
				t := trigger(bounded(1), keyed("key", 1, long), saying("rejected"))
				_, err := b.store.CreateTrigger(b.ctx, t)
				b.ErrorIs(err, webtrigger.ErrQueueFull)
				_, err = b.store.RunByKey(b.ctx, t.RunKey)
				b.notFound(err)
				_, err = b.store.Replay(b.ctx, assistant, *t.Idempotency)
				b.notFound(err)
			})
			b.Equal(1, b.queue().Queued)
			b.take(run.ID, long)
			b.accept(bounded(1), keyed("key", 2, long))
		}},
		{"a rejected trigger adds nothing to the conversation that it would join", func(b *rig) {
			first := b.complete()
			b.accept(bounded(1))
			b.changesNothing(first.ID, func() {
				_, err := b.store.CreateTrigger(b.ctx, trigger(bounded(1), in(first.ConversationID)))
				b.ErrorIs(err, webtrigger.ErrQueueFull)
			})
		}},
		{"each assistant has its own queue", func(b *rig) {
			b.accept(bounded(1))
			b.accept(bounded(1), of(stranger))
			b.full(1)
			b.full(1, of(stranger))
		}},
		{"a run that is taken makes room", func(b *rig) {
			run := b.accept(bounded(1))
			b.full(1)
			b.take(run.ID, long)
			b.accept(bounded(1))
			b.full(1)
		}},
		{"a run that is cancelled makes room", func(b *rig) {
			b.stop(b.accept(bounded(1)).ID, webtrigger.CancelStop(""))
			b.accept(bounded(1))
			b.full(1)
		}},
		{"a run that waited for too long makes room", func(b *rig) {
			b.accept(bounded(1))
			b.outlast(brief)
			b.Len(b.sweep(webtrigger.Sweep{MaxQueueTime: brief}), 1)
			b.accept(bounded(1))
		}},
		{"a requeued run counts and is never rejected", func(b *rig) {
			b.attempts = 2
			requeued, stranded := b.start(bounded(3)), b.take(b.accept(bounded(3)).ID, brief)
			b.accept(bounded(3))
			b.requeue(requeued.Lease)
			b.outlast(brief)
			b.Equal([]int64{stranded.Run.ID}, each(b.sweep(webtrigger.Sweep{}), runID))
			b.full(3)
			b.full(2)
			b.Len(b.claim(10), 3)
		}},
		{"a run that is taken at accept does not wait", func(b *rig) {
			b.accept(bounded(1))
			accepted, err := b.store.CreateTrigger(b.ctx, trigger(bounded(1), taking(worker)))
			if accepted.Lease == nil { // declined: the run would be queued
				b.ErrorIs(err, webtrigger.ErrQueueFull)
				return
			}
			b.NoError(err)
			b.requeue(*accepted.Lease)
			b.full(2)
		}},
		{"without a bound any number waits, and none of them counts", func(b *rig) {
			for range 3 {
				b.accept()
			}
			b.accept(bounded(1))
			b.full(1)
			b.accept()
		}},
		{"a replay creates no run", func(b *rig) {
			first := b.accept(bounded(1), keyed("key", 1, long))
			accepted, err := b.store.CreateTrigger(b.ctx, trigger(bounded(1), keyed("key", 1, long)))
			b.NoError(err)
			b.Equal(webtrigger.CreatedTrigger{Run: first, Replayed: true}, accepted)
			_, err = b.store.CreateTrigger(b.ctx, trigger(bounded(1), keyed("key", 2, long)))
			b.ErrorIs(err, webtrigger.ErrIdempotencyKeyReused)
		}},
		{"simultaneous triggers do not exceed the bound of queued runs", func(b *rig) {
			errs := b.together(64, func(i int) error {
				_, err := b.store.CreateTrigger(b.ctx, trigger(bounded(5), of([]string{assistant, stranger}[i%2])))
				return err
			})
			b.Equal(10, b.succeeded(errs, webtrigger.ErrQueueFull))
			b.Equal(10, b.queue().Queued)
			b.full(5)
			b.full(5, of(stranger))
		}},
		{"simultaneous copies of one request take one place", func(b *rig) {
			errs := b.together(64, func(i int) error {
				_, err := b.store.CreateTrigger(b.ctx, trigger(bounded(4), keyed([]string{"a", "b", "c", "d"}[i%4], 1, time.Hour)))
				return err
			})
			b.all(errs)
			b.Equal(4, b.queue().Queued)
			b.full(4)
		}},
	}
}

// full requires that the store rejects one more run under a bound.
func (b *rig) full(bound int, changes ...change) {
	b.t.Helper()
	before := b.queue()
	accepted, err := b.store.CreateTrigger(b.ctx, trigger(append(changes, bounded(bound))...))
	b.ErrorIs(err, webtrigger.ErrQueueFull)
	b.Zero(accepted)
	b.Equal(before.Queued, b.queue().Queued)
}
