package storetest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/internal/watch"
)

// Hints follow transitions. A hint may be merged, repeated or lost, so a rule repeats
// its transition until the watch receives a hint of it. The zero hint counts as a hint
// of every transition. A hint is sent after the change is visible.
func watchRules() []rule {
	queued := func(h webtrigger.Hint) bool { return h.Queued }
	leased := func(h webtrigger.Hint) bool { return h.Pending }
	moved := func(id int64) match {
		return func(h webtrigger.Hint) bool {
			return slices.Contains(h.Conversations, id) ||
				slices.ContainsFunc(h.Events, func(e webtrigger.Event) bool { return e.ConversationID == id })
		}
	}
	return []rule{
		{"a watch ends without an error with its context, and sends no later hint", func(b *rig) {
			e := b.watch()
			b.eventuallyHints(func() match { b.accept(); return queued }, e)
			b.NoError(e.end())
			before := e.hintCount()
			for range 5 {
				b.complete(withCallback)
			}
			b.outlast(brief)
			b.Equal(before, e.hintCount())
		}},
		{"a watch of an ended context returns", func(b *rig) {
			ctx, cancel := context.WithCancel(b.ctx)
			cancel()
			if err := b.store.Watch(ctx, func(webtrigger.Hint) {}); err != nil {
				b.ErrorIs(err, context.Canceled)
			}
		}},
		{"a created run is a hint of a queued run", func(b *rig) {
			b.eventuallyHints(func() match { b.accept(); return queued }, b.watch())
		}},
		{"a requeued run is a hint of a queued run", func(b *rig) {
			e := b.watch()
			b.eventuallyHints(func() match {
				run := b.start()
				b.quiet(e)
				b.requeue(run.Lease)
				return queued
			}, e)
		}},
		{"a swept run that is requeued is a hint of a queued run", func(b *rig) {
			b.attempts = 2
			e := b.watch()
			b.eventuallyHints(func() match {
				b.strand()
				b.quiet(e)
				b.Len(b.sweep(webtrigger.Sweep{}), 1)
				return queued
			}, e)
		}},
		{"a hint of events names their conversation", func(b *rig) {
			e := b.watch()
			run := b.start()
			b.quiet(e)
			number := int64(0)
			b.eventuallyHints(func() match {
				number++
				b.append(run.Lease, steps(number, 1))
				return moved(run.Run.ConversationID)
			}, e)
		}},
		{"the first and the last event of a run cause hints", func(b *rig) {
			e := b.watch()
			b.eventuallyHints(func() match { return moved(b.accept().ConversationID) }, e)
			b.eventuallyHints(func() match {
				run := b.start()
				b.quiet(e)
				b.finish(run.Lease, completed("Result"))
				return moved(run.Run.ConversationID)
			}, e)
		}},
		{"a hint of a recorded stop names its run", func(b *rig) {
			e := b.watch()
			for _, stop := range []webtrigger.Stop{webtrigger.CancelStop(""), webtrigger.DeadlineStop()} {
				b.eventuallyHints(func() match {
					run := b.start().Run
					b.quiet(e)
					b.stop(run.ID, stop)
					return func(h webtrigger.Hint) bool { return slices.Contains(h.Stopped, run.ID) }
				}, e)
			}
		}},
		{"a pending callback gives a hint, however the run ended", func(b *rig) {
			e := b.watch()
			b.eventuallyHints(func() match {
				run := b.start(withCallback)
				b.quiet(e)
				b.finish(run.Lease, completed("Result"))
				return leased
			}, e)
			b.eventuallyHints(func() match {
				run := b.accept(withCallback)
				b.quiet(e)
				b.stop(run.ID, webtrigger.CancelStop(""))
				return leased
			}, e)
			b.eventuallyHints(func() match {
				run := b.strand(withCallback).Run
				b.quiet(e)
				b.swept(run.ID)
				return leased
			}, e)
		}},
		{"a redelivery causes a hint", func(b *rig) {
			e := b.watch()
			b.complete(withCallback)
			b.eventuallyHints(func() match {
				ended := b.deliver()
				b.quiet(e)
				_, err := b.store.Redeliver(b.ctx, ended.Delivery.ID)
				b.NoError(err)
				return leased
			}, e)
		}},
		{"all watches receive hints, also after one of them has ended", func(b *rig) {
			one, two, three := b.watch(), b.watch(), b.watch()
			b.eventuallyHints(func() match { b.accept(); return queued }, one, two, three)
			b.NoError(two.end())
			b.eventuallyHints(func() match { b.accept(); return queued }, one, three)
		}},
		{"a reader of a hint sees the change", func(b *rig) {
			hints := make(chan webtrigger.Hint, 4096)
			e := b.watchWith(func(h webtrigger.Hint) {
				select {
				case hints <- h:
				default:
				}
			})
			heard := make(chan int)
			go func() {
				wrong := 0
				for h := range hints {
					last, err := b.store.LastEventIDs(b.ctx, h.Conversations)
					if err != nil {
						wrong++
					}
					for _, id := range h.Conversations {
						if last[id] == 0 {
							wrong++
						}
					}
				}
				heard <- wrong
			}()
			b.all(b.together(4, func(int) error {
				for range 50 {
					if _, err := b.store.CreateTrigger(b.ctx, trigger()); err != nil {
						return err
					}
				}
				return nil
			}))
			b.NoError(e.end())
			close(hints)
			b.Zero(<-heard)
		}},
		{"events that a hint holds are those that can be read", func(b *rig) {
			run := b.start()
			var mu sync.Mutex
			var held []webtrigger.Event
			e := b.watchWith(func(h webtrigger.Hint) {
				mu.Lock()
				defer mu.Unlock()
				held = append(held, h.Events...)
			})
			for i := range int64(10) {
				b.all(b.together(2, func(k int) error {
					if k == 0 {
						return b.store.AppendEvents(b.ctx, run.Lease, steps(i+1, 3))
					}
					return second(b.store.CreateTrigger(b.ctx, trigger(in(run.Run.ConversationID))))
				}))
				b.append(run.Lease, steps(i+1, 3)) // stands already
			}
			b.quiet(e)
			b.NoError(e.end())
			read := b.page(webtrigger.EventQuery{ConversationID: run.Run.ConversationID}).Events
			for _, e := range held {
				want := read[e.ID-1]
				if e.RunKey == "" {
					want.RunKey = ""
				}
				b.Equal(want, e)
			}
		}},
	}
}

type match func(h webtrigger.Hint) bool

// watched is one watch and its hints.
type watched struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // once done is closed

	mu    sync.Mutex
	hints []webtrigger.Hint
	count int
}

func (b *rig) watch() *watched {
	return b.watchWith(func(webtrigger.Hint) {})
}

func (b *rig) watchWith(notify func(webtrigger.Hint)) *watched {
	ctx, cancel := context.WithCancel(b.ctx)
	e := &watched{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(e.done)
		e.err = b.store.Watch(ctx, func(h webtrigger.Hint) {
			e.mu.Lock()
			e.hints = append(e.hints, webtrigger.Hint{Queued: h.Queued, Pending: h.Pending, Events: slices.Clone(h.Events),
				Conversations: slices.Clone(h.Conversations), Stopped: slices.Clone(h.Stopped)})
			e.count++
			e.mu.Unlock()
			notify(h)
		})
	}()
	b.t.Cleanup(func() { _ = e.end() }) // before the store closes
	return e
}

// end ends the watch and returns its error.
func (e *watched) end() error {
	e.cancel()
	<-e.done
	return e.err
}

// hintCount returns the number of hints so far.
func (e *watched) hintCount() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.count
}

// clear drops the hints so far.
func (e *watched) clear() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hints = nil
}

func (e *watched) received(is match) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.hints, func(h webtrigger.Hint) bool {
		return watch.IsZero(h) || is(h)
	})
}

// quiet waits for outstanding hints and drops them.
func (b *rig) quiet(watches ...*watched) {
	b.t.Helper()
	b.outlast(brief)
	for _, e := range watches {
		e.clear()
	}
}

// eventuallyHints repeats a transition until every watch has received a hint of it. A
// watch may be slow to start, and a store may gather its hints, so each attempt has more
// time.
func (b *rig) eventuallyHints(do func() match, watches ...*watched) {
	b.t.Helper()
	pause := 10 * time.Millisecond
	b.eventually(func() bool {
		for _, e := range watches {
			e.clear()
		}
		is := do()
		pause = min(2*pause, 2*time.Second)
		again := time.NewTimer(pause)
		defer again.Stop()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			if !slices.ContainsFunc(watches, func(e *watched) bool { return !e.received(is) }) {
				return true
			}
			select {
			case <-again.C:
				return false
			case <-tick.C:
			}
		}
	})
}
