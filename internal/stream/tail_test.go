package stream_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/ssetest"
	"github.com/webtrigger-go/webtrigger/internal/stream"
)

// Whatever moment an event comes at, a hint for it is not lost: not between the
// subscriber's read and the anchoring, and not during a refresh. There is no
// poll here to make up for it.
func TestTailLosesNoHint(t *testing.T) {
	t.Parallel()
	for call := 0; call <= 5; call++ { // 0: a hint with the event during the first read
		for _, query := range []string{"", "run"} {
			synctest.Test(t, func(t *testing.T) {
				call, vague := max(call, 1), call > 0
				source := newFake()
				source.blind = true
				source.vague = vague
				s := newSite(t, siteConfig{source: source})
				f := newFeed(t, source, 0)
				source.onEvents = func(n int) {
					if n == call {
						synctest.Wait() // until Watch listens
						f.append(1)
						synctest.Wait() // until the hint has arrived
					}
				}
				var r *ssetest.Reader
				path := f.path("")
				if query == "run" {
					path = f.ofRun("")
				}
				start, last := time.Now(), int64(0)
				catchUp := func() {
					for {
						if last == source.last(f.run.conversationID) {
							return
						}
						e, err := r.Next() // not a heartbeat
						require.NoError(t, err)
						last++
						require.Equal(t, last, e.ID)
					}
				}
				r = s.Open(path)
				synctest.Wait()
				catchUp()
				for range 6 {
					f.append(1)
					catchUp()
				}
				f.finish()
				require.Equal(t, ssetest.IDs(10, 10), r.Rest(t))
				require.Zero(t, time.Since(start))
			})
		}
	}
}

// The tail does not read events again that it received with a hint. Their frames equal
// those of events that it reads. If they do not follow its head, it reads the log.
func TestTail_hintWithEvents_sendsThemWithoutARead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := newFake()
		source.blind = true
		s := newSite(t, siteConfig{source: source})
		f, other := newFeed(t, source, 0), newFeed(t, source, 0)
		r := s.Open(f.path(""))
		require.Equal(t, ssetest.IDs(1, 2), r.Take(t, 2))
		synctest.Wait()
		reads := source.calls.Load()
		var told []ssetest.Event
		for n := range 5 {
			f.append(n + 1)
			other.append(1)
			for range n + 1 {
				e, err := r.Next()
				require.NoError(t, err)
				told = append(told, e)
			}
		}
		require.Equal(t, reads, source.calls.Load())

		replay := s.Open(f.path("?after_event_id=2"))
		for _, e := range told {
			read, err := replay.Next()
			require.NoError(t, err)
			require.Equal(t, read, e)
		}

		synctest.Wait()
		source.garble = func(events []stream.Event) []stream.Event { return events[1:] }
		f.append(2)
		require.Equal(t, ssetest.IDs(18, 19), r.Take(t, 2))
		synctest.Wait()
		source.garble = func(events []stream.Event) []stream.Event { return append(slices.Clone(events), events...) }
		f.append(2)
		f.append(1)
		require.Equal(t, ssetest.IDs(20, 22), r.Take(t, 3))

		synctest.Wait()
		source.garble = nil
		behind := s.Open(f.path("?after_event_id=22"))
		f.appendPayload(1, `{"x":"`+strings.Repeat("x", 60<<10)+`"}`) // behind takes its time with it
		require.Equal(t, ssetest.IDs(23, 23), r.Take(t, 1))
		source.onEvents = func(int) { // a read that found nothing, and then gets a hint
			source.onEvents = nil
			f.append(1)
			<-time.After(time.Millisecond)
		}
		source.notify(stream.Hint{Conversations: []int64{f.run.conversationID}})
		<-time.After(time.Second)
		f.append(1)
		require.Equal(t, ssetest.IDs(24, 25), r.Take(t, 2))
		f.finish()
		require.Equal(t, ssetest.IDs(26, 26), r.Rest(t))
		require.Equal(t, ssetest.IDs(23, 26), behind.Rest(t))
	})
}

// A store may omit the run key in a hint. The tail takes it from events of the run that
// it has read. It reads the first event of any other run.
func TestTail_hintWithoutRunKey_usesKeyOfEarlierEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := newFake()
		source.blind = true
		source.garble = func(events []stream.Event) []stream.Event {
			events = slices.Clone(events)
			for i := range events {
				events[i].RunKey = ""
			}
			return events
		}
		s := newSite(t, siteConfig{source: source})
		one := newFeed(t, source, 0)
		two := newFeed(t, source, one.run.conversationID)
		r := s.Open(one.path("?after_event_id=4"))
		synctest.Wait()
		for _, f := range []*feed{one, two, one} {
			for n := range 3 {
				reads := source.calls.Load()
				f.append(1)
				e, err := r.Next()
				require.NoError(t, err)
				require.Equal(t, f.run.key, e.RunKey)
				synctest.Wait()
				require.Equal(t, n == 0, source.calls.Load() > reads, "the first is read")
			}
		}
		one.finish()
		two.finish()
		require.Equal(t, ssetest.IDs(14, 15), r.Rest(t))
	})
}

// With every hint lost the poll delivers.
func TestTailPollsWhereHintsAreLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := newFake()
		source.deaf = true
		s := newSite(t, siteConfig{source: source})
		f, f2 := newFeed(t, source, 0), newFeed(t, source, 0)
		r, r2 := s.Open(f.path("?after_event_id=2")), s.Open(f2.path("?after_event_id=2"))
		watch := func(seconds int) {
			for range seconds / 10 {
				r.Beats(t, 1)
				r2.Beats(t, 1)
			}
			synctest.Wait()
		}
		watch(30) // the polls have settled
		polls := source.polls.Load()
		watch(20)
		require.EqualValues(t, 10, source.polls.Load()-polls, "one query for all conversations")
		for id := int64(3); id < 8; id++ {
			start := time.Now()
			f.append(1)
			f2.append(1)
			require.Equal(t, ssetest.IDs(id, id), r.Take(t, 1))
			require.Equal(t, ssetest.IDs(id, id), r2.Take(t, 1))
			require.LessOrEqual(t, time.Since(start), 2*time.Second)
		}
		f.finish()
		require.Equal(t, ssetest.IDs(8, 8), r.Rest(t))
	})
}

// Watch does not report when it begins to listen. An early poll finds earlier events.
func TestTail_firstPolls_comeSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := newFake()
		source.deaf = true
		s := newSite(t, siteConfig{source: source})
		f := newFeed(t, source, 0)
		r := s.Open(f.path("?after_event_id=2"))
		start := time.Now()
		f.append(1)
		require.Equal(t, ssetest.IDs(3, 3), r.Take(t, 1))
		require.LessOrEqual(t, time.Since(start), 50*time.Millisecond)
	})
}

// If a subscriber's own read finds events after the tail's head, it reports them to the
// tail, and so to all other subscribers.
func TestTail_newSubscriberReadsFurther_wakesOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := newFake()
		source.deaf, source.blind = true, true
		s := newSite(t, siteConfig{source: source})
		f := newFeed(t, s.source, 0)
		old := s.Open(f.path(""))
		require.Equal(t, ssetest.IDs(1, 2), old.Take(t, 2))
		f.append(1)
		require.Equal(t, ssetest.IDs(3, 3), s.Open(f.path("?after_event_id=2")).Take(t, 1))
		start := time.Now()
		require.Equal(t, ssetest.IDs(3, 3), old.Take(t, 1))
		require.Zero(t, time.Since(start))
	})
}

// The end of the runs in a tail holds only for its own head. A new subscriber may have
// read further, and the end of a run is not the end of the conversation.
func TestTail_runEnded_endsNoSubscriberTooSoon(t *testing.T) {
	t.Parallel()
	t.Run("the tail is behind", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			source := newFake()
			source.deaf = true
			s := newSite(t, siteConfig{source: source})
			f := newFeed(t, source, 0)
			f.appendPayload(1, `{"text":"`+strings.Repeat("x", 200_000)+`"}`)
			f.finish()
			stalled := s.Open(f.path("")) // keeps the tail, which has the end of all runs
			synctest.Wait()
			again := newFeed(t, source, f.run.conversationID)
			source.onEvents = func(call int) {
				if call == 3 { // the tail's own read, slower than the newcomer
					time.Sleep(time.Second)
				}
			}
			r := s.Open(f.path("?after_event_id=4"))
			require.Equal(t, ssetest.IDs(5, 6), r.Take(t, 2))
			again.finish()
			require.Equal(t, ssetest.IDs(7, 7), r.Rest(t))
			stalled.Close()
		})
	})
	t.Run("a run has ended", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			source := newFake()
			s := newSite(t, siteConfig{source: source})
			ended := newFeed(t, source, 0)
			running := newFeed(t, source, ended.run.conversationID)
			ended.finish()
			source.onEvents = func(call int) {
				if call == 1 { // between the read and the anchoring
					require.Equal(t, []int64{1, 2, 5}, s.Open(ended.ofRun("")).Rest(t))
				}
			}
			r := s.Open(ended.path(""))
			require.Equal(t, ssetest.IDs(1, 5), r.Take(t, 5))
			synctest.Wait()
			running.finish()
			require.Equal(t, ssetest.IDs(6, 6), r.Rest(t))
		})
	})
}

func TestTailSurvivesStoreErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := newFake()
		s := newSite(t, siteConfig{source: source, window: [3]int{4, 1 << 20, 4}})
		f := newFeed(t, source, 0)
		r := s.Open(f.path("?after_event_id=2"))
		r.Beats(t, 6)
		source.unavailable.Store(true)
		f.append(1)
		synctest.Wait()
		source.unavailable.Store(false)
		start := time.Now()
		require.Equal(t, ssetest.IDs(3, 3), r.Take(t, 1), "the poll tries again")
		require.LessOrEqual(t, time.Since(start), 2*time.Second)

		// A subscriber that reads on its own waits, and continues at its position.
		f.append(9)
		synctest.Wait() // until the tail has them, and has let 5 go
		source.unavailableAfter.Store(4)
		late := s.Open(f.path(""))
		require.Equal(t, 200, late.Response.StatusCode)
		require.Equal(t, ssetest.IDs(1, 4), late.Take(t, 4))
		late.Beats(t, 3)
		source.unavailableAfter.Store(0)
		start = time.Now()
		require.Equal(t, ssetest.IDs(5, 12), late.Take(t, 8))
		require.LessOrEqual(t, time.Since(start), time.Second)
		source.unavailable.Store(true)
		require.Equal(t, 503, s.Open(f.path("")).Response.StatusCode)

		// Any other error ends the stream.
		source.unavailable.Store(false)
		source.brokenAfter.Store(4)
		broken := s.Open(f.path(""))
		require.Equal(t, ssetest.IDs(1, 4), broken.Rest(t))
	})
}

// A subscriber who was left behind by the window reads on by itself, and sees
// everything once.
func TestTail_slowSubscriber_readsOnItsOwn(t *testing.T) {
	t.Parallel()
	for name, window := range map[string][3]int{
		"frames": {8, 1 << 20, 4}, "bytes": {512, 2000, 7}, "nothing fits": {512, 1, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, siteConfig{window: window})
			f := newFeed(t, s.source, 0)
			slow, quick := s.Open(f.path("")), s.Open(f.path(""))
			require.Equal(t, ssetest.IDs(1, 2), quick.Take(t, 2), name)
			synctest.Wait()
			for id := int64(3); id < 103; id++ {
				f.append(1)
				require.Equal(t, ssetest.IDs(id, id), quick.Take(t, 1), name)
			}
			require.Equal(t, ssetest.IDs(1, 50), slow.Take(t, 50), name)
			f.append(100)
			synctest.Wait()
			f.finish()
			require.Equal(t, ssetest.IDs(103, 203), quick.Rest(t), name)
			require.Equal(t, ssetest.IDs(51, 203), slow.Rest(t), name)
		})
	}
}

// Subscribers arrive at random moments while events of two runs are appended,
// with random cursors: each sees exactly its suffix of the first run.
func TestTail_concurrentAppends_leavesNoGap(t *testing.T) {
	t.Parallel()
	const subscribers, events = 200, 1000
	s := newSite(t, siteConfig{window: [3]int{64, 1 << 20, 50}})
	f := newFeed(t, s.source, 0)
	other := newFeed(t, s.source, f.run.conversationID)
	arrive, arrived := make([][]chan struct{}, events), make(chan struct{})
	var all sync.WaitGroup
	for range subscribers {
		at, now := rand.IntN(events), make(chan struct{})
		arrive[at] = append(arrive[at], now)
		cursor := rand.Int64N(int64(at) + 1)
		all.Go(func() {
			<-now
			r, err := s.TryOpen(f.ofRun("&after_sequence=" + strconv.FormatInt(cursor, 10)))
			arrived <- struct{}{}
			if err != nil {
				t.Error(err)
				return
			}
			next := cursor + 1
			for ; ; next++ {
				_, data, err := r.Frame()
				for errors.Is(err, ssetest.ErrHeartbeat) {
					_, data, err = r.Frame()
				}
				if errors.Is(err, io.EOF) {
					break
				}
				mine := `"run_id":` + strconv.FormatInt(f.run.id, 10) + ","
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

// Without subscribers, no goroutine runs.
func TestHub_lastSubscriberLeft_endsGoroutines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := newFake()
		s := newSite(t, siteConfig{source: source})
		f, f2 := newFeed(t, source, 0), newFeed(t, source, 0)
		for range 3 {
			require.Zero(t, source.watches.Load())
			a, b, c := s.Open(f.path("")), s.Open(f.path("")), s.Open(f2.path(""))
			synctest.Wait()
			require.EqualValues(t, 1, source.watches.Load())
			require.Equal(t, 2, s.hub.Tails())
			a.Close()
			b.Close()
			synctest.Wait()
			require.EqualValues(t, 1, source.watches.Load())
			require.Equal(t, 1, s.hub.Tails())
			c.Close()
			synctest.Wait()
			require.Zero(t, s.hub.Tails())
			require.Zero(t, source.watches.Load())
			polls := source.polls.Load()
			time.Sleep(time.Minute)
			require.Equal(t, polls, source.polls.Load())
		}
	})
}
