package bunstore

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// rejected is an error of a database that has rolled back.
type rejected struct{}

func (rejected) Error() string    { return "bad row" }
func (rejected) SQLState() string { return "22P05" }

// Where calls come often a batch waits for more of them; a call that comes alone
// waits for nothing.
func TestBatchesLinger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		b := &batcher[int, int]{
			background: new(sync.WaitGroup),
			waiting:    newWaitlist[int, int](),
			workers:    1,
			linger:     2 * time.Millisecond,
			run: func(_ context.Context, calls []*call[int, int]) error {
				sizes = append(sizes, len(calls))
				return nil
			},
		}
		var wait sync.WaitGroup
		do := func() {
			wait.Go(func() {
				_, err := b.do(t.Context(), 1)
				require.NoError(t, err)
			})
		}
		for range 3 {
			start := time.Now()
			do()
			wait.Wait()
			require.Zero(t, time.Since(start))
			do()
			<-time.After(time.Millisecond)
			do()
			wait.Wait()
			require.Equal(t, 2*time.Millisecond, time.Since(start))
			<-time.After(time.Second)
		}
		require.Equal(t, []int{1, 2, 1, 2, 1, 2}, sizes)
	})
}

// A host may choose how many calls make a batch.
func TestBatchesHaveABound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		first := make(chan struct{})
		b := &batcher[int, int]{
			background: new(sync.WaitGroup),
			waiting:    newWaitlist[int, int](),
			workers:    1,
			max:        3,
			run: func(_ context.Context, calls []*call[int, int]) error {
				if sizes = append(sizes, len(calls)); len(sizes) == 1 {
					<-first
				}
				return nil
			},
		}
		var wait sync.WaitGroup
		for range 8 {
			wait.Go(func() {
				_, err := b.do(t.Context(), 1)
				require.NoError(t, err)
			})
			synctest.Wait()
		}
		close(first)
		wait.Wait()
		require.Equal(t, []int{1, 3, 3, 1}, sizes)
	})
}

// What queues up while a batch is under way makes the next one. A subject comes
// once in a batch, so that a batch that is rolled back has left nothing; a bad
// call fails alone.
func TestBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var batches [][]string
		first := make(chan struct{})
		b := &batcher[string, int]{
			background: new(sync.WaitGroup),
			waiting:    newWaitlist[string, int](),
			workers:    1,
			subject:    func(arg string) (any, bool) { return arg, arg != "none" },
			run: func(_ context.Context, calls []*call[string, int]) error {
				var args []string
				for _, c := range calls {
					args = append(args, c.arg)
					c.result = len(batches)
				}
				if batches = append(batches, args); len(batches) == 1 {
					<-first
				}
				for _, arg := range args {
					if arg == "bad" {
						return rejected{}
					}
				}
				return nil
			},
		}
		var wait sync.WaitGroup
		do := func(arg string) {
			wait.Go(func() {
				_, err := b.do(t.Context(), arg)
				if arg == "bad" {
					require.ErrorIs(t, err, rejected{})
				} else {
					require.NoError(t, err)
				}
			})
			synctest.Wait()
		}
		for _, arg := range []string{"alone", "a", "a", "none", "b", "none", "a", "b"} {
			do(arg)
		}
		close(first)
		wait.Wait()
		require.Equal(t, [][]string{{"alone"}, {"a", "none", "b", "none"}, {"a", "b"}, {"a"}}, batches)

		batches, first = nil, make(chan struct{})
		for _, arg := range []string{"alone", "a", "bad", "b"} {
			do(arg)
		}
		close(first)
		wait.Wait()
		require.Equal(t, [][]string{{"alone"}, {"a", "bad", "b"}, {"a"}, {"bad"}, {"b"}}, batches)
	})
}

// Calls that are left to be done alone wait in a queue with a bound too, and make
// room when they are done.
func TestBatches_manyCallsAlone_moreAreRejected(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		b := &batcher[int, int]{
			background: new(sync.WaitGroup),
			waiting:    newWaitlist[int, int](),
			workers:    1,
			run: func(_ context.Context, calls []*call[int, int]) error {
				for _, c := range calls {
					c.alone = true
				}
				return nil
			},
		}
		b.then = newAlone(b.background, func(_ context.Context, arg int) (int, error) {
			<-release
			return arg, nil
		})
		var wait sync.WaitGroup
		for range maxQueue + aloneSlots {
			wait.Go(func() {
				_, err := b.do(t.Context(), 1)
				require.NoError(t, err)
			})
		}
		synctest.Wait()
		_, err := b.do(t.Context(), 1)
		require.ErrorIs(t, err, webtrigger.ErrUnavailable)
		close(release)
		wait.Wait()
		_, err = b.do(t.Context(), 1)
		require.NoError(t, err)
	})
}

// A batch that does not return, as on a dead connection, delays the calls of others for 0.1 s
// only, and one further batch is under way at most.
func TestBatches_lateBatch_delaysNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		under, most := 0, 0
		var mu sync.Mutex
		count := func(n int) {
			mu.Lock()
			defer mu.Unlock()
			under += n
			most = max(most, under)
		}
		b := &batcher[time.Duration, int]{
			background: new(sync.WaitGroup),
			waiting:    newWaitlist[time.Duration, int](),
			workers:    1,
			spare:      1,
			max:        1,
			run: func(_ context.Context, calls []*call[time.Duration, int]) error {
				count(1)
				defer count(-1)
				time.Sleep(calls[0].arg)
				return nil
			},
		}
		var wait sync.WaitGroup
		start := time.Now()
		answered := func(after, takes, want time.Duration) {
			wait.Go(func() {
				time.Sleep(after)
				_, err := b.do(t.Context(), takes)
				require.NoError(t, err)
				require.Equal(t, want, time.Since(start))
			})
		}
		const ms = time.Millisecond
		answered(0, 10*time.Second, 10*time.Second)
		answered(1*ms, 0, 100*ms)   // waited until the first was late
		answered(500*ms, 0, 500*ms) // another worker starts at once
		answered(600*ms, 50*ms, 650*ms)
		answered(610*ms, 50*ms, 700*ms)       // one further batch at a time
		answered(9990*ms, 50*ms, 10_040*ms)   // under way when the first returns
		answered(10_020*ms, 50*ms, 10_090*ms) // then one at a time again
		answered(10_030*ms, 50*ms, 10_140*ms)
		wait.Wait()
		b.background.Wait()
		require.Equal(t, 2, most)
		require.Zero(t, b.busy)
		require.Zero(t, b.late)
	})
}
