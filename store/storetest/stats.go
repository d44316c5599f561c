package storetest

import (
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Statistics: ended runs by step, status and slot of their duration.
func statsRules() []rule {
	return []rule{
		{"ended runs are counted by status, also those of the current hour", func(b *rig) {
			b.complete()
			b.complete()
			b.finish(b.start().Lease, failed("Broken."))
			b.complete(of(stranger))
			b.stop(b.accept().ID, webtrigger.CancelStop(""))
			b.accept()
			counts := b.endCounts(assistant, time.Hour)
			b.Equal(map[webtrigger.RunStatus]int{webtrigger.RunCompleted: 2, webtrigger.RunFailed: 1, webtrigger.RunCancelled: 1}, byStatus(counts))
			b.Equal(map[webtrigger.RunStatus]int{webtrigger.RunCompleted: 3, webtrigger.RunFailed: 1, webtrigger.RunCancelled: 1}, byStatus(b.endCounts("", time.Hour)))
			for _, c := range counts {
				b.Equal(c.Status == webtrigger.RunCancelled, c.Slot == -1, "a run that was never claimed has no duration")
				b.Less(c.Slot, webtrigger.DurationSlots)
				b.Contains([]int{2, 3}, c.Step, "it ended in the current hour, or the one before it")
			}
			b.Equal(byStatus(counts), byStatus(b.endCounts(assistant, time.Hour)), "a second call counts the same")
			b.Empty(b.endCounts("assistant", time.Hour))
			for _, c := range b.endCounts(assistant, 4*time.Hour) {
				b.Zero(c.Step)
			}
		}},
		{"old statistics are not counted, and their purge leaves the counts of later hours", func(b *rig) {
			b.complete()
			before := byStatus(b.endCounts("", time.Hour))
			oldest := b.now().Add(-webtrigger.StatsAge).Truncate(time.Hour)
			counts, complete, err := b.store.EndCounts(b.ctx, webtrigger.StatsQuery{From: oldest.Add(-4 * time.Hour), To: oldest, Step: time.Hour})
			b.NoError(err)
			b.True(complete)
			b.Empty(counts)
			done, err := b.store.Purge(b.ctx, webtrigger.Purge{Stats: webtrigger.StatsAge, Limit: 10})
			b.NoError(err)
			b.Zero(done, "no hour past that age is kept")
			done, err = b.store.Purge(b.ctx, webtrigger.Purge{Stats: 2 * time.Hour, Limit: 10})
			b.NoError(err)
			b.Zero(done.Next)
			b.Equal(before, byStatus(b.endCounts("", time.Hour)))
		}},
		{"errors are counted, the most frequent first", func(b *rig) {
			before := b.now()
			b.finish(b.start().Lease, failed("Rare."))
			b.finish(b.start().Lease, failed("Often."))
			last := b.finish(b.start().Lease, failed("Often."))
			b.complete()
			other := b.finish(b.start(of(stranger)).Lease, failed("Often."))
			late := b.stop(b.accept().ID, webtrigger.DeadlineStop())
			count := func(assistantID string, from time.Time) []webtrigger.ErrorCount {
				counts, err := b.store.ErrorCounts(b.ctx, assistantID, from, 100)
				b.NoError(err)
				return counts
			}
			all := count("", before)
			b.Equal(webtrigger.ErrorCount{Error: "Often.", Count: 3, LastRunID: other.ID}, all[0])
			b.Len(all, 3)
			mine := count(assistant, before)
			b.Equal(webtrigger.ErrorCount{Error: "Often.", Count: 2, LastRunID: last.ID}, mine[0])
			b.Equal(webtrigger.ErrorCount{Error: webtrigger.DeadlineStop().ErrorMessage, Count: 1, LastRunID: late.ID}, mine[1])
			b.Empty(count("", late.CompletedAt.Add(time.Hour)))
		}},
	}
}

// endCounts counts the ends of the last four hours.
func (b *rig) endCounts(assistantID string, step time.Duration) []webtrigger.EndCount {
	b.t.Helper()
	to := b.now().Truncate(time.Hour).Add(time.Hour)
	counts, complete, err := b.store.EndCounts(b.ctx, webtrigger.StatsQuery{AssistantID: assistantID, From: to.Add(-4 * time.Hour), To: to, Step: step})
	b.NoError(err)
	b.True(complete)
	return counts
}

func byStatus(counts []webtrigger.EndCount) map[webtrigger.RunStatus]int {
	sums := make(map[webtrigger.RunStatus]int)
	for _, c := range counts {
		sums[c.Status] += c.Runs
	}
	return sums
}
