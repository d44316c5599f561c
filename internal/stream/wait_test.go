package stream_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAwait_end_wakesAllWaitersWithOneRead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		deaf bool
		late time.Duration
	}{"by the hint": {false, 0}, "by the poll": {true, 2 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			source := newFake()
			source.deaf = c.deaf
			hub := newHub(source, 0, 0)
			f := newFeed(t, source, 0)
			var all sync.WaitGroup
			for range 100 {
				all.Go(func() { hub.Await(t.Context(), f.run.conversationID, f.run.id, 0, time.Hour) })
			}
			time.Sleep(30*time.Second + 100*time.Millisecond)
			reads := source.reads.Load()
			start := time.Now()
			f.finish()
			all.Wait()
			require.LessOrEqual(t, time.Since(start), c.late, name)
			require.EqualValues(t, 1, source.reads.Load()-reads, name)
			hub.Await(t.Context(), f.run.conversationID, f.run.id, 0, time.Hour) // ended already
			hub.Await(t.Context(), f.run.conversationID, 4711, 0, time.Hour)     // no such run
			require.LessOrEqual(t, time.Since(start), c.late, name)
		})
	}
}

func TestAwait_contextTimeAndClose_endTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := newFake()
		hub := newHub(source, 0, 0)
		f := newFeed(t, source, 0)
		await := func(ctx context.Context, d time.Duration) time.Duration {
			start := time.Now()
			hub.Await(ctx, f.run.conversationID, f.run.id, 0, d)
			return time.Since(start)
		}
		require.Equal(t, time.Minute, await(t.Context(), time.Minute))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.Equal(t, time.Second, await(ctx, time.Minute))
		source.unavailable.Store(true)
		time.AfterFunc(5*time.Second, func() {
			source.unavailable.Store(false)
			f.finish()
		})
		require.LessOrEqual(t, await(t.Context(), time.Minute), 7*time.Second, "an error must not end the wait")

		f = newFeed(t, source, f.run.conversationID)
		time.AfterFunc(time.Second, hub.Close)
		require.Equal(t, time.Second, await(t.Context(), time.Minute))
		require.Zero(t, await(t.Context(), time.Minute))
	})
}

// Waits for two runs of a conversation, and for one run by callers who have seen its request for
// input and who have not, are separate.
func TestAwait_otherRunOrRequest_waitsOnItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := newFake()
		hub := newHub(source, 0, 0)
		first := newFeed(t, source, 0)
		second := newFeed(t, source, first.run.conversationID)
		start := time.Now()
		await := func(f *feed, known int64) <-chan time.Duration {
			done := make(chan time.Duration, 1)
			go func() {
				hub.Await(t.Context(), f.run.conversationID, f.run.id, known, time.Hour)
				done <- time.Since(start)
			}()
			synctest.Wait()
			return done
		}
		wakes := func(done <-chan time.Duration, message string) {
			t.Helper()
			require.Equal(t, time.Since(start), <-done, message)
		}
		one, two := await(first, 0), await(second, 0)
		time.Sleep(time.Second)
		first.finish()
		wakes(one, "the end of the first run")
		time.Sleep(time.Second)
		second.ask(7)
		wakes(two, "the request of the second run")
		wakes(await(second, 0), "a caller who has not seen the request")
		known, other := await(second, 7), await(second, 6)
		wakes(other, "a caller who has seen another request")
		time.Sleep(time.Second)
		second.ask(0)
		ignorant := await(second, 0)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Empty(t, known, "an answer must not end the wait")
		require.Empty(t, ignorant)
		second.ask(8)
		wakes(known, "the next request")
		wakes(ignorant, "the next request")
		synctest.Wait()
		require.Zero(t, source.watches.Load(), "nothing is watched after the last wait")
	})
}

// A waiter that comes after the run was continued does not join those that its last
// rest has woken.
func TestAwait_runContinued_waitsForTheNextRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := newFake()
		hub := newHub(source, 0, 0)
		f := newFeed(t, source, 0)
		f.ask(7)
		leave := hub.Join(f.run.conversationID, f.run.id)
		synctest.Wait() // woken, and not left yet
		f.ask(0)
		start := time.Now()
		hub.Await(t.Context(), f.run.conversationID, f.run.id, 0, time.Minute)
		require.Equal(t, time.Minute, time.Since(start))
		leave()
	})
}

func TestTake_streamsOfAKey_haveABound(t *testing.T) {
	t.Parallel()
	hub := newHub(newFake(), 0, 0)
	for range 2 {
		require.True(t, hub.Take(1))
		require.True(t, hub.Take(1))
		require.False(t, hub.Take(1))
		require.True(t, hub.Take(2), "another key")
		hub.Return(1)
		hub.Return(1)
		hub.Return(2)
	}
	require.Zero(t, hub.Keys())
}

func TestTakeWait_keyAndProcess_haveABound(t *testing.T) {
	t.Parallel()
	hub := newHub(newFake(), 0, 0)
	for range 2 {
		require.True(t, hub.Take(1))
		require.True(t, hub.TakeWait(1), "streams and waits count together")
		require.False(t, hub.TakeWait(1))
		require.False(t, hub.Take(1))
		require.True(t, hub.TakeWait(0))
		require.True(t, hub.TakeWait(0), "a caller without a key has no bound of its own")
		require.False(t, hub.TakeWait(0), "the process has")
		require.False(t, hub.TakeWait(2))
		hub.ReturnWait(0)
		require.True(t, hub.TakeWait(2), "another key")
		hub.Return(1)
		hub.ReturnWait(1)
		hub.ReturnWait(2)
		hub.ReturnWait(0)
	}
	require.Zero(t, hub.Keys())
}
