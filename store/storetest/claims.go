package storetest

import (
	"encoding/json"
	"slices"
	"sync"

	"github.com/webtrigger-go/webtrigger"
)

// Claims: an assistant's queued runs are taken oldest first and each exactly once among all
// callers. A claim makes a run running, counts an attempt, stamps its start and stores
// its token and run_started.
func claimRules() []rule {
	claim := func(b *rig, runID int64) []webtrigger.ClaimedRun {
		b.t.Helper()
		return b.claimBy(worker, 10, runID)
	}
	return []rule{
		{"an empty queue gives nothing", func(b *rig) {
			b.Empty(b.claim(10))
		}},
		{"a claim takes the oldest runs of an assistant, oldest first, up to its limit", func(b *rig) {
			var ids []int64
			for range 5 {
				ids = append(ids, b.accept().ID)
			}
			b.Equal(ids[:2], each(b.claim(2), claimedID))
			b.Equal(ids[2:4], each(b.claim(2), claimedID))
			b.Equal(ids[4:], each(b.claim(2), claimedID))
			b.Empty(b.claim(2))
		}},
		{"a taken run is running, with one more attempt, a start and run_started", func(b *rig) {
			queued := b.accept()
			b.past(queued.CreatedAt)
			run := b.take(queued.ID, long).Run
			b.True(run.StartedAt.After(run.CreatedAt))
			want := queued
			want.Status, want.Attempts, want.StartedAt = webtrigger.RunRunning, 1, run.StartedAt
			b.Equal(want, run)
			b.Equal(want, b.run(run.ID))
			events := b.events(run)
			b.Len(events, 2)
			b.sameEvent(webtrigger.StartedEvent(1), events[1])
			b.holdsLog(run)
		}},
		{"a claim brings the input byte for byte", func(b *rig) {
			want := webtrigger.RunInput{Subject: " S ", Message: "M\n", Context: json.RawMessage(`{ "b":1e22, "a":-0 }`), Metadata: json.RawMessage(`null`)}
			b.accept(func(t *webtrigger.NewTrigger) { t.Input = want })
			claimed := b.claim(1)
			b.Len(claimed, 1)
			b.Equal(want, claimed[0].Input)
			b.Equal(claimed[0].Run.ID, claimed[0].Lease.RunID)
		}},
		{"a claim of many brings each run its own input, task and lease", func(b *rig) {
			task := b.task(assistant)
			b.accept(saying("1"))
			b.accept(saying("2"), doing(&task))
			b.accept(saying("3"), of(stranger))
			var messages []string
			for _, claimed := range b.claim(10) {
				messages = append(messages, claimed.Input.Message)
				b.Equal(claimed.Run.ID, claimed.Lease.RunID)
				b.Equal(claimed.Input.Message == "2", claimed.Run.TaskDefinition != nil)
				b.Equal(claimed.Input.Message == "3", claimed.Run.AssistantID == stranger)
				b.append(claimed.Lease, steps(1, 1))
				b.holdsLog(claimed.Run)
			}
			b.ElementsMatch([]string{"1", "2", "3"}, messages)
		}},
		{"a claim of one run takes that run, out of turn", func(b *rig) {
			first, second := b.accept(), b.accept()
			b.Equal([]int64{second.ID}, each(claim(b, second.ID), claimedID))
			b.Equal([]int64{first.ID}, each(b.claim(10), claimedID))
		}},
		{"a claim of one run takes no other in its place", func(b *rig) {
			b.accept()
			running, ended, cancelled := b.start().Run, b.complete(), b.stop(b.accept().ID, webtrigger.CancelStop(""))
			for _, id := range []int64{running.ID, ended.ID, cancelled.ID, absent} {
				b.Empty(claim(b, id))
			}
			b.Len(b.claim(10), 1)
		}},
		{"runs that run or have ended are not taken, and are left as they are", func(b *rig) {
			running, ended, cancelled := b.start().Run, b.complete(), b.stop(b.accept().ID, webtrigger.CancelStop(""))
			for _, run := range []webtrigger.Run{running, ended, cancelled} {
				b.changesNothing(run.ID, func() { b.Empty(b.claim(10)) })
			}
		}},
		{"a run whose process has expired is not taken before it is swept", func(b *rig) {
			run := b.strand().Run
			b.Empty(b.claim(10))
			b.Empty(claim(b, run.ID))
		}},
		{"the tokens of a claim are those of the caller, one number a run", func(b *rig) {
			for range 5 {
				b.accept()
			}
			for _, claim := range []webtrigger.Claim{{Token: 1 << 62, Limit: 3}, {Token: 7, Limit: 3}} {
				claim.ProcessID = worker
				claimed, err := b.store.ClaimRuns(b.ctx, claim)
				b.NoError(err)
				for i, run := range claimed {
					b.Equal(claim.Token+int64(i), run.Lease.Token)
					b.append(run.Lease, steps(1, 1))
				}
			}
			b.Empty(b.claim(1))
		}},
		{"a process that is not registered claims nothing", func(b *rig) {
			run := b.accept()
			b.changesNothing(run.ID, func() {
				for _, runID := range []int64{0, run.ID} {
					_, err := b.store.ClaimRuns(b.ctx, webtrigger.Claim{ProcessID: "absent", Token: 1, Limit: 10, RunID: runID})
					b.leaseLost(err)
				}
			})
			_, err := b.store.ClaimRuns(b.ctx, webtrigger.Claim{ProcessID: "absent", Token: 1, Limit: 10, RunID: absent})
			b.leaseLost(err)
			b.Len(b.claim(10), 1)
		}},
		{"attempts are counted and the start is that of the latest", func(b *rig) {
			b.attempts = 3
			first := b.strand().Run
			b.Len(b.sweep(webtrigger.Sweep{}), 1)
			second := b.take(first.ID, long).Run
			b.Equal(1, first.Attempts)
			b.Equal(2, second.Attempts)
			b.True(second.StartedAt.After(first.StartedAt))
			b.Equal(first.CreatedAt, second.CreatedAt)
			events := b.events(second)
			b.sameEvent(webtrigger.StartedEvent(2), events[len(events)-1])
		}},
		{"of many claims of one run one takes it", func(b *rig) {
			for range 10 {
				run := b.accept()
				var mu sync.Mutex
				taken := 0
				b.all(b.together(16, func(int) error {
					claimed, err := b.store.ClaimRuns(b.ctx, webtrigger.Claim{ProcessID: worker, Token: webtrigger.NewToken(), Limit: 5, RunID: run.ID})
					mu.Lock()
					defer mu.Unlock()
					taken += len(claimed)
					return err
				}))
				b.Equal(1, taken)
				b.Len(b.events(run), 2)
			}
		}},
		{"200 runs are taken once each by 12 claimers", func(b *rig) {
			b.takenOnce(12, 7)
		}},
		{"200 runs are taken once each by 16 claimers, one at a time", func(b *rig) {
			b.takenOnce(16, 1)
		}},
		{"runs that are accepted while others are claimed are taken once each", func(b *rig) {
			const n = 100
			var mu sync.Mutex
			var taken []int64
			b.all(b.together(16, func(i int) error {
				for range n / 8 {
					if i%2 == 0 {
						if _, err := b.store.CreateTrigger(b.ctx, trigger()); err != nil {
							return err
						}
						continue
					}
					claimed, err := b.store.ClaimRuns(b.ctx, webtrigger.Claim{ProcessID: worker, Token: webtrigger.NewToken(), Limit: 3})
					if err != nil {
						return err
					}
					mu.Lock()
					taken = append(taken, each(claimed, claimedID)...)
					mu.Unlock()
				}
				return nil
			}))
			taken = append(taken, each(b.claim(200), claimedID)...)
			b.Len(taken, n/8*8)
			slices.Sort(taken)
			b.Len(slices.Compact(taken), n/8*8)
		}},
	}
}

// takenOnce empties a queue of 200 runs by several claimers at the same time.
func (b *rig) takenOnce(claimers, limit int) {
	b.t.Helper()
	const runs = 200
	b.all(b.together(8, func(int) error {
		for range runs / 8 {
			if _, err := b.store.CreateTrigger(b.ctx, trigger()); err != nil {
				return err
			}
		}
		return nil
	}))
	taken := drain(b, claimers, runs, func() ([]webtrigger.ClaimedRun, error) {
		return b.store.ClaimRuns(b.ctx, webtrigger.Claim{ProcessID: worker, Token: webtrigger.NewToken(), Limit: limit})
	})
	seen := make(map[int64]bool)
	for _, claimed := range taken {
		b.False(seen[claimed.Run.ID])
		seen[claimed.Run.ID] = true
		b.Equal(1, claimed.Run.Attempts)
		b.Len(b.events(claimed.Run), 2)
	}
	b.Len(seen, runs)
}
