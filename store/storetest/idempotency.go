package storetest

import (
	"github.com/webtrigger-go/webtrigger"
)

// An idempotency key makes one run of any number of equal requests, as long as
// its record lives: stored in the trigger's own transition, in the scope of the
// assistant, on the store's clock.
func idempotencyRules() []rule {
	return []rule{
		{"the same key and body give the first trigger and store nothing", func(b *rig) {
			first := b.accept(keyed("key", 1, long), saying("first"))
			b.changesNothing(first.ID, func() {
				again := trigger(keyed("key", 1, long), saying("second"))
				accepted, err := b.store.CreateTrigger(b.ctx, again)
				b.NoError(err)
				b.Equal(webtrigger.CreatedTrigger{Run: first, Replayed: true}, accepted)
				_, err = b.store.RunByKey(b.ctx, again.RunKey)
				b.notFound(err)
			})
			b.Len(b.claim(10), 1)
		}},
		{"the same key with another body is rejected and nothing is stored", func(b *rig) {
			first := b.accept(keyed("key", 1, long))
			b.changesNothing(first.ID, func() {
				_, err := b.store.CreateTrigger(b.ctx, trigger(keyed("key", 2, long)))
				b.ErrorIs(err, webtrigger.ErrIdempotencyKeyReused)
			})
			b.Len(b.claim(10), 1)
		}},
		{"a rejected body does not replace the record of the key", func(b *rig) {
			first := b.accept(keyed("key", 1, long))
			_, err := b.store.CreateTrigger(b.ctx, trigger(keyed("key", 2, long)))
			b.Error(err)
			accepted, err := b.store.CreateTrigger(b.ctx, trigger(keyed("key", 1, long)))
			b.NoError(err)
			b.Equal(first.ID, accepted.Run.ID)
		}},
		{"keys are compared exactly", func(b *rig) {
			runs := make(map[int64]bool)
			for _, key := range []string{"key", "KEY", "key.", "k%", "k_y", `"key"`, "'"} {
				runs[b.accept(keyed(key, 1, long)).ID] = true
			}
			b.Len(runs, 7)
		}},
		{"triggers without a key are never replayed", func(b *rig) {
			b.NotEqual(b.accept().ID, b.accept().ID)
		}},
		{"the scope of a key is its assistant", func(b *rig) {
			b.NotEqual(b.accept(keyed("key", 1, long)).ID, b.accept(of(stranger), keyed("key", 2, long)).ID)
			_, err := b.store.Replay(b.ctx, "assistant-3", *use("key", 1, long))
			b.notFound(err)
		}},
		{"a record that has expired is as none", func(b *rig) {
			first := b.accept(keyed("key", 1, brief))
			b.outlast(brief)
			_, err := b.store.Replay(b.ctx, assistant, *use("key", 1, long))
			b.notFound(err)
			second := b.accept(keyed("key", 1, brief))
			b.NotEqual(first.ID, second.ID)
			b.outlast(brief)
			third := b.accept(keyed("key", 2, long))
			replayed, err := b.store.Replay(b.ctx, assistant, *use("key", 2, long))
			b.NoError(err)
			b.Equal(third.ID, replayed.ID)
		}},
		{"a replay does not lengthen the record's life", func(b *rig) {
			first := b.accept(keyed("key", 1, fair))
			b.eventually(func() bool {
				accepted, err := b.store.CreateTrigger(b.ctx, trigger(keyed("key", 1, fair)))
				b.NoError(err)
				return !accepted.Replayed
			})
			b.False(b.now().Before(first.CreatedAt.Add(fair)))
		}},
		{"of simultaneous calls one stores and all give its run", func(b *rig) {
			const n = 64
			got := make([]webtrigger.CreatedTrigger, n)
			b.all(b.together(n, func(i int) (err error) {
				got[i], err = b.store.CreateTrigger(b.ctx, trigger(keyed("key", 1, long)))
				return err
			}))
			stored := 0
			for _, accepted := range got {
				b.Equal(got[0].Run.ID, accepted.Run.ID)
				if !accepted.Replayed {
					stored++
				}
			}
			b.Equal(1, stored)
			runs, err := b.store.Runs(b.ctx, webtrigger.RunQuery{Page: webtrigger.Page{Limit: 200}})
			b.NoError(err)
			b.Len(runs, 1)
			b.Len(b.events(runs[0]), 1)
		}},
		{"of simultaneous calls that take at most one holds the run", func(b *rig) {
			const n = 32
			got := make([]webtrigger.CreatedTrigger, n)
			b.all(b.together(n, func(i int) (err error) {
				got[i], err = b.store.CreateTrigger(b.ctx, trigger(keyed("key", 1, long), taking(worker)))
				return err
			}))
			held := 0
			for _, accepted := range got {
				if accepted.Lease != nil {
					b.False(accepted.Replayed)
					held++
				}
			}
			b.LessOrEqual(held, 1)
			run := b.run(got[0].Run.ID)
			b.Equal(held, run.Attempts)
			b.Len(b.events(run), 1+held)
		}},
		{"of simultaneous bodies under one key one is stored", func(b *rig) {
			errs := b.together(16, func(i int) error {
				_, err := b.store.CreateTrigger(b.ctx, trigger(keyed("key", byte(i), long)))
				return err
			})
			b.Equal(1, b.succeeded(errs, webtrigger.ErrIdempotencyKeyReused))
		}},
		{"a replay takes nothing", func(b *rig) {
			first := b.accept(keyed("key", 1, long))
			b.changesNothing(first.ID, func() {
				accepted, err := b.store.CreateTrigger(b.ctx, trigger(keyed("key", 1, long), taking(worker)))
				b.NoError(err)
				b.True(accepted.Replayed)
				b.Nil(accepted.Lease)
			})
			b.take(first.ID, long)
		}},
		{"a replay gives the run as it is now", func(b *rig) {
			ended := b.complete(keyed("key", 1, long))
			ended.Result = "" // as in each summary
			accepted, err := b.store.CreateTrigger(b.ctx, trigger(keyed("key", 1, long)))
			b.NoError(err)
			b.Equal(ended, accepted.Run)
			looked, err := b.store.Replay(b.ctx, assistant, *use("key", 1, long))
			b.NoError(err)
			b.Equal(ended, looked)
		}},
		{"a look-up returns the live record's run, another body, or none", func(b *rig) {
			_, err := b.store.Replay(b.ctx, assistant, *use("key", 1, long))
			b.notFound(err)
			run := b.accept(keyed("key", 1, long))
			found, err := b.store.Replay(b.ctx, assistant, *use("key", 1, long))
			b.NoError(err)
			b.Equal(run, found)
			_, err = b.store.Replay(b.ctx, assistant, *use("key", 2, long))
			b.ErrorIs(err, webtrigger.ErrIdempotencyKeyReused)
			_, err = b.store.Replay(b.ctx, stranger, *use("key", 1, long))
			b.notFound(err)
		}},
		{"a look-up stores nothing", func(b *rig) {
			_, err := b.store.Replay(b.ctx, assistant, *use("key", 1, long))
			b.notFound(err)
			b.accept(keyed("key", 2, long))
		}},
	}
}
