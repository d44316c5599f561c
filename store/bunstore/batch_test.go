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
