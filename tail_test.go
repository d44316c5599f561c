package webtrigger_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// faulty is a store whose reading side goes wrong as the test likes.
type faulty struct {
	webtrigger.Store
	onEvents  func(call int) // after the read
	deaf      bool           // Watch notifies of nothing
	vague     bool           // hints hold no events
	garble    func([]webtrigger.Event) []webtrigger.Event
	blind     bool         // LastEventIDs knows nothing
	away      atomic.Bool  // Events fails
	awayAfter atomic.Int64 // Events fails after this cursor; 0: no such
	calls     atomic.Int64
	polls     atomic.Int64
	watches   atomic.Int64 // under way
	notify    atomic.Value // what Watch was given last

	brokenAfter atomic.Int64 // Events fails for good after this cursor; 0: no such
}

func (s *faulty) Events(ctx context.Context, query webtrigger.EventQuery) (webtrigger.EventPage, error) {
	if after := s.awayAfter.Load(); s.away.Load() || after > 0 && query.AfterID == after {
		return webtrigger.EventPage{}, fmt.Errorf("read events: %w", webtrigger.ErrUnavailable)
	}
	if after := s.brokenAfter.Load(); after > 0 && query.AfterID == after {
		return webtrigger.EventPage{}, errors.New("broken")
	}
	page, err := s.Store.Events(ctx, query)
	if call := int(s.calls.Add(1)); s.onEvents != nil {
		s.onEvents(call)
	}
	return page, err
}

func (s *faulty) LastEventIDs(ctx context.Context, ids []int64) (map[int64]int64, error) {
	s.polls.Add(1)
	if s.blind {
		return nil, errors.New("blind")
	}
	return s.Store.LastEventIDs(ctx, ids)
}

func (s *faulty) Watch(ctx context.Context, notify func(webtrigger.Hint)) error {
	s.watches.Add(1)
	defer s.watches.Add(-1)
	if s.deaf {
		<-ctx.Done()
		return nil
	}
	s.notify.Store(notify)
	return s.Store.Watch(ctx, func(hint webtrigger.Hint) {
		if s.vague {
			for _, e := range hint.Events {
				hint.Conversations = append(hint.Conversations, e.ConversationID)
			}
			hint.Events = nil
		}
		if s.garble != nil && len(hint.Events) > 0 {
			hint.Events = s.garble(hint.Events)
		}
		notify(hint)
	})
}

// Whatever moment an event comes at, a hint for it is not lost: not between the
// subscriber's read and the anchoring, and not during a refresh. There is no
// poll here to make up for it.
func TestTailLosesNoHint(t *testing.T) {
	t.Parallel()
	for call := 0; call <= 5; call++ { // 0: a hint with the event during the first read
		for _, query := range []string{"", "run"} {
			synctest.Test(t, func(t *testing.T) {
				call, vague := max(call, 1), call > 0
				store := &faulty{Store: memstore.New(nil), blind: true, vague: vague}
				s := newSite(t, siteConfig{store: store})
				f := newFeed(t, store, 0)
				store.onEvents = func(n int) {
					if n == call {
						synctest.Wait() // until Watch listens
						f.append(1)
						synctest.Wait() // until the hint has arrived
					}
				}
				var r *reader
				path := f.path("")
				if query == "run" {
					path = f.ofRun("")
				}
				start, last := time.Now(), int64(0)
				catchUp := func() {
					for {
						end, err := store.Store.LastEventIDs(t.Context(), []int64{f.run.ConversationID})
						require.NoError(t, err)
						if last == end[f.run.ConversationID] {
							return
						}
						e, err := r.next() // not a heartbeat
						require.NoError(t, err)
						last++
						require.Equal(t, last, e.ID)
					}
				}
				r = s.open(path)
				synctest.Wait()
				catchUp()
				for range 6 {
					f.append(1)
					catchUp()
				}
				f.finish()
				require.Equal(t, ids(10, 10), r.rest(t))
				require.Zero(t, time.Since(start))
			})
		}
	}
}

// Events that come with a hint are not read again, and look like those that are.
// Where they do not follow what the tail has, it reads.
func TestTailTakesInWhatItIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{Store: memstore.New(nil), blind: true}
		s := newSite(t, siteConfig{store: store})
		f, other := newFeed(t, store, 0), newFeed(t, store, 0)
		r := s.open(f.path(""))
		require.Equal(t, ids(1, 2), r.take(t, 2))
		synctest.Wait()
		reads := store.calls.Load()
		var told []shown
		for n := range 5 {
			f.append(n + 1)
			other.append(1)
			for range n + 1 {
				e, err := r.next()
				require.NoError(t, err)
				told = append(told, e)
			}
		}
		require.Equal(t, reads, store.calls.Load())

		replay := s.open(f.path("?after_event_id=2"))
		for _, e := range told {
			read, err := replay.next()
			require.NoError(t, err)
			require.Equal(t, read, e)
		}

		synctest.Wait()
		store.garble = func(events []webtrigger.Event) []webtrigger.Event { return events[1:] }
		f.append(2)
		require.Equal(t, ids(18, 19), r.take(t, 2))
		synctest.Wait()
		store.garble = func(events []webtrigger.Event) []webtrigger.Event { return append(slices.Clone(events), events...) }
		f.append(2)
		f.append(1)
		require.Equal(t, ids(20, 22), r.take(t, 3))

		synctest.Wait()
		store.garble = nil
		behind := s.open(f.path("?after_event_id=22"))
		f.appendPayload(1, `{"x":"`+strings.Repeat("x", 60<<10)+`"}`) // behind takes its time with it
		require.Equal(t, ids(23, 23), r.take(t, 1))
		store.onEvents = func(int) { // a read that found nothing, and now is told of something
			store.onEvents = nil
			f.append(1)
			<-time.After(time.Millisecond)
		}
		store.notify.Load().(func(webtrigger.Hint))(webtrigger.Hint{Conversations: []int64{f.run.ConversationID}})
		<-time.After(time.Second)
		f.append(1)
		require.Equal(t, ids(24, 25), r.take(t, 2))
		f.finish()
		require.Equal(t, ids(26, 26), r.rest(t))
		require.Equal(t, ids(23, 26), behind.rest(t))
	})
}

// A store may leave the key of the run out of what it tells. The tail knows it from
// the run's events that it has read, and reads the first one of any other run.
func TestTailKnowsTheRunOfWhatItIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{Store: memstore.New(nil), blind: true}
		store.garble = func(events []webtrigger.Event) []webtrigger.Event {
			events = slices.Clone(events)
			for i := range events {
				events[i].RunKey = ""
			}
			return events
		}
		s := newSite(t, siteConfig{store: store})
		one := newFeed(t, store, 0)
		two := newFeed(t, store, one.run.ConversationID)
		r := s.open(one.path("?after_event_id=4"))
		synctest.Wait()
		for _, f := range []*feed{one, two, one} {
			for n := range 3 {
				reads := store.calls.Load()
				f.append(1)
				e, err := r.next()
				require.NoError(t, err)
				require.Equal(t, f.run.Key, e.RunKey)
				synctest.Wait()
				require.Equal(t, n == 0, store.calls.Load() > reads, "the first is read")
			}
		}
		one.finish()
		two.finish()
		require.Equal(t, ids(14, 15), r.rest(t))
	})
}

// With every hint lost the poll delivers.
func TestTailPollsWhereHintsAreLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{Store: memstore.New(nil), deaf: true}
		s := newSite(t, siteConfig{store: store})
		f, f2 := newFeed(t, store, 0), newFeed(t, store, 0)
		r, r2 := s.open(f.path("?after_event_id=2")), s.open(f2.path("?after_event_id=2"))
		watch := func(seconds int) {
			for range seconds / 10 {
				r.beats(t, 1)
				r2.beats(t, 1)
			}
			synctest.Wait()
		}
		watch(30) // the polls have settled
		polls := store.polls.Load()
		watch(20)
		require.EqualValues(t, 10, store.polls.Load()-polls, "one query for all conversations")
		for id := int64(3); id < 8; id++ {
			start := time.Now()
			f.append(1)
			f2.append(1)
			require.Equal(t, ids(id, id), r.take(t, 1))
			require.Equal(t, ids(id, id), r2.take(t, 1))
			require.LessOrEqual(t, time.Since(start), 2*time.Second)
		}
		f.finish()
		require.Equal(t, ids(8, 8), r.rest(t))
	})
}

// Watch cannot tell when it listens: what comes before is found by an early
// poll.
func TestTailPollsSoonAtFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{Store: memstore.New(nil), deaf: true}
		s := newSite(t, siteConfig{store: store})
		f := newFeed(t, store, 0)
		r := s.open(f.path("?after_event_id=2"))
		start := time.Now()
		f.append(1)
		require.Equal(t, ids(3, 3), r.take(t, 1))
		require.LessOrEqual(t, time.Since(start), 50*time.Millisecond)
	})
}

// A subscriber whose own read finds the log longer than the tail knows tells the
// tail, and so all others.
func TestTailHearsFromNewcomers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, siteConfig{store: &faulty{Store: memstore.New(nil), deaf: true, blind: true}})
		f := newFeed(t, s.store, 0)
		old := s.open(f.path(""))
		require.Equal(t, ids(1, 2), old.take(t, 2))
		f.append(1)
		require.Equal(t, ids(3, 3), s.open(f.path("?after_event_id=2")).take(t, 1))
		start := time.Now()
		require.Equal(t, ids(3, 3), old.take(t, 1))
		require.Zero(t, time.Since(start))
	})
}

// What a tail says about the end of the runs holds for its own head only: a
// newcomer has read on, and a run's end is not the conversation's.
func TestTailEndsNobodyTooSoon(t *testing.T) {
	t.Parallel()
	t.Run("the tail is behind", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			store := &faulty{Store: memstore.New(nil), deaf: true}
			s := newSite(t, siteConfig{store: store})
			f := newFeed(t, store, 0)
			f.appendPayload(1, `{"text":"`+strings.Repeat("x", 200_000)+`"}`)
			f.finish()
			stalled := s.open(f.path("")) // keeps the tail, which knows that all has ended
			synctest.Wait()
			again := newFeed(t, store, f.run.ConversationID)
			store.onEvents = func(call int) {
				if call == 3 { // the tail's own read, slower than the newcomer
					time.Sleep(time.Second)
				}
			}
			r := s.open(f.path("?after_event_id=4"))
			require.Equal(t, ids(5, 6), r.take(t, 2))
			again.finish()
			require.Equal(t, ids(7, 7), r.rest(t))
			stalled.close()
		})
	})
	t.Run("a run has ended", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			store := &faulty{Store: memstore.New(nil)}
			s := newSite(t, siteConfig{store: store})
			ended := newFeed(t, store, 0)
			running := newFeed(t, store, ended.run.ConversationID)
			ended.finish()
			store.onEvents = func(call int) {
				if call == 1 { // between the read and the anchoring
					require.Equal(t, []int64{1, 2, 5}, s.open(ended.ofRun("")).rest(t))
				}
			}
			r := s.open(ended.path(""))
			require.Equal(t, ids(1, 5), r.take(t, 5))
			synctest.Wait()
			running.finish()
			require.Equal(t, ids(6, 6), r.rest(t))
		})
	})
}

func TestTailSurvivesStoreErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{Store: memstore.New(nil)}
		s := newSite(t, siteConfig{store: store, window: [3]int{4, 1 << 20, 4}})
		f := newFeed(t, store, 0)
		r := s.open(f.path("?after_event_id=2"))
		r.beats(t, 6)
		store.away.Store(true)
		f.append(1)
		synctest.Wait()
		store.away.Store(false)
		start := time.Now()
		require.Equal(t, ids(3, 3), r.take(t, 1), "the poll tries again")
		require.LessOrEqual(t, time.Since(start), 2*time.Second)

		// One who reads by itself waits, and goes on where it was.
		f.append(9)
		synctest.Wait() // until the tail has them, and has let 5 go
		store.awayAfter.Store(4)
		late := s.open(f.path(""))
		require.Equal(t, 200, late.resp.StatusCode)
		require.Equal(t, ids(1, 4), late.take(t, 4))
		late.beats(t, 3)
		store.awayAfter.Store(0)
		start = time.Now()
		require.Equal(t, ids(5, 12), late.take(t, 8))
		require.LessOrEqual(t, time.Since(start), time.Second)
		store.away.Store(true)
		require.Equal(t, 503, s.open(f.path("")).resp.StatusCode)

		// What is no absence ends the stream.
		store.away.Store(false)
		store.brokenAfter.Store(4)
		broken := s.open(f.path(""))
		require.Equal(t, ids(1, 4), broken.rest(t))
	})
}

// A subscriber who was left behind by the window reads on by itself, and sees
// everything once.
func TestTailLetsGoOfSlowSubscribers(t *testing.T) {
	t.Parallel()
	for name, window := range map[string][3]int{
		"frames": {8, 1 << 20, 4}, "bytes": {512, 2000, 7}, "nothing fits": {512, 1, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, siteConfig{window: window})
			f := newFeed(t, s.store, 0)
			slow, quick := s.open(f.path("")), s.open(f.path(""))
			require.Equal(t, ids(1, 2), quick.take(t, 2), name)
			synctest.Wait()
			for id := int64(3); id < 103; id++ {
				f.append(1)
				require.Equal(t, ids(id, id), quick.take(t, 1), name)
			}
			require.Equal(t, ids(1, 50), slow.take(t, 50), name)
			f.append(100)
			synctest.Wait()
			f.finish()
			require.Equal(t, ids(103, 203), quick.rest(t), name)
			require.Equal(t, ids(51, 203), slow.rest(t), name)
		})
	}
}

// Subscribers arrive at random moments while events of two runs are appended,
// with random cursors: each sees exactly its suffix of the first run.
func TestTailHasNoHole(t *testing.T) {
	t.Parallel()
	const subscribers, events = 200, 1000
	s := newSite(t, siteConfig{window: [3]int{64, 1 << 20, 50}})
	f := newFeed(t, s.store, 0)
	other := newFeed(t, s.store, f.run.ConversationID)
	arrive, arrived := make([][]chan struct{}, events), make(chan struct{})
	var all sync.WaitGroup
	for range subscribers {
		at, now := rand.IntN(events), make(chan struct{})
		arrive[at] = append(arrive[at], now)
		cursor := rand.Int64N(int64(at) + 1)
		all.Go(func() {
			<-now
			r, err := s.tryOpen(f.ofRun("&after_sequence=" + strconv.FormatInt(cursor, 10)))
			arrived <- struct{}{}
			if err != nil {
				t.Error(err)
				return
			}
			next := cursor + 1
			for ; ; next++ {
				_, data, err := r.frame()
				for errors.Is(err, errHeartbeat) {
					_, data, err = r.frame()
				}
				if errors.Is(err, io.EOF) {
					break
				}
				mine := `"run_id":` + strconv.FormatInt(f.run.ID, 10) + ","
				if err != nil || !strings.Contains(data, mine) || !strings.Contains(data, `"sequence":`+strconv.FormatInt(next, 10)+",") {
					t.Errorf("want sequence %d, got %s, %v; cursor %d", next, data, err, cursor)
					return
				}
			}
			if next != 2+events+1+1 {
				t.Errorf("ended before sequence %d; cursor %d", next, cursor)
			}
		})
	}
	under := 0
	for i := range events {
		for _, now := range arrive[i] {
			close(now)
			under++
		}
		f.append(1)
		if i%10 == 0 {
			other.append(1)
		}
		for under > 3 { // so that some arrive while events are appended
			<-arrived
			under--
		}
	}
	for ; under > 0; under-- {
		<-arrived
	}
	f.finish()
	all.Wait()
}

// Nothing runs while nobody watches.
func TestHubIsGoneAfterTheLastSubscriber(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{Store: memstore.New(nil)}
		s := newSite(t, siteConfig{store: store})
		f, f2 := newFeed(t, store, 0), newFeed(t, store, 0)
		for range 3 {
			require.Zero(t, store.watches.Load())
			a, b, c := s.open(f.path("")), s.open(f.path("")), s.open(f2.path(""))
			synctest.Wait()
			require.EqualValues(t, 1, store.watches.Load())
			require.Equal(t, 2, s.svc.Tails())
			a.close()
			b.close()
			synctest.Wait()
			require.EqualValues(t, 1, store.watches.Load())
			require.Equal(t, 1, s.svc.Tails())
			c.close()
			synctest.Wait()
			require.Zero(t, s.svc.Tails())
			require.Zero(t, store.watches.Load())
			polls := store.polls.Load()
			time.Sleep(time.Minute)
			require.Equal(t, polls, store.polls.Load())
		}
	})
}
