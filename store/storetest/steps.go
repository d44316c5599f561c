package storetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/webtrigger-go/webtrigger"
)

// Steps: a batch stores its steps together with its events, fenced by the lease. Later
// attempts read them. They are deleted with their run.
func stepRules() []rule {
	mark := func(name string, nth int) webtrigger.StepRecord {
		return webtrigger.StepRecord{Name: name, Nth: nth, Fingerprint: "print"}
	}
	done := func(name string, nth int, record string) webtrigger.StepRecord {
		step := mark(name, nth)
		step.Record = json.RawMessage(record)
		return step
	}
	return []rule{
		{"a batch stores its steps with its events", func(b *rig) {
			run := b.start()
			b.append(run.Lease, noting(steps(1, 2), mark("a", 1), done("b", 1, `1`)))
			b.Equal([]webtrigger.StepRecord{mark("a", 1), done("b", 1, `1`)}, b.stepsOf(run.Run.ID))
			b.Len(b.events(run.Run), 4)
			b.append(run.Lease, noting(steps(2, 0), done("c", 1, `1`)))
			b.Len(b.stepsOf(run.Run.ID), 3)
			b.Len(b.events(run.Run), 4)
			b.holdsLog(b.run(run.Run.ID))
		}},
		{"steps are kept byte for byte", func(b *rig) {
			run := b.start()
			want := []webtrigger.StepRecord{
				{Name: "a", Nth: 1, Record: json.RawMessage(`{ "b":1e22, "a":-0,"a":"\u0000\ud83d\ude00\\" }`)},
				{Name: strings.Repeat("ü", 255), Nth: 9999, Fingerprint: strings.Repeat("f", 64), Record: json.RawMessage(`"` + strings.Repeat(`\"ü`, 250_000) + `"`)},
			}
			b.append(run.Lease, noting(steps(1, 0), want...))
			b.Equal(want, b.stepsOf(run.Run.ID))
		}},
		{"steps are ordered by the bytes of their names, then by their numbers", func(b *rig) {
			run := b.start()
			var want []webtrigger.StepRecord
			for _, name := range []string{" ", "A", "B", "_", "a", "a b", "aa", "ä"} {
				for _, nth := range []int{1, 2, 10} {
					want = append(want, done(name, nth, `1`))
				}
			}
			given := slices.Clone(want)
			slices.Reverse(given)
			b.append(run.Lease, noting(steps(1, 0), given...))
			b.Equal(want, b.stepsOf(run.Run.ID))
		}},
		{"a run without steps has none, and so has an absent run", func(b *rig) {
			b.Empty(b.stepsOf(b.complete().ID))
			b.Empty(b.stepsOf(absent))
		}},
		{"a step is that of its run", func(b *rig) {
			one, two := b.start(), b.start()
			b.append(one.Lease, noting(steps(1, 0), done("a", 1, `1`)))
			b.append(two.Lease, noting(steps(1, 0), done("a", 1, `2`)))
			b.Equal([]webtrigger.StepRecord{done("a", 1, `1`)}, b.stepsOf(one.Run.ID))
			b.Equal([]webtrigger.StepRecord{done("a", 1, `2`)}, b.stepsOf(two.Run.ID))
		}},
		{"a start mark gets a record, and a record stays", func(b *rig) {
			run := b.start()
			b.append(run.Lease, noting(steps(1, 1), mark("a", 1), mark("b", 1)))
			b.append(run.Lease, noting(steps(2, 1), done("a", 1, `1`)))
			b.append(run.Lease, noting(steps(3, 1), done("a", 1, `2`), mark("a", 1+1)))
			b.append(run.Lease, noting(steps(4, 1), mark("a", 1)))
			b.Equal([]webtrigger.StepRecord{done("a", 1, `1`), mark("a", 2), mark("b", 1)}, b.stepsOf(run.Run.ID))
			b.Len(b.events(run.Run), 6)
		}},
		{"the steps of a batch that is stored are not stored again", func(b *rig) {
			run := b.start()
			b.all(b.together(16, func(int) error { return b.store.AppendEvents(b.ctx, run.Lease, noting(steps(2, 1), mark("a", 1))) }))
			b.append(run.Lease, noting(steps(1, 1), done("a", 1, `"late"`)))
			b.Equal([]webtrigger.StepRecord{mark("a", 1)}, b.stepsOf(run.Run.ID))
			b.Len(b.events(run.Run), 3)
		}},
		{"steps under an earlier lease are rejected", func(b *rig) {
			old := b.start()
			b.append(old.Lease, noting(steps(1, 0), mark("a", 1)))
			b.requeue(old.Lease)
			current := b.take(old.Run.ID, long)
			b.append(current.Lease, noting(steps(1, 0), done("b", 1, `1`)))
			b.changesNothing(old.Run.ID, func() {
				b.leaseLost(b.store.AppendEvents(b.ctx, old.Lease, noting(steps(2, 1), done("a", 1, `1`))))
				b.leaseLost(b.store.AppendEvents(b.ctx, old.Lease, noting(steps(1, 0), done("c", 1, `1`))))
			})
		}},
		{"rejected steps among valid ones fail alone", func(b *rig) {
			runs := make([]webtrigger.ClaimedRun, 16)
			for i := range runs {
				runs[i] = b.start()
			}
			errs := b.together(len(runs), func(i int) error {
				lease, batch := runs[i].Lease, noting(steps(1, 1), done("a", 1, fmt.Sprint(i)))
				switch {
				case i%5 == 2:
					lease.Token += 1000
				case i%2 == 0:
					batch.Steps = nil
				}
				return b.store.AppendEvents(b.ctx, lease, batch)
			})
			for i, err := range errs {
				switch got := b.stepsOf(runs[i].Run.ID); {
				case i%5 == 2:
					b.leaseLost(err)
					b.Empty(got)
				case i%2 == 0:
					b.NoError(err)
					b.Empty(got)
				default:
					b.NoError(err)
					b.Equal([]webtrigger.StepRecord{done("a", 1, fmt.Sprint(i))}, got)
				}
			}
		}},
		{"runs of one conversation have steps of their own", func(b *rig) {
			first := b.start()
			b.append(first.Lease, noting(steps(1, 1), done("a", 1, `1`)))
			b.accept(in(first.Run.ConversationID))
			b.append(first.Lease, noting(steps(2, 1), mark("b", 1)))
			b.append(first.Lease, noting(steps(3, 1), done("b", 1, `2`)))
			b.append(first.Lease, noting(steps(3, 1), done("c", 1, `3`)))
			want := []webtrigger.StepRecord{done("a", 1, `1`), done("b", 1, `2`)}
			b.Equal(want, b.stepsOf(first.Run.ID))
			b.finish(first.Lease, completed("Result"))
			second := b.claim(1)[0]
			b.append(second.Lease, noting(steps(1, 0), done("a", 1, `2`)))
			b.Equal([]webtrigger.StepRecord{done("a", 1, `2`)}, b.stepsOf(second.Run.ID))
			b.Equal(want, b.stepsOf(first.Run.ID))
		}},
		{"the finish stores the steps of the last batch, unless they are stored", func(b *rig) {
			run := b.start()
			b.append(run.Lease, noting(steps(1, 1), mark("a", 1)))
			for range 2 {
				_, err := b.store.FinishRun(b.ctx, run.Lease, webtrigger.Finish{
					Outcome: completed("Result"), Events: noting(steps(2, 1), done("a", 1, `1`), done("b", 1, `2`))})
				b.NoError(err)
			}
			b.Equal([]webtrigger.StepRecord{done("a", 1, `1`), done("b", 1, `2`)}, b.stepsOf(run.Run.ID))
			b.Len(b.events(run.Run), 5)
		}},
		{"the requeue stores the steps of the last batch, also if a stop decides", func(b *rig) {
			for _, stopped := range []bool{false, true} {
				run := b.start()
				if stopped {
					b.stop(run.Run.ID, webtrigger.CancelStop(""))
				}
				_, err := b.store.RequeueRun(b.ctx, run.Lease, shutdown(noting(steps(1, 1), done("a", 1, `1`))))
				b.NoError(err)
				b.Equal([]webtrigger.StepRecord{done("a", 1, `1`)}, b.stepsOf(run.Run.ID))
			}
		}},
		{"a later attempt sees the steps of earlier ones, and that it is a later one", func(b *rig) {
			b.attempts = 3
			run := b.take(b.accept().ID, brief)
			b.False(run.Requeued)
			b.append(run.Lease, noting(steps(1, 1), done("a", 1, `1`), mark("b", 1)))
			b.outlast(brief)
			b.Len(b.sweep(webtrigger.Sweep{}), 1)
			again := b.claim(1)[0]
			b.True(again.Requeued)
			b.Equal([]webtrigger.StepRecord{done("a", 1, `1`), mark("b", 1)}, b.stepsOf(run.Run.ID))
			b.append(again.Lease, noting(steps(1, 0), done("b", 1, `2`)))
			b.requeue(again.Lease)
			again = b.take(run.Run.ID, long)
			b.True(again.Requeued)
			b.Equal([]webtrigger.StepRecord{done("a", 1, `1`), done("b", 1, `2`)}, b.stepsOf(run.Run.ID))
			b.finish(again.Lease, completed("Result"))
			b.False(b.start(in(run.Run.ConversationID)).Requeued, "another run of the conversation")
		}},
		{"steps go with their run, and not with its events", func(b *rig) {
			finished := func(outcome webtrigger.Outcome) webtrigger.Run {
				run := b.start()
				b.append(run.Lease, noting(steps(1, 1), done("a", 1, `1`)))
				return b.finish(run.Lease, outcome)
			}
			erased, purged, stays := finished(completed("Result")), finished(completed("Result")), finished(failed("text"))
			b.NoError(b.store.EraseTrigger(b.ctx, erased.ConversationID))
			b.Empty(b.stepsOf(erased.ID))
			b.outlast(1)
			b.purge(webtrigger.Retention{Events: 1})
			b.Len(b.stepsOf(purged.ID), 1)
			b.purge(webtrigger.Retention{Completed: 1})
			b.Empty(b.stepsOf(purged.ID))
			b.Len(b.stepsOf(stays.ID), 1)
		}},
		{"the steps of a purged run of a keyed conversation go alone", func(b *rig) {
			key := func(t *webtrigger.NewTrigger) { t.ConversationKey = "key" }
			var runs []webtrigger.Run
			for range 2 {
				run := b.start(key)
				b.append(run.Lease, noting(steps(1, 1), done("a", 1, `1`)))
				if len(runs) == 0 {
					b.finish(run.Lease, completed("Result"))
				} else {
					b.finish(run.Lease, failed("text"))
				}
				runs = append(runs, run.Run)
			}
			b.outlast(1)
			b.purge(webtrigger.Retention{Completed: 1})
			b.Empty(b.stepsOf(runs[0].ID))
			b.Len(b.stepsOf(runs[1].ID), 1)
		}},
		{"steps are copies", func(b *rig) {
			run := b.start()
			step := done("a", 1, `"1"`)
			b.append(run.Lease, noting(steps(1, 0), step))
			step.Record[1] = 'x'
			b.stepsOf(run.Run.ID)[0].Record[1] = 'x'
			b.Equal([]webtrigger.StepRecord{done("a", 1, `"1"`)}, b.stepsOf(run.Run.ID))
		}},
	}
}

// noting adds steps to a batch.
func noting(batch webtrigger.EventBatch, steps ...webtrigger.StepRecord) webtrigger.EventBatch {
	batch.Steps = steps
	return batch
}

func (b *rig) stepsOf(runID int64) []webtrigger.StepRecord {
	b.t.Helper()
	steps, err := b.store.Steps(b.ctx, runID)
	b.NoError(err)
	return steps
}
