package storetest

import "github.com/webtrigger-go/webtrigger"

// Fencing: a write under a lease that is not held is ErrLeaseLost and leaves no
// trace, for whatever reason it is not held.
func fencingRules() []rule {
	ways := []struct {
		name string
		lose func(b *rig) webtrigger.Lease
	}{
		{"a wrong token", func(b *rig) webtrigger.Lease {
			lease := b.start(withCallback).Lease
			lease.Token += 1000
			return lease
		}},
		{"a lower token", func(b *rig) webtrigger.Lease {
			lease := b.start(withCallback).Lease
			lease.Token--
			return lease
		}},
		{"the lease of an earlier attempt", func(b *rig) webtrigger.Lease {
			lease := b.start(withCallback).Lease
			b.requeue(lease)
			b.take(lease.RunID, long)
			return lease
		}},
		{"the lease of an attempt that was swept", func(b *rig) webtrigger.Lease {
			b.attempts = 2
			lease := b.strand(withCallback).Lease
			b.Len(b.sweep(webtrigger.Sweep{}), 1)
			b.take(lease.RunID, long)
			return lease
		}},
		{"the lease of a run that waits again", func(b *rig) webtrigger.Lease {
			lease := b.start(withCallback).Lease
			b.requeue(lease)
			return lease
		}},
		{"the lease of a run that a sweep ended", func(b *rig) webtrigger.Lease {
			run := b.strand(withCallback)
			b.swept(run.Run.ID)
			return run.Lease
		}},
		{"the token of another run", func(b *rig) webtrigger.Lease {
			other := b.start().Lease
			return webtrigger.Lease{RunID: b.start(withCallback).Run.ID, Token: other.Token}
		}},
		{"a token for a run that was never taken", func(b *rig) webtrigger.Lease {
			return webtrigger.Lease{RunID: b.accept(withCallback).ID, Token: 0}
		}},
	}
	var rules []rule
	for _, way := range ways {
		rules = append(rules, rule{way.name + " writes nothing", func(b *rig) {
			lease := way.lose(b)
			b.changesNothing(lease.RunID, func() { b.rejectsWrites(lease) })
		}})
	}
	return append(rules, rule{"an ended run is written no more", func(b *rig) {
		run := b.start(withCallback)
		b.finish(run.Lease, completed("Result"))
		b.changesNothing(run.Run.ID, func() {
			b.leaseLost(b.store.AppendEvents(b.ctx, run.Lease, steps(90, 2)))
			_, err := b.store.RequeueRun(b.ctx, run.Lease, shutdown(steps(92, 2)))
			b.leaseLost(err)
			_, err = b.store.RequestStop(b.ctx, run.Run.ID, webtrigger.DeadlineStop(), &run.Lease)
			b.leaseLost(err)
		})
	}}, rule{"a lease for an absent run is lost", func(b *rig) {
		b.rejectsWrites(webtrigger.Lease{RunID: absent, Token: 1})
	}}, rule{"a rejected write does not affect the current claim", func(b *rig) {
		run := b.start()
		b.rejectsWrites(webtrigger.Lease{RunID: run.Run.ID, Token: run.Lease.Token + 1000})
		b.append(run.Lease, steps(1, 2))
		b.ends(completed("Result"), b.finish(run.Lease, completed("Result")))
	}}, rule{"a rejected write among valid ones fails alone", func(b *rig) {
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

// rejectsWrites tries every write of a worker.
func (b *rig) rejectsWrites(lease webtrigger.Lease) {
	b.t.Helper()
	late := webtrigger.StepRecord{Name: "late", Nth: 1}
	b.leaseLost(b.store.AppendEvents(b.ctx, lease, noting(steps(90, 2), late)))
	_, err := b.store.FinishRun(b.ctx, lease, webtrigger.Finish{
		Outcome: completed("Late"), Events: noting(steps(91, 2), late),
		Messages: []webtrigger.NewMessage{{Role: webtrigger.RoleAssistant, Content: "Late"}},
	})
	b.leaseLost(err)
	_, err = b.store.RequeueRun(b.ctx, lease, shutdown(noting(steps(92, 2), late)))
	b.leaseLost(err)
	_, err = b.store.RequestStop(b.ctx, lease.RunID, webtrigger.DeadlineStop(), &lease)
	if lease.RunID != absent { // then it may as well be not found
		b.leaseLost(err)
	}
	b.Error(err)
}
