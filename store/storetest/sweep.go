package storetest

import (
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// A sweep requeues a run with an expired lease while attempts remain, and otherwise ends
// it as timed out. It also ends runs that have waited for too long. It does not change
// other runs, and sweeps each run once.
func sweepRules() []rule {
	ids := func(runs []webtrigger.Run) []int64 { return each(runs, runID) }
	return []rule{
		{"a sweep of an empty store changes nothing", func(b *rig) {
			b.Empty(b.sweep(webtrigger.Sweep{MaxQueueTime: time.Nanosecond, Audit: true}))
		}},
		{"a run whose lease has expired is timed out", func(b *rig) {
			run := b.strand(withCallback).Run
			swept := b.swept(run.ID)
			b.ends(webtrigger.HeartbeatTimeout(), swept)
			b.Len(b.events(run), 3)
			b.Equal(1, swept.Attempts)
			b.onePending(swept)
			b.Empty(b.claim(10))
		}},
		{"a run that was swept is not swept again", func(b *rig) {
			run := b.strand().Run
			b.swept(run.ID)
			b.changesNothing(run.ID, func() { b.Empty(b.sweep(webtrigger.Sweep{Audit: true})) })
		}},
		{"a run with attempts left is requeued and the attempt counts", func(b *rig) {
			b.attempts = 2
			run := b.strand(withCallback).Run
			swept := b.sweep(webtrigger.Sweep{})
			b.Equal([]int64{run.ID}, ids(swept))
			b.Equal(b.run(run.ID), swept[0])
			b.Equal(webtrigger.RunQueued, swept[0].Status)
			b.Equal(1, swept[0].Attempts)
			events := b.events(run)
			b.Len(events, 3)
			b.sameEvent(webtrigger.RequeuedEvent(webtrigger.RequeueHeartbeat), events[2])
			b.holdsLog(swept[0])
			b.Empty(b.deliveries(run.ID))
		}},
		{"a run whose attempts are used is timed out", func(b *rig) {
			b.attempts = 2
			run := b.strand().Run
			b.Len(b.sweep(webtrigger.Sweep{}), 1)
			b.take(run.ID, brief)
			b.outlast(brief)
			swept := b.sweep(webtrigger.Sweep{})
			b.Len(swept, 1)
			b.ends(webtrigger.HeartbeatTimeout(), swept[0])
			b.Equal(2, swept[0].Attempts)
			b.Equal([]webtrigger.EventType{"run_queued", "run_started", "run_requeued", "run_started", "run_timed_out"}, each(b.events(run), kind))
		}},
		{"a requeued run keeps its place by id", func(b *rig) {
			b.attempts = 2
			first := b.strand().Run
			second := b.accept()
			b.Len(b.sweep(webtrigger.Sweep{}), 1)
			b.Equal([]int64{first.ID, second.ID}, each(b.claim(10), claimedID))
		}},
		{"live leases and queued runs are not changed", func(b *rig) {
			running, waiting, ended := b.start().Run, b.accept(), b.complete()
			stopped := b.start().Run
			b.stop(stopped.ID, webtrigger.CancelStop(""))
			for _, run := range []webtrigger.Run{running, waiting, ended, stopped} {
				b.changesNothing(run.ID, func() { b.Empty(b.sweep(webtrigger.Sweep{MaxQueueTime: time.Hour})) })
			}
		}},
		{"an audit leaves healthy runs alone and finds what the quick look finds", func(b *rig) {
			running, waiting := b.start(), b.accept()
			stranded := b.strand().Run
			b.Equal([]int64{stranded.ID}, ids(b.sweep(webtrigger.Sweep{Audit: true})))
			b.Empty(b.sweep(webtrigger.Sweep{Audit: true, MaxQueueTime: time.Hour}))
			b.Equal(running.Run, b.run(running.Run.ID))
			b.append(running.Lease, steps(1, 1))
			b.Equal([]int64{waiting.ID}, each(b.claim(10), claimedID))
		}},
		{"the lease that expired first is swept first, up to the limit", func(b *rig) {
			one, two, three := b.accept(), b.accept(), b.accept()
			for _, run := range []webtrigger.Run{three, one, two} {
				b.take(run.ID, brief)
				b.past(b.now())
			}
			b.outlast(brief)
			for _, run := range []webtrigger.Run{three, one, two} {
				b.Equal([]int64{run.ID}, ids(b.sweep(webtrigger.Sweep{Limit: 1})))
			}
			b.Empty(b.sweep(webtrigger.Sweep{Limit: 1}))
		}},
		{"runs that wait too long do not hold up each other", func(b *rig) {
			var waiting []int64
			for range 5 {
				waiting = append(waiting, b.accept().ID)
			}
			b.outlast(brief)
			var swept []int64
			for range 3 {
				batch := b.sweep(webtrigger.Sweep{MaxQueueTime: brief, Limit: 2})
				b.LessOrEqual(len(batch), 2)
				swept = append(swept, ids(batch)...)
			}
			b.ElementsMatch(waiting, swept)
		}},
		{"a run that waits for too long is timed out", func(b *rig) {
			run := b.accept(withCallback)
			b.outlast(brief)
			swept := b.sweep(webtrigger.Sweep{MaxQueueTime: brief})
			b.Len(swept, 1)
			b.ends(webtrigger.QueueTimeout(), swept[0])
			b.Len(b.events(run), 2)
			b.Zero(swept[0].Attempts)
			b.onePending(swept[0])
			b.Empty(b.claim(10))
		}},
		{"a run that waits is not timed out before its time", func(b *rig) {
			run := b.accept()
			var swept []webtrigger.Run
			b.eventually(func() bool {
				swept = b.sweep(webtrigger.Sweep{MaxQueueTime: fair})
				return len(swept) > 0
			})
			b.False(swept[0].CompletedAt.Before(run.CreatedAt.Add(fair - sameTransition)))
		}},
		{"attempts that are left do not keep a run that waits for too long", func(b *rig) {
			b.attempts = 5
			run := b.start()
			b.requeue(run.Lease)
			b.outlast(brief)
			swept := b.sweep(webtrigger.Sweep{MaxQueueTime: brief})
			b.Len(swept, 1)
			b.ends(webtrigger.QueueTimeout(), swept[0])
		}},
		{"a run that runs does not wait", func(b *rig) {
			b.start()
			b.outlast(brief)
			b.Empty(b.sweep(webtrigger.Sweep{MaxQueueTime: brief}))
		}},
		{"without a limit a run waits without end", func(b *rig) {
			run := b.accept()
			b.outlast(brief)
			b.changesNothing(run.ID, func() { b.Empty(b.sweep(webtrigger.Sweep{})) })
		}},
		{"waiting is counted from when a run was last queued", func(b *rig) {
			run := b.start()
			b.outlast(fair)
			b.requeue(run.Lease)
			b.Empty(b.sweep(webtrigger.Sweep{MaxQueueTime: fair}))
			b.outlast(fair)
			b.Len(b.sweep(webtrigger.Sweep{MaxQueueTime: fair}), 1)
		}},
		{"expired leases and long waits are swept in one go", func(b *rig) {
			stranded, waiting := b.strand().Run, b.accept()
			b.outlast(brief)
			b.ElementsMatch([]int64{stranded.ID, waiting.ID}, ids(b.sweep(webtrigger.Sweep{MaxQueueTime: brief})))
			b.ends(webtrigger.HeartbeatTimeout(), b.run(stranded.ID))
			b.ends(webtrigger.QueueTimeout(), b.run(waiting.ID))
		}},
		{"of simultaneous sweeps each run is swept by one", func(b *rig) {
			var want []int64
			for range 40 {
				want = append(want, b.take(b.accept(withCallback).ID, brief).Run.ID)
			}
			b.outlast(brief)
			swept := make([][]int64, 8)
			b.all(b.together(len(swept), func(i int) error {
				for range 10 {
					runs, err := b.store.SweepRuns(b.ctx, webtrigger.Sweep{ProcessID: sweeper, Limit: 3})
					if err != nil {
						return err
					}
					swept[i] = append(swept[i], ids(runs)...)
				}
				return nil
			}))
			all := ids(b.sweep(webtrigger.Sweep{}))
			for _, runs := range swept {
				all = append(all, runs...)
			}
			b.ElementsMatch(want, all)
			for _, id := range want {
				b.ends(webtrigger.HeartbeatTimeout(), b.run(id))
			}
		}},
		{"finish, stop and sweep at once end a run exactly once", func(b *rig) {
			for round := range 30 {
				run := b.take(b.accept(withCallback).ID, time.Duration(round%6+1)*time.Millisecond)
				errs := b.together(3, func(i int) (err error) {
					switch i {
					case 0:
						_, err = b.store.FinishRun(b.ctx, run.Lease, webtrigger.Finish{Outcome: completed("Result"), Events: steps(1, 1)})
					case 1:
						_, err = b.store.RequestStop(b.ctx, run.Run.ID, webtrigger.CancelStop(""), nil)
					case 2:
						for swept := 0; err == nil && swept == 0 && !b.over(run.Run.ID); {
							var runs []webtrigger.Run
							runs, err = b.store.SweepRuns(b.ctx, webtrigger.Sweep{ProcessID: sweeper, Limit: 10})
							swept = len(runs)
						}
					}
					return err
				})
				b.all(errs[1:])
				ended := b.run(run.Run.ID)
				b.True(ended.Status.Terminal())
				if b.succeeded(errs[:1], webtrigger.ErrLeaseLost) == 0 {
					b.NotEqual(webtrigger.RunCompleted, ended.Status)
				} else {
					b.NotEqual(webtrigger.RunTimedOut, ended.Status)
				}
				b.holdsLog(ended)
				b.onePending(ended)
			}
		}},
	}
}

// over reports whether a run has ended, or cannot be read.
func (b *rig) over(runID int64) bool {
	run, err := b.store.RunByID(b.ctx, runID)
	return err != nil || run.Status.Terminal()
}
