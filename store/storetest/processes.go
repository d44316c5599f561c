package storetest

import (
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// renew renews a process and returns the answer.
func (b *rig) renew(processID string, lease time.Duration) webtrigger.Renewed {
	b.t.Helper()
	renewed, err := b.store.RenewProcess(b.ctx, webtrigger.Process{ID: processID, Lease: lease, MaxAttempts: max(b.attempts, 1)})
	b.NoError(err)
	return renewed
}

// claimedBy creates a run and claims it for the process.
func (b *rig) claimedBy(processID string, changes ...change) webtrigger.ClaimedRun {
	b.t.Helper()
	claimed := b.claimBy(processID, 1, b.accept(changes...).ID)
	b.Len(claimed, 1)
	return claimed[0]
}

func held(claims ...webtrigger.ClaimedRun) []webtrigger.HeldClaim {
	return each(claims, func(c webtrigger.ClaimedRun) webtrigger.HeldClaim { return webtrigger.HeldClaim{Lease: c.Lease} })
}

// Processes: one row lives for all claims of a process. A renewal extends it and lists
// the claims. A claim is held until a transition of its run ends it.
func processRules() []rule {
	return []rule{
		{"a renewal lists the claims of its process by run, and no others", func(b *rig) {
			one, other := b.process(long), b.process(long)
			b.Equal(webtrigger.Renewed{Registered: true}, b.renew(one, long))
			first, second, third := b.accept(), b.accept(), b.accept()
			var claims []webtrigger.ClaimedRun
			for _, run := range []webtrigger.Run{third, first} {
				claims = append(claims, b.claimBy(one, 1, run.ID)...)
			}
			foreign := b.claimBy(other, 1, second.ID)
			b.Equal(held(claims[1], claims[0]), b.renew(one, long).Claims)
			b.Equal(held(foreign...), b.renew(other, long).Claims)
		}},
		{"a renewal lists what was claimed at accept", func(b *rig) {
			accepted, err := b.store.CreateTrigger(b.ctx, trigger(taking(worker)))
			b.NoError(err)
			if accepted.Lease == nil {
				b.declined(accepted.Run)
				return
			}
			b.Equal([]webtrigger.HeldClaim{{Lease: *accepted.Lease}}, b.renew(worker, long).Claims)
		}},
		{"a renewal does not list a claim that has ended", func(b *rig) {
			ended, requeued, kept := b.start(), b.start(), b.start()
			b.finish(ended.Lease, completed("Result"))
			b.requeue(requeued.Lease)
			b.Equal(held(kept), b.renew(worker, long).Claims)
			again := b.take(requeued.Run.ID, long)
			b.ElementsMatch(held(kept, again), b.renew(worker, long).Claims)
		}},
		{"a renewal lists many claims", func(b *rig) {
			for range 150 {
				b.accept()
			}
			b.Equal(held(b.claim(150)...), b.renew(worker, long).Claims)
		}},
		{"a renewal lists the recorded stops", func(b *rig) {
			cancelled, free, late := b.start(), b.start(), b.start()
			cancel, deadline := webtrigger.CancelStop("no longer needed"), webtrigger.DeadlineStop()
			b.stop(cancelled.Run.ID, cancel)
			b.stop(late.Run.ID, deadline)
			b.Equal([]webtrigger.HeldClaim{{Lease: cancelled.Lease, Stop: &cancel}, {Lease: free.Lease}, {Lease: late.Lease, Stop: &deadline}},
				b.renew(worker, long).Claims)
		}},
		{"a process that is not registered renews nothing", func(b *rig) {
			b.Equal(webtrigger.Renewed{}, b.renew("absent", long))
			b.Equal(webtrigger.Renewed{}, b.renew("absent", long), "a renewal does not register")
		}},
		{"a process that is registered again does not change", func(b *rig) {
			processID := b.process(brief)
			run := b.claimedBy(processID)
			b.attempts = 5
			b.register(processID, long)
			b.outlast(brief)
			b.ends(webtrigger.HeartbeatTimeout(), b.swept(run.Run.ID))
			b.register(processID, long)
			b.False(b.renew(processID, long).Registered, "not even if it is lost")
		}},
		{"a process without claims is removed", func(b *rig) {
			processID := b.process(long)
			run := b.claimedBy(processID)
			b.conflict(b.store.RemoveProcess(b.ctx, processID))
			b.Equal(held(run), b.renew(processID, long).Claims)
			b.finish(run.Lease, completed("Result"))
			for range 2 {
				b.NoError(b.store.RemoveProcess(b.ctx, processID))
				b.False(b.renew(processID, long).Registered)
			}
			b.accept()
			_, err := b.store.ClaimRuns(b.ctx, webtrigger.Claim{ProcessID: processID, Token: 1, Limit: 1})
			b.leaseLost(err)
		}},
		{"a claim is held though its process has expired, until a sweep", func(b *rig) {
			processID := b.process(brief)
			run, ended, requeued := b.claimedBy(processID, withCallback), b.claimedBy(processID), b.claimedBy(processID)
			b.outlast(brief)
			b.append(run.Lease, steps(1, 2))
			b.ends(completed("Result"), b.finish(ended.Lease, completed("Result")))
			b.Equal(webtrigger.RunQueued, b.requeue(requeued.Lease).Status)
			_, err := b.store.RequestStop(b.ctx, run.Run.ID, webtrigger.DeadlineStop(), &run.Lease)
			b.NoError(err)
			stop := webtrigger.DeadlineStop()
			b.Equal([]webtrigger.HeldClaim{{Lease: run.Lease, Stop: &stop}}, b.renew(processID, long).Claims)
			b.Empty(b.sweep(webtrigger.Sweep{}))
		}},
		{"a process that has expired may claim, until a sweep", func(b *rig) {
			processID := b.process(brief)
			b.outlast(brief)
			b.claimedBy(processID)
			b.Len(b.sweep(webtrigger.Sweep{}), 1)
			b.accept()
			_, err := b.store.ClaimRuns(b.ctx, webtrigger.Claim{ProcessID: processID, Token: 1, Limit: 1})
			b.leaseLost(err)
		}},
		{"a lost process is not renewed", func(b *rig) {
			processID := b.process(brief)
			b.outlast(brief)
			b.Empty(b.sweep(webtrigger.Sweep{}))
			b.Equal(webtrigger.Renewed{}, b.renew(processID, long))
			b.NoError(b.store.RemoveProcess(b.ctx, processID))
		}},
		{"the limit of attempts is that of the last renewal", func(b *rig) {
			once, twice := b.process(fair), b.process(fair)
			first, second := b.claimedBy(once), b.claimedBy(twice)
			b.attempts = 2
			b.renew(twice, fair)
			b.outlast(fair)
			b.Len(b.sweep(webtrigger.Sweep{}), 2)
			b.ends(webtrigger.HeartbeatTimeout(), b.run(first.Run.ID))
			b.Equal(webtrigger.RunQueued, b.run(second.Run.ID).Status)
		}},
		{"many renew, claim and end at once", func(b *rig) {
			processes := make([]string, 4)
			for i := range processes {
				processes[i] = b.process(long)
			}
			for range 80 {
				b.accept()
			}
			b.all(b.together(16, func(i int) error {
				p := webtrigger.Process{ID: processes[i%4], Lease: long, MaxAttempts: 1}
				for range 5 {
					claimed, err := b.store.ClaimRuns(b.ctx, webtrigger.Claim{ProcessID: p.ID, Token: webtrigger.NewToken(), Limit: 2})
					if err != nil {
						return err
					}
					if _, err := b.store.RenewProcess(b.ctx, p); err != nil {
						return err
					}
					for _, run := range claimed {
						if _, err := b.store.FinishRun(b.ctx, run.Lease, webtrigger.Finish{Outcome: completed("Result")}); err != nil {
							return err
						}
					}
				}
				return nil
			}))
			for _, processID := range processes {
				b.Empty(b.renew(processID, long).Claims)
			}
		}},
	}
}

// Contact: who may mark a process as lost, and when. The sweeping process must be
// alive and must have been in contact for a lease of the expired one.
func contactRules() []rule {
	return []rule{
		{"a process expires when it is not renewed, and not before", func(b *rig) {
			before := b.now()
			run := b.take(b.accept().ID, fair)
			var swept []webtrigger.Run
			b.eventually(func() bool {
				swept = b.sweep(webtrigger.Sweep{})
				return len(swept) > 0
			})
			b.Equal(run.Run.ID, swept[0].ID)
			b.False(swept[0].CompletedAt.Before(before.Add(fair - sameTransition)))
		}},
		{"a renewed process lives from the renewal on", func(b *rig) {
			processID := b.process(fair)
			run := b.claimedBy(processID)
			b.renew(processID, long)
			b.outlast(fair)
			b.Empty(b.sweep(webtrigger.Sweep{}))
			b.append(run.Lease, steps(1, 1))
		}},
		{"a renewed process expires as well", func(b *rig) {
			processID := b.process(long)
			run := b.claimedBy(processID)
			b.renew(processID, brief)
			b.outlast(brief)
			b.swept(run.Run.ID)
		}},
		{"a renewal of one process does not renew another", func(b *rig) {
			one, other := b.process(fair), b.process(fair)
			run := b.claimedBy(one)
			b.renew(other, long)
			b.outlast(fair)
			b.swept(run.Run.ID)
		}},
		{"a new process does not sweep leases that expired earlier", func(b *rig) {
			run := b.take(b.accept().ID, fair)
			b.outlast(fair)
			late := b.process(long)
			b.changesNothing(run.Run.ID, func() { b.Empty(b.sweep(webtrigger.Sweep{ProcessID: late, Audit: true})) })
			b.outlast(fair)
			b.Equal([]int64{run.Run.ID}, each(b.sweep(webtrigger.Sweep{ProcessID: late}), runID))
		}},
		{"a process that has expired sweeps nothing, nor right after its renewal", func(b *rig) {
			late := b.process(brief)
			run, queued := b.take(b.accept().ID, fair), b.accept()
			b.outlast(fair)
			expired := webtrigger.Sweep{ProcessID: late, MaxQueueTime: brief, Audit: true}
			b.Empty(b.sweep(expired))
			b.renew(late, long)
			expired.MaxQueueTime = 0
			b.Empty(b.sweep(expired))
			b.outlast(fair)
			b.renew(late, long)
			b.Equal([]int64{run.Run.ID}, each(b.sweep(webtrigger.Sweep{ProcessID: late}), runID))
			b.Equal(webtrigger.RunQueued, b.run(queued.ID).Status)
		}},
		{"a process whose renewal is overdue sweeps nothing, nor right after it", func(b *rig) {
			other := b.process(5 * fair / 2)
			run := b.take(b.accept().ID, fair)
			b.outlast(fair + 9*fair/10) // less than its lease, and more than two thirds of it
			b.Empty(b.sweep(webtrigger.Sweep{ProcessID: other}))
			b.renew(other, long)
			b.Empty(b.sweep(webtrigger.Sweep{ProcessID: other}))
			b.outlast(fair)
			b.Equal([]int64{run.Run.ID}, each(b.sweep(webtrigger.Sweep{ProcessID: other}), runID))
		}},
		{"renewals in time keep the contact", func(b *rig) {
			other := b.process(long)
			run := b.take(b.accept().ID, fair)
			b.outlast(fair)
			b.renew(other, long)
			b.Equal([]int64{run.Run.ID}, each(b.sweep(webtrigger.Sweep{ProcessID: other}), runID))
		}},
		{"after a pause of the store that all leases expire in, holders renew and lose nothing", func(b *rig) {
			one, other := b.process(fair), b.process(fair)
			runs := []webtrigger.ClaimedRun{b.claimedBy(one), b.claimedBy(other)}
			b.outlast(fair)
			for _, sweeping := range []string{one, other} {
				b.Empty(b.sweep(webtrigger.Sweep{ProcessID: sweeping, Audit: true}))
				b.True(b.renew(sweeping, long).Registered)
				b.Empty(b.sweep(webtrigger.Sweep{ProcessID: sweeping, Audit: true}))
			}
			b.Equal(held(runs[0]), b.renew(one, long).Claims)
			b.Equal(held(runs[1]), b.renew(other, long).Claims)
		}},
		{"a process that is not registered, or is lost, sweeps nothing", func(b *rig) {
			lost := b.process(brief)
			b.outlast(brief)
			b.Empty(b.sweep(webtrigger.Sweep{}))
			run, queued := b.strand(), b.accept()
			b.outlast(brief)
			for _, sweeping := range []string{"absent", lost} {
				b.Empty(b.sweep(webtrigger.Sweep{ProcessID: sweeping, MaxQueueTime: brief}))
			}
			b.Equal(webtrigger.RunRunning, b.run(run.Run.ID).Status)
			b.Equal(webtrigger.RunQueued, b.run(queued.ID).Status)
		}},
		{"a lost process has what a sweep has not come to", func(b *rig) {
			processID := b.process(brief)
			first, second := b.claimedBy(processID), b.claimedBy(processID)
			b.outlast(brief)
			b.Equal([]int64{first.Run.ID}, each(b.sweep(webtrigger.Sweep{Limit: 1}), runID))
			b.leaseLost(b.store.AppendEvents(b.ctx, first.Lease, steps(1, 1)))
			b.False(b.renew(processID, long).Registered)
			b.append(second.Lease, steps(1, 1))
			b.conflict(b.store.RemoveProcess(b.ctx, processID))
			b.ends(completed("Result"), b.finish(second.Lease, completed("Result")))
			b.NoError(b.store.RemoveProcess(b.ctx, processID))
		}},
	}
}
