package storetest

import (
	"fmt"
	"slices"

	"github.com/webtrigger-go/webtrigger"
)

// Fairness: a claim goes to the assistant with the fewest running runs, and limits of
// running runs are exact.
func fairnessRules() []rule {
	by := func(keyID int64) change { return func(t *webtrigger.NewTrigger) { t.KeyID = keyID } }
	const x, y, z = "x", "y", "z"
	// queued accepts a run for each assistant.
	queued := func(b *rig, assistants ...string) (runs []webtrigger.Run) {
		for _, a := range assistants {
			runs = append(runs, b.accept(of(a)))
		}
		return runs
	}
	claim := func(b *rig, c webtrigger.Claim) []webtrigger.ClaimedRun {
		b.t.Helper()
		c.ProcessID, c.Token = worker, webtrigger.NewToken()
		claimed, err := b.store.ClaimRuns(b.ctx, c)
		b.NoError(err)
		return claimed
	}
	places := func(claimed []webtrigger.ClaimedRun, runs []webtrigger.Run) []int {
		return each(claimed, func(c webtrigger.ClaimedRun) int {
			return slices.IndexFunc(runs, func(r webtrigger.Run) bool { return r.ID == c.Run.ID })
		})
	}
	return []rule{
		{"assistants take turns, the fewest running runs first, then the oldest run", func(b *rig) {
			b.start(of(x))
			b.start(of(x))
			runs := queued(b, x, x, y, z, y, z)
			b.Equal([]int{2, 3, 4, 5, 0, 1}, places(claim(b, webtrigger.Claim{Limit: 10}), runs))
		}},
		{"single claims take the same turns", func(b *rig) {
			b.start(of(x))
			runs := queued(b, x, x, y, z, y, z)
			var got []int
			for range runs {
				got = append(got, places(claim(b, webtrigger.Claim{Limit: 1}), runs)...)
			}
			b.Equal([]int{2, 3, 0, 4, 5, 1}, got)
		}},
		{"an ended or requeued run gives its assistant the turn again", func(b *rig) {
			ended, requeued := b.start(of(x)), b.start(of(x))
			b.start(of(y))
			runs := queued(b, y, x)
			b.finish(ended.Lease, completed("Result"))
			b.requeue(requeued.Lease)
			claimed := claim(b, webtrigger.Claim{Limit: 1})
			b.Equal([]int64{requeued.Run.ID}, each(claimed, claimedID), "no run of x is running, and this is the oldest")
			b.Equal([]int{0, 1}, places(claim(b, webtrigger.Claim{Limit: 10}), runs))
		}},
		{"a backlog of one assistant does not hide another", func(b *rig) {
			queued(b, slices.Repeat([]string{x}, 300)...)
			b.Len(claim(b, webtrigger.Claim{Limit: 8}), 8)
			late := queued(b, y)
			b.Equal([]int64{late[0].ID}, each(claim(b, webtrigger.Claim{Limit: 1}), claimedID))
		}},
		{"backlogs of many assistants all come to their turn", func(b *rig) {
			const assistants = 150
			for i := range assistants {
				queued(b, fmt.Sprintf("a%03d", i), fmt.Sprintf("a%03d", i))
			}
			seen := make(map[string]int)
			for i := 0; len(seen) < assistants; i++ {
				b.Less(i, 2*assistants)
				for _, c := range claim(b, webtrigger.Claim{Limit: 5}) {
					seen[c.Run.AssistantID]++
				}
			}
			for _, n := range seen {
				b.LessOrEqual(n, 2)
			}
		}},
		{"an assistant has no more running runs than its limit", func(b *rig) {
			runs := queued(b, x, x, x, y, x)
			limited := webtrigger.Claim{Limit: 10, MaxPerAssistant: 2}
			claimed := claim(b, limited)
			b.ElementsMatch([]int{0, 1, 3}, places(claimed, runs))
			b.Empty(claim(b, limited))
			b.Empty(claim(b, webtrigger.Claim{Limit: 1, MaxPerAssistant: 2, RunID: runs[2].ID}))
			b.finish(claimed[slices.Index(places(claimed, runs), 1)].Lease, completed("Result"))
			b.Equal([]int{2}, places(claim(b, limited), runs))
			b.Empty(claim(b, limited))
			b.Equal([]int{4}, places(claim(b, webtrigger.Claim{Limit: 10}), runs), "the limit is the claim's")
		}},
		{"a key has no more running runs than its limit, and does not hide its assistant's others", func(b *rig) {
			var runs []webtrigger.Run
			for _, key := range []int64{1, 1, 1, 0, 2, 0} {
				runs = append(runs, b.accept(by(key)))
			}
			limited := webtrigger.Claim{Limit: 10, MaxPerKey: 1}
			claimed := claim(b, limited)
			b.Equal([]int{0, 3, 4, 5}, places(claimed, runs), "calls from Go have no limit")
			b.Empty(claim(b, limited))
			b.Empty(claim(b, webtrigger.Claim{Limit: 1, MaxPerKey: 1, RunID: runs[1].ID}))
			b.finish(claimed[0].Lease, completed("Result"))
			b.Equal([]int{1}, places(claim(b, webtrigger.Claim{Limit: 1, MaxPerKey: 1, RunID: runs[1].ID}), runs))
			b.Empty(claim(b, limited))
		}},
		{"assistants at their limit do not hide others", func(b *rig) {
			const assistants = 70
			limited := webtrigger.Claim{Limit: assistants, MaxPerAssistant: 1}
			for range 3 {
				for i := range assistants {
					queued(b, fmt.Sprintf("a%03d", i))
				}
			}
			b.Len(claim(b, limited), assistants)
			b.Empty(claim(b, limited))
			for _, late := range []string{"a", "b", "a00"} {
				runs := queued(b, late)
				b.Equal([]int{0}, places(claim(b, limited), runs))
			}
		}},
		{"assistants whose keys are at their limit do not hide others", func(b *rig) {
			const assistants = 70
			limited := webtrigger.Claim{Limit: assistants, MaxPerKey: 1}
			for range 3 {
				for i := range assistants {
					b.accept(of(fmt.Sprintf("a%03d", i)), by(int64(i+1)))
				}
			}
			b.Len(claim(b, limited), assistants)
			b.Empty(claim(b, limited))
			for _, late := range []string{"a", "b", "a00"} {
				runs := []webtrigger.Run{b.accept(of(late), by(assistants+1))}
				got := claim(b, limited)
				b.Equal([]int{0}, places(got, runs))
				b.finish(got[0].Lease, completed("Result"))
			}
		}},
		{"a key at its limit does not hide others behind its backlog", func(b *rig) {
			for range 300 {
				b.accept(of(x), by(1))
			}
			limited := webtrigger.Claim{Limit: 4, MaxPerKey: 1}
			b.Len(claim(b, limited), 1)
			b.Empty(claim(b, limited))
			runs := []webtrigger.Run{b.accept(of(x), by(2)), b.accept(of(x)), b.accept(of(y), by(3))}
			b.ElementsMatch([]int{0, 1, 2}, places(claim(b, limited), runs))
			b.Empty(claim(b, limited))
		}},
		{"runs claimed at accept count", func(b *rig) {
			accepted, err := b.store.CreateTrigger(b.ctx, trigger(of(x), taking(worker)))
			b.NoError(err)
			if accepted.Lease == nil {
				b.declined(accepted.Run)
				return
			}
			runs := queued(b, x, y)
			b.Equal([]int{1}, places(claim(b, webtrigger.Claim{Limit: 10, MaxPerAssistant: 1}), runs))
			b.Equal([]int{0}, places(claim(b, webtrigger.Claim{Limit: 10}), runs))
		}},
		{"simultaneous claims do not exceed a limit together, and reach it", func(b *rig) {
			for range 10 {
				for _, key := range []int64{1, 2} {
					b.accept(of(x), by(key))
				}
				b.accept(of(y))
			}
			claimed := make([][]webtrigger.ClaimedRun, 12)
			c := webtrigger.Claim{Limit: 3, MaxPerAssistant: 5, MaxPerKey: 2, ProcessID: worker}
			b.all(b.together(len(claimed), func(i int) (err error) {
				for range 3 {
					c := c
					c.Token = webtrigger.NewToken()
					got, err := b.store.ClaimRuns(b.ctx, c)
					if err != nil {
						return err
					}
					claimed[i] = append(claimed[i], got...)
				}
				return nil
			}))
			claimed = append(claimed, claim(b, webtrigger.Claim{Limit: 30, MaxPerAssistant: 5, MaxPerKey: 2}))
			running := make(map[string]int)
			for _, run := range slices.Concat(claimed...) {
				running[fmt.Sprint(run.Run.AssistantID, run.Run.KeyID)]++
			}
			b.Equal(map[string]int{"x1": 2, "x2": 2, "y0": 5}, running)
		}},
	}
}
