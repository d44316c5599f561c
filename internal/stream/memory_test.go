package stream_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/ssetest"
)

// However many conversations move at once, what all tails keep stays within the
// bound, and everyone gets everything. Conversations that rest keep nothing.
func TestTailsShareTheirMemory(t *testing.T) {
	t.Parallel()
	for _, bound := range []int{1, 20_000, 100_000} {
		synctest.Test(t, func(t *testing.T) {
			const conversations, rounds = 40, 20
			s := newSite(t, siteConfig{memory: bound})
			feeds, readers := make([]*feed, conversations), make([]*ssetest.Reader, conversations)
			for i := range feeds {
				feeds[i] = newFeed(t, s.source, 0)
				readers[i] = s.Open(feeds[i].path("?after_event_id=2"))
			}
			most := int64(0)
			for round := range int64(rounds) {
				for i, f := range feeds {
					f.appendPayload(1+i%3, `{"text":"`+strings.Repeat("x", 1000)+`"}`)
				}
				synctest.Wait() // every tail has read, every pump writes
				most = max(most, s.hub.Memory())
				require.LessOrEqual(t, s.hub.Memory(), int64(bound))
				for i, r := range readers {
					n := int64(1 + i%3)
					require.Equal(t, ssetest.IDs(3+round*n, 2+(round+1)*n), r.Take(t, int(n)))
				}
			}
			if bound > 10_000 {
				require.Greater(t, most, int64(bound/2), "it is used")
			}
			for range 2 {
				for _, r := range readers {
					r.Beats(t, 1)
				}
			}
			require.Zero(t, s.hub.Memory())
			for i, f := range feeds {
				f.finish()
				last := int64(3 + rounds*(1+i%3))
				require.Equal(t, ssetest.IDs(last, last), readers[i].Rest(t))
			}
			require.Zero(t, s.hub.Memory(), "tails without subscribers must keep no frames")
		})
	}
}

// A conversation that filled the memory first makes room for one that moves too,
// whose readers then share reads.
func TestTailsShareFairly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := newFake()
		s := newSite(t, siteConfig{source: source, memory: 40_000})
		a, b := newFeed(t, source, 0), newFeed(t, source, 0)
		first := s.Open(a.path("?after_event_id=2"))
		var readers []*ssetest.Reader
		for range 20 {
			readers = append(readers, s.Open(b.path("?after_event_id=2")))
		}
		synctest.Wait()
		step := func(n int64) {
			a.appendPayload(1, `{"text":"`+strings.Repeat("x", 3000)+`"}`)
			require.Equal(t, ssetest.IDs(n, n), first.Take(t, 1))
		}
		for n := int64(3); n < 30; n++ {
			step(n)
		}
		for n := int64(3); n < 20; n++ {
			step(n + 27)
			calls := source.calls.Load()
			b.appendPayload(1, `{"text":"`+strings.Repeat("x", 3000)+`"}`)
			for _, r := range readers {
				require.Equal(t, ssetest.IDs(n, n), r.Take(t, 1))
			}
			if n > 3 { // the other has moved since
				require.LessOrEqual(t, source.calls.Load()-calls, int64(2))
			}
		}
	})
}

// The process ends: readers who read get whole frames, and one that stalls delays
// the shutdown by at most two seconds.
func TestCloseDoesNotWaitForStalledReaders(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, siteConfig{http2: http2})
			f := newFeed(t, s.source, 0)
			f.appendPayload(40, `{"text":"`+strings.Repeat("x", 20_000)+`"}`)
			_ = s.Open(f.path("")) // never read
			synctest.Wait()
			time.Sleep(time.Second)
			start := time.Now()
			s.hub.Close()
			for s.hub.Tails() > 0 {
				time.Sleep(10 * time.Millisecond)
				require.LessOrEqual(t, time.Since(start), 2100*time.Millisecond)
			}
			require.Greater(t, time.Since(start), 1900*time.Millisecond)
		})
	}
}

// The write deadline is the host's to choose.
func TestStreamWriteTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, siteConfig{timeout: 3 * time.Second})
		f := newFeed(t, s.source, 0)
		f.appendPayload(40, `{"text":"`+strings.Repeat("x", 20_000)+`"}`)
		start := time.Now()
		_ = s.Open(f.path(""))
		for s.hub.Tails() > 0 {
			time.Sleep(100 * time.Millisecond)
		}
		require.InDelta(t, 3, time.Since(start).Seconds(), 0.2)
	})
}

// A conversation of thousands of runs is one stream, and each run in it another.
func TestStreamOfThousandsOfRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // in which no reader is slow
		const runs = 3000
		s := newSite(t, siteConfig{})
		first := newFeed(t, s.source, 0)
		whole := s.Open(first.path(""))
		var middle *feed
		for n := range runs - 1 {
			f := newFeed(t, s.source, first.run.conversationID)
			if n == runs/2 {
				middle = f
				continue
			}
			f.finish()
		}
		middleOnly := s.Open(middle.ofRun(""))
		first.finish()
		middle.finish()
		require.Equal(t, ssetest.IDs(1, 3*runs), whole.Rest(t))
		require.Len(t, middleOnly.Rest(t), 3)
		require.Equal(t, ssetest.IDs(3*runs-1, 3*runs), s.Open(first.path("?after_event_id=8998")).Rest(t))
	})
}
