// Package streamtest tests the guarantees of event streams on any store: many
// subscribers connect, disconnect and reconnect at any point, over several replicas, and
// receive exactly the events that they requested.
package streamtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// Options is the size of a test. If zero, a field has its default, except for Stores.
type Options struct {
	// Stores are what each replica sees of the one store.
	Stores []webtrigger.Store

	Seed          uint64
	Subscribers   int           // 1,000
	Conversations int           // 50, of two runs each
	Events        int           // 100,000 in all
	Delay         time.Duration // how long reads of a replica may be held up, at random; 0: not at all

	Page   int // events in a page, at most; 0: no bound. With Delay
	Memory int // StreamOptions.MemoryBytes
}

func (o *Options) complete() {
	for _, d := range []struct {
		v   *int
		def int
	}{{&o.Subscribers, 1000}, {&o.Conversations, 50}, {&o.Events, 100_000}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
}

// Stats is what happened in a test.
type Stats struct {
	Connections, Dropped, Delivered int64
}

func (s Stats) String() string {
	return fmt.Sprintf("%d connections, %d dropped, %d events delivered", s.Connections, s.Dropped, s.Delivered)
}

// Subscribers appends events to many conversations while subscribers read them.
// Each connects to any replica, at any moment, with any cursor; it drops the
// connection after some events and reconnects as a browser does (the first URL
// and Last-Event-ID), by query, or by both, until the answer is 204. It must have
// seen exactly the events behind its first cursor, each once and in order.
func Subscribers(t *testing.T, o Options) Stats {
	t.Helper()
	o.complete()
	rig := &rig{t: t, o: o, random: rand.New(rand.NewPCG(o.Seed, 5))}
	for _, store := range o.Stores {
		if o.Delay > 0 {
			store = &slow{Store: store, rig: rig}
		}
		svc, err := webtrigger.New(store, nil, &webtrigger.Options{NoWorkers: true, Streams: webtrigger.StreamOptions{MemoryBytes: o.Memory}})
		require.NoError(t, err)
		defer svc.CloseStreams() // ends its watch of the store
		rig.replicas = append(rig.replicas, svc.EventsHandler(func(*http.Request, webtrigger.Access) error { return nil }))
	}
	var writers, readers sync.WaitGroup
	for range o.Conversations {
		rig.topics = append(rig.topics, newTopic(rig))
	}
	perTopic := o.Events / o.Conversations
	for n := range o.Subscribers {
		topic := rig.topics[n%len(rig.topics)]
		// The first of each reads everything from the start: writers wait for it.
		first, begin := n < len(rig.topics), int64(0)
		if !first {
			begin = int64(rig.n(perTopic))
		}
		sub := newSubscriber(rig, topic, first)
		readers.Go(func() {
			if topic.wait(begin) {
				sub.live()
			}
		})
	}
	for _, topic := range rig.topics {
		writers.Go(func() { topic.write(perTopic) })
	}
	writers.Wait()
	readers.Wait()
	return Stats{rig.connections.Load(), rig.dropped.Load(), rig.delivered.Load()}
}

// rig is one test.
type rig struct {
	t        *testing.T
	o        Options
	replicas []http.Handler
	topics   []*topic
	failed   atomic.Bool

	connections, dropped, delivered atomic.Int64

	mu     sync.Mutex // guards random
	random *rand.Rand
}

// n is a random number below max.
func (r *rig) n(max int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.random.IntN(max)
}

// fail records a failure of a goroutine and ends the test soon.
func (r *rig) fail(format string, args ...any) {
	if !r.failed.Swap(true) {
		r.t.Errorf("seed %d: "+format, append([]any{r.o.Seed}, args...)...)
	}
	for _, topic := range r.topics {
		topic.wakeAll()
	}
}

// slow is a store that answers late and hints late, so that the windows between
// replay and live are wide open.
type slow struct {
	webtrigger.Store
	rig *rig
}

func (s *slow) pause() {
	if s.rig.n(4) == 0 {
		time.Sleep(time.Duration(s.rig.n(int(s.rig.o.Delay)))) // the fault that is injected
	}
}

func (s *slow) Events(ctx context.Context, query webtrigger.EventQuery) (webtrigger.EventPage, error) {
	s.pause()
	if page := s.rig.o.Page; page > 0 {
		query.Limit = min(query.Limit, page)
	}
	page, err := s.Store.Events(ctx, query)
	s.pause()
	return page, err
}

func (s *slow) Conversation(ctx context.Context, id int64) (webtrigger.Conversation, error) {
	s.pause()
	return s.Store.Conversation(ctx, id)
}

func (s *slow) LastEventIDs(ctx context.Context, ids []int64) (map[int64]int64, error) {
	last, err := s.Store.LastEventIDs(ctx, ids)
	s.pause()
	return last, err
}

// Watch is late, and loses one hint in four.
func (s *slow) Watch(ctx context.Context, notify func(webtrigger.Hint)) error {
	return s.Store.Watch(ctx, func(h webtrigger.Hint) {
		s.pause()
		if s.rig.n(4) > 0 {
			notify(h)
		}
	})
}
