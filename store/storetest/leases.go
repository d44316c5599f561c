package storetest

import (
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Leases: held while the run runs, under the last taking's token, and for less
// than their duration since they were taken or renewed, on the store's clock.
// Anything else is lost, swept or not, and cannot be brought back.
func leaseRules() []rule {
	renew := func(b *rig, d time.Duration, leases ...webtrigger.Lease) []webtrigger.Renewal {
		b.t.Helper()
		renewals, err := b.store.RenewLeases(b.ctx, leases, d)
		b.NoError(err)
		b.Len(renewals, len(leases))
		return renewals
	}
	held := func(r webtrigger.Renewal) bool { return r.Renewed }
	return []rule{
		{"renewing nothing answers nothing", func(b *rig) {
			b.Empty(renew(b, long))
		}},
		{"a renewed lease is held from the renewal on", func(b *rig) {
			run := b.take(b.accept().ID, fair)
			b.Equal([]webtrigger.Renewal{{Renewed: true}}, renew(b, long, run.Lease))
			b.outlast(fair)
			b.append(run.Lease, steps(1, 1))
			b.Empty(b.sweep(webtrigger.Sweep{}))
		}},
		{"a lease expires when it is not renewed, and not before", func(b *rig) {
			run := b.take(b.accept().ID, fair)
			var swept []webtrigger.Run
			b.eventually(func() bool {
				swept = b.sweep(webtrigger.Sweep{})
				return len(swept) > 0
			})
			b.False(swept[0].CompletedAt.Before(run.Run.StartedAt.Add(fair - sameTransition)))
		}},
		{"a renewed lease expires as well", func(b *rig) {
			run := b.take(b.accept().ID, fair)
			b.Equal([]bool{true}, each(renew(b, fair, run.Lease), held))
			b.outlast(fair)
			b.Equal([]bool{false}, each(renew(b, long, run.Lease), held))
		}},
		{"a lease that has expired is not held even before a sweep, and stays lost", func(b *rig) {
			run := b.strand()
			b.Equal([]bool{false}, each(renew(b, long, run.Lease), held))
			b.leaseLost(b.store.AppendEvents(b.ctx, run.Lease, steps(1, 1)))
			b.Len(b.sweep(webtrigger.Sweep{}), 1)
		}},
		{"answers come in the order of the leases", func(b *rig) {
			one, two, three := b.start().Lease, b.start().Lease, b.start().Lease
			ended := b.start().Lease
			b.finish(ended, completed("Result"))
			wrong := webtrigger.Lease{RunID: two.RunID, Token: two.Token + 1000}
			b.Equal([]bool{true, false, true, false, true, false},
				each(renew(b, long, three, ended, one, wrong, two, webtrigger.Lease{RunID: absent, Token: 1}), held))
		}},
		{"a lease that is named twice is answered twice", func(b *rig) {
			lease := b.start().Lease
			b.Equal([]bool{true, true}, each(renew(b, long, lease, lease), held))
		}},
		{"many leases are renewed at once", func(b *rig) {
			for range 150 {
				b.accept()
			}
			var leases []webtrigger.Lease
			for _, run := range b.claim(150) {
				leases = append(leases, run.Lease)
			}
			b.Len(leases, 150)
			b.NotContains(each(renew(b, long, leases...), held), false)
		}},
		{"a renewal tells the recorded stop", func(b *rig) {
			cancelled, late, free := b.start().Lease, b.start().Lease, b.start().Lease
			cancel, deadline := webtrigger.CancelStop("no longer needed"), webtrigger.DeadlineStop()
			b.stop(cancelled.RunID, cancel)
			b.stop(late.RunID, deadline)
			b.Equal([]webtrigger.Renewal{{Renewed: true, Stop: &cancel}, {Renewed: true}, {Renewed: true, Stop: &deadline}},
				renew(b, long, cancelled, free, late))
		}},
		{"a lease that is lost tells no stop", func(b *rig) {
			run := b.start()
			b.stop(run.Run.ID, webtrigger.CancelStop(""))
			b.finish(run.Lease, completed("Result"))
			b.Equal([]webtrigger.Renewal{{}}, renew(b, long, run.Lease))
		}},
		{"the lease of an earlier attempt is not held", func(b *rig) {
			earlier := b.start().Lease
			b.requeue(earlier)
			later := b.take(earlier.RunID, long).Lease
			b.Equal([]bool{false, true}, each(renew(b, long, earlier, later), held))
		}},
		{"a lease of a run that waits again is not held", func(b *rig) {
			lease := b.start().Lease
			b.requeue(lease)
			b.Equal([]bool{false}, each(renew(b, long, lease), held))
		}},
		{"renewing one run's lease does not renew another's", func(b *rig) {
			lost := b.take(b.accept().ID, fair)
			b.Equal([]bool{true}, each(renew(b, long, b.start().Lease), held))
			b.outlast(fair)
			b.Equal([]bool{false}, each(renew(b, long, lost.Lease), held))
		}},
	}
}

// Fencing: a write under a lease that is lost is ErrLeaseLost and leaves no
// trace, however it was lost.
func fencingRules() []rule {
	ways := []struct {
		name string
		lose func(b *rig) webtrigger.Lease
	}{
		{"an expired lease", func(b *rig) webtrigger.Lease { return b.strand(owing).Lease }},
		{"a wrong token", func(b *rig) webtrigger.Lease {
			lease := b.start(owing).Lease
			lease.Token += 1000
			return lease
		}},
		{"a lower token", func(b *rig) webtrigger.Lease {
			lease := b.start(owing).Lease
			lease.Token--
			return lease
		}},
		{"the lease of an earlier attempt", func(b *rig) webtrigger.Lease {
			lease := b.start(owing).Lease
			b.requeue(lease)
			b.take(lease.RunID, long)
			return lease
		}},
		{"the lease of an attempt that was swept", func(b *rig) webtrigger.Lease {
			lease := b.strand(owing).Lease
			b.Len(b.sweep(webtrigger.Sweep{MaxAttempts: 2}), 1)
			b.take(lease.RunID, long)
			return lease
		}},
		{"the lease of a run that waits again", func(b *rig) webtrigger.Lease {
			lease := b.start(owing).Lease
			b.requeue(lease)
			return lease
		}},
		{"the lease of an ended run", func(b *rig) webtrigger.Lease {
			lease := b.start(owing).Lease
			b.finish(lease, completed("Result"))
			return lease
		}},
		{"the token of another run", func(b *rig) webtrigger.Lease {
			other := b.start().Lease
			return webtrigger.Lease{RunID: b.start(owing).Run.ID, Token: other.Token}
		}},
		{"a token for a run that was never taken", func(b *rig) webtrigger.Lease {
			return webtrigger.Lease{RunID: b.accept(owing).ID, Token: 0}
		}},
	}
	var rules []rule
	for _, way := range ways {
		rules = append(rules, rule{way.name + " writes nothing", func(b *rig) {
			lease := way.lose(b)
			b.changesNothing(lease.RunID, func() { b.refusesWrites(lease) })
		}})
	}
	return append(rules, rule{"a lease for an absent run is lost", func(b *rig) {
		b.refusesWrites(webtrigger.Lease{RunID: absent, Token: 1})
	}}, rule{"a refused write does not hurt the holder", func(b *rig) {
		run := b.start()
		b.refusesWrites(webtrigger.Lease{RunID: run.Run.ID, Token: run.Lease.Token + 1000})
		b.append(run.Lease, steps(1, 2))
		b.ends(completed("Result"), b.finish(run.Lease, completed("Result")))
	}}, rule{"a refused write among good ones fails alone", func(b *rig) {
		runs := make([]webtrigger.ClaimedRun, 16)
		for i := range runs {
			runs[i] = b.start()
		}
		errs := b.together(len(runs), func(i int) error {
			lease := runs[i].Lease
			if i%5 == 2 {
				lease.Token += 1000
			}
			return b.store.AppendEvents(b.ctx, lease, steps(1, 3))
		})
		for i, err := range errs {
			if i%5 == 2 {
				b.leaseLost(err)
				b.Len(b.events(runs[i].Run), 2)
				continue
			}
			b.NoError(err)
			b.Len(b.events(runs[i].Run), 5)
		}
	}})
}

// refusesWrites tries every write of a worker.
func (b *rig) refusesWrites(lease webtrigger.Lease) {
	b.t.Helper()
	b.leaseLost(b.store.AppendEvents(b.ctx, lease, steps(90, 2)))
	_, err := b.store.FinishRun(b.ctx, lease, webtrigger.Finish{
		Outcome: completed("Late"), Events: steps(91, 2),
		Messages: []webtrigger.NewMessage{{Role: webtrigger.RoleAssistant, Content: "Late"}},
	})
	b.leaseLost(err)
	_, err = b.store.RequeueRun(b.ctx, lease, steps(92, 2))
	b.leaseLost(err)
	_, err = b.store.RequestStop(b.ctx, lease.RunID, webtrigger.DeadlineStop(), &lease)
	if lease.RunID != absent { // then it may as well be not found
		b.leaseLost(err)
	}
	b.Error(err)
}
