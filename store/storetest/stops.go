package storetest

import "github.com/webtrigger-go/webtrigger"

// Stops: a queued run ends at once; for a running one the first stop is recorded
// and decides its outcome from then on, whichever call ends it. An ended run stays as it
// is.
func stopRules() []rule {
	reason := webtrigger.CancelStop("no longer needed")
	deadline := webtrigger.DeadlineStop()
	under := func(stop webtrigger.Stop) webtrigger.Outcome { return webtrigger.Outcome{}.Under(&stop) }
	return []rule{
		{"a queued run is cancelled at once", func(b *rig) {
			run := b.accept(withCallback)
			ended := b.stop(run.ID, reason)
			events := b.events(run)
			b.Len(events, 3)
			b.sameEvent(webtrigger.CancelRequestedEvent(reason), events[1])
			b.ends(under(reason), ended)
			b.Zero(ended.Attempts)
			b.True(ended.StartedAt.IsZero())
			b.onePending(ended)
			b.Empty(b.claim(10))
		}},
		{"a cancellation without a reason has its own status detail", func(b *rig) {
			run := b.accept()
			b.ends(under(webtrigger.CancelStop("")), b.stop(run.ID, webtrigger.CancelStop("")))
			b.sameEvent(webtrigger.CancelRequestedEvent(webtrigger.CancelStop("")), b.events(run)[1])
		}},
		{"a queued run that is stopped otherwise ends without a cancel event", func(b *rig) {
			run := b.accept()
			b.ends(under(deadline), b.stop(run.ID, deadline))
			b.Len(b.events(run), 2)
		}},
		{"a requeued run is cancelled at once too", func(b *rig) {
			run := b.start()
			b.requeue(run.Lease)
			b.ends(under(reason), b.stop(run.Run.ID, reason))
			b.Empty(b.claim(10))
		}},
		{"a running run continues, with the cancellation in its log", func(b *rig) {
			run := b.start(withCallback)
			b.Equal(run.Run, b.stop(run.Run.ID, reason))
			events := b.events(run.Run)
			b.Len(events, 3)
			b.sameEvent(webtrigger.CancelRequestedEvent(reason), events[2])
			b.append(run.Lease, steps(1, 1))
			b.Empty(b.deliveries(run.Run.ID))
		}},
		{"a deadline is recorded without an event", func(b *rig) {
			run := b.start()
			b.changesNothing(run.Run.ID, func() { b.stop(run.Run.ID, deadline) })
			b.ends(under(deadline), b.finish(run.Lease, completed("Result")))
		}},
		{"a second stop changes nothing and is not an error", func(b *rig) {
			run := b.start()
			b.stop(run.Run.ID, reason)
			b.changesNothing(run.Run.ID, func() {
				b.stop(run.Run.ID, reason)
				b.stop(run.Run.ID, webtrigger.CancelStop("another reason"))
				b.stop(run.Run.ID, deadline)
			})
			b.ends(under(reason), b.finish(run.Lease, completed("Result")))
		}},
		{"the first stop stays: a deadline before a cancel", func(b *rig) {
			run := b.start()
			b.stop(run.Run.ID, deadline)
			b.stop(run.Run.ID, reason)
			b.Len(b.events(run.Run), 2)
			b.ends(under(deadline), b.finish(run.Lease, completed("Result")))
		}},
		{"a recorded stop decides whatever the worker reports, and usage is kept", func(b *rig) {
			for _, outcome := range []webtrigger.Outcome{completed("Result"), failed("Broken."), webtrigger.HeartbeatTimeout()} {
				run := b.start(withCallback)
				b.stop(run.Run.ID, reason)
				outcome.Usage = &webtrigger.Usage{InputTokens: 1, OutputTokens: 2}
				ended := b.finish(run.Lease, outcome)
				b.ends(outcome.Under(&reason), ended)
				b.Len(b.messages(ended.ConversationID), 1)
				b.onePending(ended)
			}
		}},
		{"a stopped run keeps the events and messages of its worker, and no result message", func(b *rig) {
			run := b.start()
			b.stop(run.Run.ID, reason)
			_, err := b.store.FinishRun(b.ctx, run.Lease, webtrigger.Finish{Outcome: completed("Result"), Events: steps(1, 2),
				Messages: []webtrigger.NewMessage{{Role: webtrigger.RoleTool, Content: "found"}}})
			b.NoError(err)
			b.Equal([]string{"Message", "found"}, each(b.messages(run.Run.ConversationID), content))
			b.Equal([]webtrigger.EventType{"run_queued", "run_started", "cancel_requested", "x_step", "x_step", "run_cancelled"},
				each(b.events(run.Run), kind))
		}},
		{"giving a stopped run back ends it", func(b *rig) {
			run := b.start(withCallback)
			b.stop(run.Run.ID, reason)
			ended, err := b.store.RequeueRun(b.ctx, run.Lease, shutdown(steps(1, 1)))
			b.NoError(err)
			b.ends(under(reason), ended)
			b.Equal([]webtrigger.EventType{"run_queued", "run_started", "cancel_requested", "x_step", "run_cancelled"},
				each(b.events(ended), kind))
			b.Equal(1, ended.Attempts)
			b.onePending(ended)
			b.Empty(b.claim(10))
		}},
		{"a sweep ends a stopped run by its stop, with attempts left", func(b *rig) {
			b.attempts = 5
			for _, stop := range []webtrigger.Stop{reason, deadline} {
				run := b.take(b.accept(withCallback).ID, brief).Run
				b.stop(run.ID, stop)
				b.outlast(brief)
				swept := b.sweep(webtrigger.Sweep{})
				b.Len(swept, 1)
				b.ends(under(stop), swept[0])
				b.onePending(swept[0])
			}
		}},
		{"a run whose lease has expired can be stopped before it is swept", func(b *rig) {
			b.attempts = 5
			run := b.strand().Run
			b.Equal(webtrigger.RunRunning, b.stop(run.ID, reason).Status)
			swept := b.sweep(webtrigger.Sweep{})
			b.Len(swept, 1)
			b.ends(under(reason), swept[0])
		}},
		{"an ended run is returned unchanged", func(b *rig) {
			for _, run := range []webtrigger.Run{
				b.complete(withCallback), b.finish(b.start().Lease, failed("Broken.")), b.stop(b.accept().ID, reason), b.stop(b.accept().ID, deadline),
			} {
				b.changesNothing(run.ID, func() {
					b.Equal(run, b.stop(run.ID, webtrigger.CancelStop("too late")))
					b.Equal(run, b.stop(run.ID, deadline))
				})
			}
		}},
		{"a worker's own stop is recorded under its lease", func(b *rig) {
			run := b.start()
			got, err := b.store.RequestStop(b.ctx, run.Run.ID, deadline, &run.Lease)
			b.NoError(err)
			b.Equal(run.Run, got)
			b.ends(under(deadline), b.finish(run.Lease, completed("Result")))
		}},
		{"a worker's own stop after another one changes nothing and is not an error", func(b *rig) {
			run := b.start()
			b.stop(run.Run.ID, reason)
			b.changesNothing(run.Run.ID, func() {
				_, err := b.store.RequestStop(b.ctx, run.Run.ID, deadline, &run.Lease)
				b.NoError(err)
			})
			b.ends(under(reason), b.finish(run.Lease, completed("Result")))
		}},
		{"a worker's own stop under a lost lease is not recorded", func(b *rig) {
			run := b.start()
			b.requeue(run.Lease)
			again := b.take(run.Run.ID, long)
			_, err := b.store.RequestStop(b.ctx, run.Run.ID, deadline, &run.Lease)
			b.leaseLost(err)
			b.ends(completed("Result"), b.finish(again.Lease, completed("Result")))
		}},
		{"of simultaneous stops one is recorded and one event stored", func(b *rig) {
			for range 10 {
				run := b.start()
				b.all(b.together(16, func(i int) error {
					_, err := b.store.RequestStop(b.ctx, run.Run.ID, webtrigger.CancelStop(string(rune('A'+i))), nil)
					return err
				}))
				b.Len(b.events(run.Run), 3)
				ended := b.finish(run.Lease, completed("Result"))
				stop := webtrigger.CancelStop(ended.StatusDetail)
				b.ends(under(stop), ended)
				b.sameEvent(webtrigger.CancelRequestedEvent(stop), b.events(ended)[2])
			}
		}},
		{"stop and claim at once: a queued run ends unstarted or runs with the stop", func(b *rig) {
			for range 20 {
				run := b.accept()
				var claimed []webtrigger.ClaimedRun
				b.all(b.together(2, func(i int) (err error) {
					if i == 0 {
						_, err = b.store.RequestStop(b.ctx, run.ID, reason, nil)
						return err
					}
					claimed, err = b.store.ClaimRuns(b.ctx, webtrigger.Claim{ProcessID: worker, Token: webtrigger.NewToken(), Limit: 1})
					return err
				}))
				for _, c := range claimed {
					b.finish(c.Lease, completed("Result"))
				}
				ended := b.run(run.ID)
				b.Equal(len(claimed), ended.Attempts)
				b.ends(under(reason), ended)
			}
		}},
		{"stop and finish at once: one of them decides", func(b *rig) {
			for range 20 {
				run := b.start(withCallback)
				b.all(b.together(2, func(i int) (err error) {
					if i == 0 {
						_, err = b.store.RequestStop(b.ctx, run.Run.ID, reason, nil)
					} else {
						_, err = b.store.FinishRun(b.ctx, run.Lease, webtrigger.Finish{Outcome: completed("Result")})
					}
					return err
				}))
				ended := b.run(run.Run.ID)
				b.Equal(ended.Status == webtrigger.RunCancelled, len(b.events(ended)) == 4)
				if ended.Status == webtrigger.RunCancelled {
					b.ends(under(reason), ended)
				} else {
					b.ends(completed("Result"), ended)
				}
				b.onePending(ended)
			}
		}},
	}
}
