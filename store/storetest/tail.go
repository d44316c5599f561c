package storetest

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Event ids become visible in their order. A reader that asks for events after the last
// one misses none and receives none twice, regardless of concurrent writers.
func tailRules() []rule {
	const runs, batches, size, readers = 8, 12, 3, 4
	return []rule{
		{"readers of one conversation see every event once while runs join it and write", func(b *rig) {
			first := b.start()
			id := first.Run.ConversationID
			seen := b.tail(webtrigger.EventQuery{ConversationID: id, Limit: 7}, readers, eventID, func() []error {
				return b.together(runs, func(i int) error {
					if i > 0 {
						return second(b.store.CreateTrigger(b.ctx, trigger(in(id))))
					}
					return b.writeLane(first.Lease, runs, batches, size)
				})
			})
			log := each(b.page(webtrigger.EventQuery{ConversationID: id}).Events, eventID)
			b.Len(log, runs*(2+batches*size+1))
			for _, ids := range seen {
				b.Equal(log, ids)
			}
			stored, err := b.store.Runs(b.ctx, webtrigger.RunQuery{Page: webtrigger.Page{Limit: 100}})
			b.NoError(err)
			b.Len(stored, runs)
			for _, run := range stored {
				b.holdsLog(run)
			}
		}},
		{"readers of one run see its sequences without a gap while others join", func(b *rig) {
			run := b.start()
			query := webtrigger.EventQuery{ConversationID: run.Run.ConversationID, RunID: run.Run.ID, Limit: 5}
			seen := b.tail(query, readers, sequence, func() []error {
				return b.together(runs, func(i int) error {
					if i > 0 {
						return second(b.store.CreateTrigger(b.ctx, trigger(in(run.Run.ConversationID))))
					}
					return b.write(run.Lease, batches, size)
				})
			})
			for _, sequences := range seen {
				b.Equal(rising(2+batches*size+1), sequences)
			}
		}},
		{"a log that has ended gets no further event", func(b *rig) {
			for range 10 {
				run := b.start()
				var late atomic.Bool
				var callers sync.WaitGroup
				callers.Go(func() { late.Store(b.growsAfterEnd(run.Run)) })
				errs := b.together(4, func(i int) error {
					if i == 0 {
						_, err := b.store.FinishRun(b.ctx, run.Lease, webtrigger.Finish{Outcome: completed("Result"), Events: steps(50, 2)})
						return err
					}
					return b.store.AppendEvents(b.ctx, run.Lease, steps(int64(i), 2))
				})
				callers.Wait()
				b.Positive(b.succeeded(errs, webtrigger.ErrLeaseLost))
				b.False(late.Load())
				b.holdsLog(b.run(run.Run.ID))
			}
		}},
		{"simultaneous batches of many runs are stored each under its run", func(b *rig) {
			runs := make([]webtrigger.ClaimedRun, 32)
			for i := range runs {
				runs[i] = b.start()
			}
			b.all(b.together(len(runs), func(i int) error { return b.write(runs[i].Lease, 4, i%3+1) }))
			for i, run := range runs {
				b.Len(b.events(run.Run), 2+4*(i%3+1)+1)
				b.holdsLog(b.run(run.Run.ID))
			}
		}},
	}
}

// write appends batches of events and ends the run.
func (b *rig) write(lease webtrigger.Lease, batches, size int) error {
	for number := range int64(batches) {
		if err := b.store.AppendEvents(b.ctx, lease, steps(number+1, size)); err != nil {
			return err
		}
	}
	_, err := b.store.FinishRun(b.ctx, lease, webtrigger.Finish{Outcome: completed("Result")})
	return err
}

// writeLane writes the runs of a conversation, one after the other. It has the lease of
// the first.
func (b *rig) writeLane(lease webtrigger.Lease, runs, batches, size int) error {
	for {
		if err := b.write(lease, batches, size); err != nil {
			return err
		}
		if runs--; runs == 0 {
			return nil
		}
		for {
			claimed, err := b.store.ClaimRuns(b.ctx, webtrigger.Claim{ProcessID: worker, Token: webtrigger.NewToken(), Limit: 10})
			if err != nil || len(claimed) > 1 {
				return errors.Join(err, b.ctx.Err(), errors.New("the claim of the next run failed"))
			}
			if len(claimed) == 1 {
				lease = claimed[0].Lease
				break
			}
			time.Sleep(time.Millisecond) // it has not joined yet
		}
	}
}

// tail starts readers that follow a query by id until the writes are done and they have
// read all events. It returns what each has read.
func (b *rig) tail(query webtrigger.EventQuery, readers int, look func(webtrigger.Event) int64, write func() []error) [][]int64 {
	b.t.Helper()
	seen := make([][]int64, readers)
	var done atomic.Bool
	reading := make(chan []error)
	go func() {
		reading <- b.together(readers, func(i int) error {
			query := query
			for len(seen[i]) < 10_000 { // or the log never ends
				last := done.Load()
				page, err := b.store.Events(b.ctx, query)
				if err != nil {
					return err
				}
				if len(page.Events) == 0 {
					if last {
						return nil
					}
					continue
				}
				if page.LastID < page.Events[len(page.Events)-1].ID {
					return errors.New("LastID is below the page's last event")
				}
				seen[i] = append(seen[i], each(page.Events, look)...)
				query.AfterID = page.Events[len(page.Events)-1].ID
			}
			return errors.New("saw more than was written")
		})
	}()
	writing := write()
	done.Store(true)
	errs := <-reading
	b.all(writing)
	b.all(errs)
	return seen
}

// growsAfterEnd follows a run and reports whether its log grew after a page had reported
// its end.
func (b *rig) growsAfterEnd(run webtrigger.Run) bool {
	query := webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID, Limit: 100}
	for b.ctx.Err() == nil {
		page, err := b.store.Events(b.ctx, query)
		if err != nil {
			return true
		}
		if page.Ended {
			again, err := b.store.Events(b.ctx, query)
			last := page.Events[len(page.Events)-1]
			return err != nil || len(again.Events) != len(page.Events) || again.LastID != page.LastID || !last.Type.Terminal()
		}
	}
	return true
}
