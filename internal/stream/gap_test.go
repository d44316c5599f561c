package stream_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/ssetest"
)

// A reader that is slower than retention meets a gap frame once, then what still
// stands, also where that lies inside the range.
func TestStream_purgedWhileOpen_sendsGapFrame(t *testing.T) {
	t.Parallel()
	for _, of := range []string{"run", "conversation"} {
		synctest.Test(t, func(t *testing.T) {
			source := newFake()
			s := newSite(t, siteConfig{source: source, window: [3]int{3, 1 << 20, 2}})
			f := newFeed(t, source, 0)
			f.appendPayload(20, `{"text":"`+strings.Repeat("x", 10_000)+`"}`) // 3 to 22
			f.finish()                                                        // 23
			path := f.path("")
			if of == "run" {
				path = f.ofRun("")
			}
			slow := s.Open(path)
			require.Equal(t, ssetest.IDs(1, 2), slow.Take(t, 2))
			synctest.Wait() // the next page is read and stalls
			source.purge(f.run.id, 15)
			n := int64(2)
			var gap *ssetest.GapError
			for gap == nil {
				e, err := slow.Event()
				if err != nil {
					require.ErrorAs(t, err, &gap)
					break
				}
				n++
				require.Equal(t, n, e.ID)
			}
			require.Less(t, n, int64(15))
			require.Equal(t, ssetest.GapError{ConversationID: f.run.conversationID, FromID: n + 1, ToID: 15}, *gap)
			require.Equal(t, ssetest.IDs(16, 23), slow.Rest(t), "one gap frame, not one a page")
		})
	}
}

// Events that still stand are shown, also where they lie inside the range that
// of the gap frame.
func TestStreamGapBetweenEventsThatStand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := newFake()
		s := newSite(t, siteConfig{source: source, window: [3]int{3, 1 << 20, 2}})
		gone := newFeed(t, source, 0)                       // 1, 2
		kept := newFeed(t, source, gone.run.conversationID) // 3, 4
		for range 8 {                                       // 5 to 20
			gone.appendPayload(1, `{"text":"`+strings.Repeat("x", 10_000)+`"}`)
			kept.append(1)
		}
		gone.finish() // 21
		slow := s.Open(kept.path(""))
		require.Equal(t, ssetest.IDs(1, 4), slow.Take(t, 4))
		synctest.Wait() // 5 and 6 are read, and stall
		source.purge(gone.run.id, 100)
		require.Equal(t, ssetest.IDs(5, 6), slow.Take(t, 2))
		from, to := slow.Gap(t)
		require.Equal(t, []int64{7, 21}, []int64{from, to})
		require.Equal(t, []int64{8, 10, 12, 14, 16, 18, 20}, slow.Take(t, 7), "the gap must be reported once, not once per page")
		kept.finish()
		require.Equal(t, ssetest.IDs(22, 22), slow.Rest(t))
	})
}

// Retention overtakes a tail: everyone who follows it meets the gap.
func TestTailMeetsAGap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := newFake()
		source.deaf = true
		s := newSite(t, siteConfig{source: source})
		f := newFeed(t, source, 0)
		a, b := s.Open(f.path("?after_event_id=2")), s.Open(f.ofRun("&after_event_id=2"))
		for range 3 { // until the polls are slow
			a.Beats(t, 1)
			b.Beats(t, 1)
		}
		synctest.Wait()
		f.append(10) // no hint: the next poll finds it
		source.purge(f.run.id, 8)
		for _, r := range []*ssetest.Reader{a, b} {
			from, to := r.Gap(t)
			require.Equal(t, []int64{3, 8}, []int64{from, to})
			require.Equal(t, ssetest.IDs(9, 12), r.Take(t, 4))
		}
		f.finish()
		require.Equal(t, ssetest.IDs(13, 13), a.Rest(t))
		require.Equal(t, ssetest.IDs(13, 13), b.Rest(t))
	})
}

// The streams of a conversation that exists no more end.
func TestStreamEndsWithItsConversation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := newFake()
		s := newSite(t, siteConfig{source: source})
		f := newFeed(t, source, 0)
		r := s.Open(f.path(""))
		require.Equal(t, ssetest.IDs(1, 2), r.Take(t, 2))
		r.Beats(t, 1)
		start := time.Now()
		source.gone.Store(true)
		require.Empty(t, r.Rest(t))
		require.LessOrEqual(t, time.Since(start), 2*time.Second)
		require.Equal(t, 404, s.Open(f.path("")).Response.StatusCode)
	})
}
