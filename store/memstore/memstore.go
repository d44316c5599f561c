// Package memstore is a [webtrigger.Store] in the memory of one process. It is the
// reference implementation of a store, for tests and for services whose triggers may be
// lost with the process. Memory grows with the number of triggers, unless
// [webtrigger.Options.Retention] purges old ones.
//
// One mutex guards everything, so each method is one transition. No operation on a
// trigger scans all runs: see order for the queue.
package memstore

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/internal/watch"
)

// Options has the settings of a Store. The zero value is ready to use.
type Options struct {
	// Clock provides the time of stamps and expiries. If nil, it is the wall clock.
	// Leases and times in the queue count in monotonic time, see [webtrigger.Clock].
	// The store calls Clock while it is locked, so Clock must not call the store.
	Clock webtrigger.Clock
}

// Store is the in-memory store. Its methods are safe for concurrent use; it has
// no goroutines and needs no closing.
type Store struct {
	clock   func() time.Time
	measure func() time.Duration // monotonic time since some instant

	mu       sync.Mutex // guards all that follows
	channels map[string]webtrigger.Channel
	secrets  map[string]webtrigger.SigningSecretSet // of an assistant
	keys     byID[key]
	keyOf    map[webtrigger.KeyHash]*key
	keysOf   map[string][]*key // of an assistant, by rising id
	tasks    map[int64]*task
	tasksOf  map[string][]*task // of an assistant, by rising id
	lastTask int64
	sorted   []string // the assistants with settings or keys

	conversations byID[conversation]
	runs          byID[run]
	runOf         map[string]*run     // by run_key
	backlogs      map[string]*backlog // of assistants with open runs
	turns         order[backlog]      // those with queued runs, the next in turn first
	waiting       order[run]          // queued runs that can be claimed, by the time since which they wait
	behind        order[run]          // the other queued runs, in the same order
	awaiting      order[run]          // the waiting runs, by the expiry of their requests
	inputs        byID[webtrigger.Input]
	lanes         map[laneKey]*conversation // the conversations that have a key
	running       int                       // number of running runs
	processes     map[string]*process
	bounded       map[string]int // of an assistant: its queued runs that came with a bound

	deliveries byID[delivery]
	outbox     outbox          // the pending ones
	sending    order[delivery] // the sending ones by the time of their attempt

	entries   []webtrigger.AuditEntry // the audit log, by rising id
	lastEntry int64

	report webtrigger.DataState // of purges only

	requests map[request]*record // idempotency records, live ones and some expired
	expiring order[record]       // the same by expiry

	// Of the transition under way.
	hint    webtrigger.Hint
	elapsed time.Duration // monotonic time of its start: leases and waits count in it

	watchers watch.Hub
}

var _ webtrigger.Store = (*Store)(nil)

// New returns an empty store. The options may be nil.
func New(opts *Options) *Store {
	s := &Store{
		clock:     time.Now,
		channels:  make(map[string]webtrigger.Channel),
		secrets:   make(map[string]webtrigger.SigningSecretSet),
		keyOf:     make(map[webtrigger.KeyHash]*key),
		keysOf:    make(map[string][]*key),
		tasks:     make(map[int64]*task),
		tasksOf:   make(map[string][]*task),
		runOf:     make(map[string]*run),
		bounded:   make(map[string]int),
		backlogs:  make(map[string]*backlog),
		lanes:     make(map[laneKey]*conversation),
		processes: make(map[string]*process),
		requests:  make(map[request]*record),
		outbox:    newOutbox(),
	}
	opened := time.Now()
	s.measure = func() time.Duration { return time.Since(opened) }
	if opts != nil && opts.Clock != nil {
		s.clock = opts.Clock.Now
		if monotonic, ok := opts.Clock.(interface{ Elapsed() time.Duration }); ok {
			s.measure = monotonic.Elapsed
		}
	}
	s.turns = order[backlog]{
		before: func(a, b *backlog) bool {
			return cmp.Or(cmp.Compare(a.running, b.running), cmp.Compare(a.first, b.first)) < 0
		},
		place: func(b *backlog) *int { return &b.place },
	}
	s.waiting = order[run]{
		before: func(a, b *run) bool {
			return cmp.Or(cmp.Compare(a.waitsSince, b.waitsSince), cmp.Compare(a.ID, b.ID)) < 0
		},
		place: func(r *run) *int { return &r.waitingAt },
	}
	s.behind = s.waiting
	s.awaiting = order[run]{
		before: func(a, b *run) bool { return a.openInput().ExpiresAt.Before(b.openInput().ExpiresAt) },
		place:  func(r *run) *int { return &r.waitingAt },
	}
	s.sending = order[delivery]{
		before: func(a, b *delivery) bool { return a.attempted < b.attempted },
		place:  func(d *delivery) *int { return &d.placedAt },
	}
	s.expiring = order[record]{
		before: func(a, b *record) bool { return a.expires.Before(b.expires) },
		place:  func(r *record) *int { return &r.expiringAt },
	}
	return s
}

// Ping reports whether the store answers: it does while ctx lasts.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	return nil
}

// lock begins a method: a call whose context has ended does not start.
func (s *Store) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memstore: %w", err)
	}
	s.mu.Lock()
	s.elapsed = s.measure()
	return nil
}

// unlock ends a method: what it did becomes visible, and only then the watchers
// get its hint.
func (s *Store) unlock() {
	h := s.hint
	s.hint = webtrigger.Hint{}
	s.mu.Unlock()
	s.watchers.Share(h)
}

// now is the time of the transition under way. Each asks once.
func (s *Store) now() time.Time { return stored(s.clock()) }

// stored is how a time is kept.
func stored(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
