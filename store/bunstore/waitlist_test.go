package bunstore

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// owned is an argument of a batcher in groups.
type owned struct {
	owner string
	bytes int
}

// crowd is a batcher whose first batch is held, so that later calls wait.
type crowd struct {
	*batcher[owned, int]
	batches [][]string // owners
	release chan struct{}
	done    sync.WaitGroup
	refused map[string]int
	mu      sync.Mutex
}

func newCrowd(t *testing.T, maxBytes int) *crowd {
	c := &crowd{release: make(chan struct{}), refused: make(map[string]int)}
	c.batcher = &batcher[owned, int]{
		background: new(sync.WaitGroup),
		waiting:    newWaitlist[owned, int](),
		paused:     newWaitlist[owned, int](),
		workers:    1,
		weigh:      func(o owned) int { return o.bytes },
		group:      func(o owned) any { return o.owner },
		run: func(_ context.Context, calls []*call[owned, int]) error {
			var owners []string
			for _, call := range calls {
				owners = append(owners, call.arg.owner)
			}
			if c.batches = append(c.batches, owners); len(c.batches) == 1 {
				<-c.release
			}
			return nil
		},
	}
	c.waiting.maxBytes = maxBytes
	c.call(t, owned{"first", 0}, 1)
	return c
}

// call makes n calls, which wait in order.
func (c *crowd) call(t *testing.T, arg owned, n int) {
	for range n {
		c.done.Go(func() {
			if _, err := c.do(context.Background(), arg); err != nil {
				if !strings.Contains(fmt.Sprint(err), webtrigger.ErrNotStored.Error()) {
					t.Errorf("rejected: %v", err)
				}
				c.mu.Lock()
				defer c.mu.Unlock()
				c.refused[arg.owner]++
			}
		})
	}
	synctest.Wait()
}

func (c *crowd) finish() {
	close(c.release)
	c.done.Wait()
}

// A group with large calls delays another one by one batch.
func TestBatches_largeGroup_othersTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 0)
		c.call(t, owned{"large", 2 << 20}, 4)
		c.call(t, owned{"small", 100}, 3)
		c.finish()
		require.Equal(t, [][]string{{"first"}, {"large", "small"}, {"large", "small"}, {"large", "small"}, {"large"}}, c.batches)
		require.Empty(t, c.waiting.groups)
		require.Zero(t, c.waiting.bytes)
	})
}

// One group alone may use all bytes. Another one that comes later gets its share, and
// the newest calls of the first give way.
func TestBatches_bytesAreUsedUp_largestGroupGivesWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 10_000)
		c.call(t, owned{"large", 1000}, 15)
		require.Equal(t, map[string]int{"large": 5}, c.refused)
		c.call(t, owned{"small", 100}, 20)
		require.Equal(t, map[string]int{"large": 7}, c.refused)
		c.call(t, owned{"other", 1000}, 20)
		require.Less(t, c.refused["large"], 7+5)
		require.Zero(t, c.refused["small"], "it had less than its share")
		require.LessOrEqual(t, c.waiting.bytes, 10_000)
		c.finish()
		require.Zero(t, c.waiting.bytes)
		require.Zero(t, c.waiting.count)
	})
}

// A single call may have more than the bound.
func TestBatches_callLargerThanBound_isDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 1000)
		c.call(t, owned{"large", 5000}, 2)
		require.Equal(t, 1, c.refused["large"])
		c.finish()
		require.Len(t, c.batches, 2)
	})
}

// So it is with the number of calls.
func TestBatches_placesAreUsedUp_largestGroupGivesWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 0)
		c.call(t, owned{"many", 1}, maxQueue+10)
		require.Equal(t, 10, c.refused["many"])
		c.call(t, owned{"few", 1}, 5)
		require.Equal(t, map[string]int{"many": 15}, c.refused)
		c.finish()
		require.Contains(t, c.batches[1], "few")
	})
}

// A call that was not begun when its caller left was not stored.
func TestBatches_callerLeavesQueue_nothingIsStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.do(ctx, owned{"1", 1})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, webtrigger.ErrNotStored)
		require.ErrorIs(t, err, webtrigger.ErrUnavailable)
		c.finish()
		require.Len(t, c.batches, 1)
	})
}

// Groups whose batches are slow leave half the workers to the others.
func TestBatches_slowGroups_othersHaveHalfTheWorkers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &batcher[string, int]{
			background: new(sync.WaitGroup),
			waiting:    newWaitlist[string, int](),
			workers:    4,
			each:       1,
			group:      func(owner string) any { return owner },
			run: func(_ context.Context, calls []*call[string, int]) error {
				for _, c := range calls {
					if c.arg != calls[0].arg {
						t.Errorf("%s beside %s", c.arg, calls[0].arg)
					}
				}
				if strings.HasPrefix(calls[0].arg, "slow") {
					time.Sleep(10 * time.Second)
				}
				return nil
			},
		}
		var done sync.WaitGroup
		do := func(owner string) {
			done.Go(func() {
				_, err := b.do(context.Background(), owner)
				require.NoError(t, err)
			})
			synctest.Wait()
		}
		for i := range 8 { // the first batches take all workers, and make their groups slow
			do(fmt.Sprint("slow", i))
		}
		done.Wait()
		start := time.Now()
		for i := range 8 {
			do(fmt.Sprint("slow", i))
			do(fmt.Sprint("slow", i))
		}
		for i := range 20 {
			_, err := b.do(t.Context(), fmt.Sprint("fast", i%3))
			require.NoError(t, err)
		}
		require.Zero(t, time.Since(start))
		done.Wait()
		synctest.Wait()
		b.mu.Lock()
		defer b.mu.Unlock()
		require.Empty(t, b.waiting.groups)
		require.Zero(t, b.waiting.slowBusy)
	})
}

// Calls that pause for locks are bounded as those that wait are: the group with the most
// gives way.
func TestBatches_lockedCalls_largestGroupGivesWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 0)
		free := make(chan struct{})
		c.run = func(_ context.Context, calls []*call[owned, int]) error {
			for _, call := range calls {
				select {
				case <-free:
				default:
					call.locked = true
				}
			}
			return nil
		}
		c.paused.maxBytes = 10_000
		close(c.release)
		c.call(t, owned{"large", 1000}, 15)
		require.Equal(t, map[string]int{"large": 5}, c.refused)
		c.call(t, owned{"small", 100}, 20)
		require.Equal(t, map[string]int{"large": 7}, c.refused)
		close(free)
		c.done.Wait()
		synctest.Wait()
		require.Zero(t, c.paused.count+c.paused.bytes)
	})
}
