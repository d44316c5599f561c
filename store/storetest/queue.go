package storetest

import (
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// The state of the queue: how many runs wait and run, and for how long the first
// one has waited.
func queueRules() []rule {
	return []rule{
		{"an empty store has an empty queue", func(b *rig) {
			b.Equal(webtrigger.QueueState{}, b.queue())
		}},
		{"waiting and running runs are counted, ended ones are not", func(b *rig) {
			b.accept()
			b.accept(of(stranger))
			b.start()
			b.accept(taking(worker))
			b.strand()
			b.complete()
			b.stop(b.accept().ID, webtrigger.CancelStop(""))
			state := b.queue()
			b.Equal(2, state.Queued)
			b.Equal(3, state.Running)
		}},
		{"a stop that is recorded does not end the counting of a run", func(b *rig) {
			run := b.start()
			b.stop(run.Run.ID, webtrigger.CancelStop(""))
			b.Equal(webtrigger.QueueState{Running: 1}, b.queue())
			b.finish(run.Lease, completed("Result"))
			b.Equal(webtrigger.QueueState{}, b.queue())
		}},
		{"the age is that of the run that was queued first", func(b *rig) {
			first := b.accept()
			b.outlast(5 * sameTransition)
			second := b.accept()
			b.waitsSince(first.CreatedAt)
			b.take(first.ID, long)
			b.waitsSince(second.CreatedAt)
			b.take(second.ID, long)
			b.Zero(b.queue().OldestAge)
		}},
		{"the age of a requeued run counts from the requeue", func(b *rig) {
			run, other := b.start(), b.accept()
			b.outlast(5 * sameTransition)
			before := b.now()
			b.requeue(run.Lease)
			after := b.now()
			b.Equal(webtrigger.RunQueued, b.run(run.Run.ID).Status)
			b.waitsSince(other.CreatedAt)
			b.take(other.ID, long)
			b.waitsSinceBetween(before, after)
		}},
		{"a run that was swept back into the queue waits from then", func(b *rig) {
			b.attempts = 2
			run := b.strand().Run
			b.outlast(5 * sameTransition)
			before := b.now()
			b.Len(b.sweep(webtrigger.Sweep{}), 1)
			after := b.now()
			b.Equal(webtrigger.RunQueued, b.run(run.ID).Status)
			b.waitsSinceBetween(before, after)
		}},
	}
}

// queue reads the state of the queue.
func (b *rig) queue() webtrigger.QueueState {
	b.t.Helper()
	state, err := b.store.QueueState(b.ctx)
	b.NoError(err)
	return state
}

// waitsSince holds the oldest age to what has passed since an instant.
func (b *rig) waitsSince(since time.Time) {
	b.t.Helper()
	b.waitsSinceBetween(since, since)
}

// waitsSinceBetween is waitsSince of an instant of which only this is known.
func (b *rig) waitsSinceBetween(from, to time.Time) {
	b.t.Helper()
	least := b.now().Sub(to)
	age := b.queue().OldestAge
	most := b.now().Sub(from)
	b.GreaterOrEqual(age, least-sameTransition)
	b.LessOrEqual(age, most+sameTransition)
}
