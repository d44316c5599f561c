package webtrigger_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

func TestStreamOptions(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]webtrigger.StreamOptions{
		"negative memory":     {MemoryBytes: -1},
		"negative timeout":    {WriteTimeout: -1},
		"a timeout over 10 s": {WriteTimeout: 10*time.Second + 1},
	} {
		_, err := webtrigger.New(newSite(t, siteConfig{}).store, nil, &webtrigger.Options{Workers: -1, Streams: o})
		require.Error(t, err, name)
	}
}

// However many conversations move at once, what all tails keep stays within the
// bound, and everyone gets everything. Conversations that rest keep nothing.
func TestTailsShareTheirMemory(t *testing.T) {
	t.Parallel()
	for _, bound := range []int{1, 20_000, 100_000} {
		synctest.Test(t, func(t *testing.T) {
			const conversations, rounds = 40, 20
			s := newSite(t, siteConfig{streams: webtrigger.StreamOptions{MemoryBytes: bound}})
			feeds, readers := make([]*feed, conversations), make([]*reader, conversations)
			for i := range feeds {
				feeds[i] = newFeed(t, s.store, 0)
				readers[i] = s.open(feeds[i].path("?after_event_id=2"))
			}
			most := int64(0)
			for round := range int64(rounds) {
				for i, f := range feeds {
					f.appendPayload(1+i%3, `{"text":"`+strings.Repeat("x", 1000)+`"}`)
				}
				synctest.Wait() // every tail has read, every pump writes
				most = max(most, s.svc.StreamMemory())
				require.LessOrEqual(t, s.svc.StreamMemory(), int64(bound))
				for i, r := range readers {
					n := int64(1 + i%3)
					require.Equal(t, ids(3+round*n, 2+(round+1)*n), r.take(t, int(n)))
				}
			}
			if bound > 10_000 {
				require.Greater(t, most, int64(bound/2), "it is used")
			}
			for range 2 {
				for _, r := range readers {
					r.beats(t, 1)
				}
			}
			require.Zero(t, s.svc.StreamMemory())
			for i, f := range feeds {
				f.finish()
				last := int64(3 + rounds*(1+i%3))
				require.Equal(t, ids(last, last), readers[i].rest(t))
			}
			require.Zero(t, s.svc.StreamMemory(), "tails that nobody watches keep nothing")
		})
	}
}

// A conversation that filled the memory first makes room for one that moves too,
// whose readers then share reads.
func TestTailsShareFairly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{Store: memstore.New(nil)}
		s := newSite(t, siteConfig{store: store, streams: webtrigger.StreamOptions{MemoryBytes: 40_000}})
		a, b := newFeed(t, store, 0), newFeed(t, store, 0)
		first := s.open(a.path("?after_event_id=2"))
		var readers []*reader
		for range 20 {
			readers = append(readers, s.open(b.path("?after_event_id=2")))
		}
		synctest.Wait()
		step := func(n int64) {
			a.appendPayload(1, `{"text":"`+strings.Repeat("x", 3000)+`"}`)
			require.Equal(t, ids(n, n), first.take(t, 1))
		}
		for n := int64(3); n < 30; n++ {
			step(n)
		}
		for n := int64(3); n < 20; n++ {
			step(n + 27)
			calls := store.calls.Load()
			b.appendPayload(1, `{"text":"`+strings.Repeat("x", 3000)+`"}`)
			for _, r := range readers {
				require.Equal(t, ids(n, n), r.take(t, 1))
			}
			if n > 3 { // the other has moved since
				require.LessOrEqual(t, store.calls.Load()-calls, int64(2))
			}
		}
	})
}

// The process ends: readers who read get whole frames, and one who stalls holds
// nobody up for longer than two seconds.
func TestCloseStreamsDoesNotWaitForStalledReaders(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, siteConfig{http2: http2})
			f := newFeed(t, s.store, 0)
			f.appendPayload(40, `{"text":"`+strings.Repeat("x", 20_000)+`"}`)
			_ = s.open(f.path("")) // nobody reads it
			synctest.Wait()
			time.Sleep(time.Second)
			start := time.Now()
			s.svc.CloseStreams()
			for s.svc.Tails() > 0 {
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
		s := newSite(t, siteConfig{streams: webtrigger.StreamOptions{WriteTimeout: 3 * time.Second}})
		f := newFeed(t, s.store, 0)
		f.appendPayload(40, `{"text":"`+strings.Repeat("x", 20_000)+`"}`)
		start := time.Now()
		_ = s.open(f.path(""))
		for s.svc.Tails() > 0 {
			time.Sleep(100 * time.Millisecond)
		}
		require.InDelta(t, 3, time.Since(start).Seconds(), 0.2)
	})
}

// A conversation of thousands of runs is one stream, and each run in it another.
func TestStreamOfThousandsOfRuns(t *testing.T) {
	t.Parallel()
	const runs = 3000
	s := newSite(t, siteConfig{})
	first := newFeed(t, s.store, 0)
	whole := s.open(first.path(""))
	var middle *feed
	for n := range runs - 1 {
		f := newFeed(t, s.store, first.run.ConversationID)
		if n == runs/2 {
			middle = f
			continue
		}
		f.finish()
	}
	middleOnly := s.open(middle.ofRun(""))
	first.finish()
	middle.finish()
	require.Equal(t, ids(1, 3*runs), whole.rest(t))
	require.Len(t, middleOnly.rest(t), 3)
	require.Equal(t, ids(3*runs-1, 3*runs), s.open(first.path("?after_event_id=8998")).rest(t))
}
