package webtrigger_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// A connection whose cursor lies before what was purged is told so, and how to
// go on.
func TestStreamPurgedBeforeItBegins(t *testing.T) {
	t.Parallel()
	store := memstore.New(nil)
	s := newSite(t, siteConfig{store: store, window: [3]int{3, 1 << 20, 2}})
	f := newFeed(t, store, 0) // 1, 2
	f.append(4)               // 3 to 6
	other := newFeed(t, store, f.run.ConversationID)
	other.append(2) // 7 to 10
	f.finish()      // 11
	other.finish()  // 12
	_, err := store.PurgeEvents(t.Context(), f.run.ID, 5)
	require.NoError(t, err)

	for _, c := range []struct {
		path, header string
		purgedTo     int64 // 0: not a 410
		want         []int64
	}{
		{f.path(""), "", 5, nil},
		{f.path(""), "4", 5, nil},
		{f.path("?after_event_id=4"), "", 5, nil},
		{f.path("?after_event_id=1"), "4", 5, nil},
		{f.path("?after_event_id=1"), "5", 0, ids(6, 12)},
		{f.path("?after_event_id=5"), "2", 0, ids(6, 12)},
		{f.path("?after_event_id=12"), "", 0, nil}, // 204
		{f.ofRun(""), "", 5, nil},
		{f.ofRun("&after_sequence=4"), "", 5, nil},
		{f.ofRun("&after_sequence=5"), "", 0, []int64{6, 11}},
		{f.ofRun("&after_sequence=1"), "5", 0, []int64{6, 11}},
		{other.ofRun(""), "", 0, append(ids(7, 10), 12)}, // nothing of this run was purged
	} {
		name := c.path + " " + c.header
		r := s.open(c.path, "Last-Event-ID", c.header)
		if c.purgedTo == 0 {
			if c.want == nil {
				require.Equal(t, 204, r.resp.StatusCode, name)
				continue
			}
			require.Equal(t, 200, r.resp.StatusCode, name)
			require.Equal(t, c.want, r.rest(t), name)
			continue
		}
		require.Equal(t, 410, r.resp.StatusCode, name)
		require.Equal(t, "application/problem+json", r.resp.Header.Get("Content-Type"), name)
		var problem struct {
			Code     string `json:"code"`
			PurgedTo int64  `json:"purged_to"`
		}
		require.NoError(t, json.NewDecoder(r.resp.Body).Decode(&problem), name)
		require.Equal(t, "events_purged", problem.Code, name)
		require.Equal(t, c.purgedTo, problem.PurgedTo, name)
	}
	require.Zero(t, s.svc.Tails())
}

// A reader that is slower than retention meets a gap frame once, then what still
// stands, also where that lies inside the range.
func TestStreamGapInItsMiddle(t *testing.T) {
	t.Parallel()
	for _, of := range []string{"run", "conversation"} {
		synctest.Test(t, func(t *testing.T) {
			store := memstore.New(nil)
			s := newSite(t, siteConfig{store: store, window: [3]int{3, 1 << 20, 2}})
			f := newFeed(t, store, 0)
			f.appendPayload(20, `{"text":"`+strings.Repeat("x", 10_000)+`"}`) // 3 to 22
			f.finish()                                                        // 23
			path := f.path("")
			if of == "run" {
				path = f.ofRun("")
			}
			slow := s.open(path)
			require.Equal(t, ids(1, 2), slow.take(t, 2))
			synctest.Wait() // the next page is read and stalls
			_, err := store.PurgeEvents(t.Context(), f.run.ID, 15)
			require.NoError(t, err)
			n := int64(2)
			var gap *gapError
			for gap == nil {
				e, err := slow.event()
				if err != nil {
					require.ErrorAs(t, err, &gap)
					break
				}
				n++
				require.Equal(t, n, e.ID)
			}
			require.Less(t, n, int64(15))
			require.Equal(t, gapError{f.run.ConversationID, n + 1, 15}, *gap)
			require.Equal(t, ids(16, 23), slow.rest(t), "one gap frame, not one a page")
		})
	}
}

// Events that still stand are shown, also where they lie inside the range that
// the reader was told of.
func TestStreamGapBetweenEventsThatStand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(nil)
		s := newSite(t, siteConfig{store: store, window: [3]int{3, 1 << 20, 2}})
		gone := newFeed(t, store, 0)                       // 1, 2
		kept := newFeed(t, store, gone.run.ConversationID) // 3, 4
		for range 8 {                                      // 5 to 20
			gone.appendPayload(1, `{"text":"`+strings.Repeat("x", 10_000)+`"}`)
			kept.append(1)
		}
		gone.finish() // 21
		slow := s.open(kept.path(""))
		require.Equal(t, ids(1, 4), slow.take(t, 4))
		synctest.Wait() // 5 and 6 are read, and stall
		_, err := store.PurgeEvents(t.Context(), gone.run.ID, 100)
		require.NoError(t, err)
		require.Equal(t, ids(5, 6), slow.take(t, 2))
		from, to := slow.gap(t)
		require.Equal(t, []int64{7, 21}, []int64{from, to})
		require.Equal(t, []int64{8, 10, 12, 14, 16, 18, 20}, slow.take(t, 7), "told once, not once a page")
		kept.finish()
		require.Equal(t, ids(22, 22), slow.rest(t))
	})
}

// Retention overtakes a tail: everyone who follows it meets the gap.
func TestTailMeetsAGap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{Store: memstore.New(nil), deaf: true}
		s := newSite(t, siteConfig{store: store})
		f := newFeed(t, store, 0)
		a, b := s.open(f.path("?after_event_id=2")), s.open(f.ofRun("&after_event_id=2"))
		for range 3 { // until the polls are slow
			a.beats(t, 1)
			b.beats(t, 1)
		}
		synctest.Wait()
		f.append(10) // nobody hears of it before the next poll
		_, err := store.Store.(*memstore.Store).PurgeEvents(t.Context(), f.run.ID, 8)
		require.NoError(t, err)
		for _, r := range []*reader{a, b} {
			from, to := r.gap(t)
			require.Equal(t, []int64{3, 8}, []int64{from, to})
			require.Equal(t, ids(9, 12), r.take(t, 4))
		}
		f.finish()
		require.Equal(t, ids(13, 13), a.rest(t))
		require.Equal(t, ids(13, 13), b.rest(t))
	})
}

// forgetful is a store from which everything was purged.
type forgetful struct {
	webtrigger.Store
	gone atomic.Bool
}

func (s *forgetful) Events(ctx context.Context, query webtrigger.EventQuery) (webtrigger.EventPage, error) {
	if s.gone.Load() {
		return webtrigger.EventPage{}, fmt.Errorf("read events: %w", webtrigger.ErrNotFound)
	}
	return s.Store.Events(ctx, query)
}

func (s *forgetful) LastEventIDs(ctx context.Context, ids []int64) (map[int64]int64, error) {
	if s.gone.Load() {
		return nil, nil
	}
	return s.Store.LastEventIDs(ctx, ids)
}

// The streams of a conversation that exists no more end.
func TestStreamEndsWithItsConversation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &forgetful{Store: memstore.New(nil)}
		s := newSite(t, siteConfig{store: store})
		f := newFeed(t, store, 0)
		r := s.open(f.path(""))
		require.Equal(t, ids(1, 2), r.take(t, 2))
		r.beats(t, 1)
		start := time.Now()
		store.gone.Store(true)
		require.Empty(t, r.rest(t))
		require.LessOrEqual(t, time.Since(start), 2*time.Second)
		require.Equal(t, 404, s.open(f.path("")).resp.StatusCode)
	})
}
