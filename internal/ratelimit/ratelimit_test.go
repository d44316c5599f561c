package ratelimit_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/ratelimit"
)

func TestBuckets_time_fillEvenly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := ratelimit.New(3, time.Minute)
		takes := func(n int, wait time.Duration) {
			t.Helper()
			for i := range n {
				quota, ok := b.Take(1)
				require.True(t, ok)
				require.Equal(t, n-1-i, quota.Remaining)
			}
			quota, ok := b.Take(1)
			require.False(t, ok)
			require.Equal(t, wait, quota.Reset)
			require.Equal(t, []any{3, time.Minute, 0}, []any{quota.Limit, quota.Window, quota.Remaining})
		}
		takes(3, 20*time.Second)
		time.Sleep(19 * time.Second)
		takes(0, time.Second)
		time.Sleep(time.Second)
		takes(1, 20*time.Second)
		time.Sleep(50 * time.Second)
		takes(2, 10*time.Second)
		time.Sleep(time.Hour)
		takes(3, 20*time.Second)
		_, ok := b.Take(2)
		require.True(t, ok, "each key has a bucket of its own")
	})
}

func TestBuckets_returnedToken_canBeTakenAgain(t *testing.T) {
	t.Parallel()
	b := ratelimit.New(1, time.Hour)
	for range 10 {
		_, ok := b.Take(1)
		require.True(t, ok)
		b.Return(1)
	}
	_, ok := b.Take(1)
	require.True(t, ok)
	_, ok = b.Take(1)
	require.False(t, ok)
	b.Return(2) // a key without a bucket
	require.Equal(t, 1, b.Len())
}

func TestBuckets_simultaneousCalls_stayWithinTheLimit(t *testing.T) {
	t.Parallel()
	b := ratelimit.New(10, time.Hour)
	var taken atomic.Int64
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			if _, ok := b.Take(1); ok {
				taken.Add(1)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 10, taken.Load())
}

func TestBuckets_zeroLimit_allowsEveryTrigger(t *testing.T) {
	t.Parallel()
	require.False(t, ratelimit.New(0, time.Minute).Limits(1))
	require.True(t, ratelimit.New(1, time.Minute).Limits(1))
	require.False(t, ratelimit.New(1, time.Minute).Limits(0), "a caller without a key")
}

// Full buckets take no memory, however many keys there are.
func TestBuckets_fullBuckets_areDeleted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := ratelimit.New(2, time.Minute)
		take := func(id int64) bool {
			_, ok := b.Take(id)
			return ok
		}
		for id := range int64(20_000) {
			require.True(t, take(id+1))
			time.Sleep(time.Second) // 30 buckets at a time are not full
		}
		require.Less(t, b.Len(), 200)
		require.True(t, take(19_999))
		require.False(t, take(19_999), "buckets that are not full stay")
	})
}
