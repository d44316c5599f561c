//go:build unix && chaos

package chaostest_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// Three assistants with unequal queues get equal shares of three replicas for a minute,
// the oldest runs first. A limit of running runs is reached and never exceeded. The
// suite has a short form of it: TestWork_threeProcesses_equalSharesWithinTheLimit.
func TestCampaign_fairShares(t *testing.T) {
	const limit, lasts = 3, time.Minute
	r := newRig(t)
	queues := map[string]int{"1": 4000, "2": 3000, "3": 2500}
	ids := r.queue(queues)
	r.startReplicas(4, limit)
	time.Sleep(lasts)
	r.stop()
	r.account.read(t, r.ledger)

	type step struct {
		at     time.Time
		change int
		id     int64
	}
	steps, shares := make(map[string][]step), make(map[string]int)
	for key, calls := range r.account.calls {
		assistant := ids[calls[0].RunID]
		steps[assistant] = append(steps[assistant], step{calls[0].At, 1, calls[0].RunID})
		for _, e := range r.account.effects[key] {
			steps[assistant] = append(steps[assistant], step{e.At, -1, 0})
			shares[assistant]++
		}
	}
	for assistant := range queues {
		slices.SortFunc(steps[assistant], func(a, b step) int { return a.at.Compare(b.at) })
		running, most := 0, 0
		var order []int64
		for _, s := range steps[assistant] {
			running += s.change
			most = max(most, running)
			if s.change > 0 {
				order = append(order, s.id)
			}
		}
		assert.Equal(t, limit, most, "running runs of assistant %s at most", assistant)
		var oldest []int64
		for id, of := range ids {
			if of == assistant {
				oldest = append(oldest, id)
			}
		}
		slices.Sort(oldest)
		for i, id := range order {
			place, _ := slices.BinarySearch(oldest, id)
			assert.InDelta(t, i, place, 3*limit, "run %d of assistant %s", id, assistant)
		}
	}
	t.Logf("runs within %v, at most %d at a time of each assistant: %v", lasts, limit, shares)
	counts := []int{shares["1"], shares["2"], shares["3"]}
	assert.InEpsilon(t, slices.Max(counts), slices.Min(counts), 0.15, "equal shares, but for how fast a busy machine refills a slot")
}

// queue queues runs and returns the assistant of each.
func (r *rig) queue(queues map[string]int) map[int64]string {
	r.Helper()
	ids := make(map[int64]string)
	var mu sync.Mutex
	var all sync.WaitGroup
	for assistant, n := range queues {
		each := make(chan struct{}, n)
		for range n {
			each <- struct{}{}
		}
		close(each)
		for range 16 {
			all.Go(func() {
				for range each {
					run, err := r.service.Trigger(r.Context(), assistant, webtrigger.TriggerRequest{Message: "fair 100ms"})
					if !assert.NoError(r.T, err) {
						return
					}
					mu.Lock()
					ids[run.ID] = assistant
					mu.Unlock()
				}
			})
		}
	}
	all.Wait()
	require.False(r, r.Failed())
	return ids
}
