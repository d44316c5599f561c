package bunstore

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// batch makes the store's batchers.
func (s *Store) batch() {
	s.accepts, s.bounded = s.batchTriggers(s.runAccepts, s.acceptAlone), s.batchTriggers(s.runAccepts, s.acceptAlone)
	s.lanes = s.batchLanes()

	ofRun := func(a appending) (any, bool) { return a.lease.RunID, true }
	s.appends = newBatcher(s, s.runAppends, nil)
	s.appends.weigh, s.appends.subject = weighAppending, ofRun
	s.appends.then = newBatcher(s, s.pgAppendShared, nil)
	s.appends.then.weigh, s.appends.then.subject = weighAppending, ofRun
	s.appends.then.then = newOpen(&s.background, s.appendAlone)

	s.ends = newBatcher(s, s.runEnds, nil)
	s.ends.then = newOpen(&s.background, s.finishAlone)
	s.ends.weigh, s.ends.subject = weighEnding, func(e ending) (any, bool) { return e.lease.RunID, true }

	s.begins = newBatcher(s, s.pgBegin, s.beginAlone)
	s.begins.linger = linger
	s.begins.subject = func(l webtrigger.DeliveryLease) (any, bool) { return l.DeliveryID, true }

	s.outcomes = newBatcher(s, s.pgFinishDeliveries, s.finishDeliveryAlone)
	s.outcomes.linger, s.outcomes.weigh = linger, weighDelivered
	s.outcomes.subject = func(d delivered) (any, bool) { return d.lease.DeliveryID, true }

	s.keys = newBatcher(s, s.runKeys, nil)
	s.grants = newBatcher(s, s.runGrants, nil)
	s.grants.weigh = func(asking) int { return webtrigger.MaxGrantResultBytes } // what the answer may have
}

const (
	maxRequests = 256 // idempotency keys in a batch: each is a lock of the server until the commit
	hookWorkers = 8   // batches of Options.Enqueue under way
	aloneSlots  = 4   // connections that calls of one kind may wait on, alone
	aloneEach   = 2   // those of one group
)

// batchTriggers makes a batcher of triggers. A batch of Options.Enqueue has those of one
// assistant, and assistants whose batches take long leave half the workers to the
// others.
func (s *Store) batchTriggers(run func(ctx context.Context, calls []*accepting) error,
	one func(ctx context.Context, trigger newTrigger) (webtrigger.CreatedTrigger, error),
) *batcher[newTrigger, webtrigger.CreatedTrigger] {
	b := newBatcher(s, run, one)
	b.weigh, b.subject, b.subjects = weighTrigger, requestOf, maxRequests
	b.group = func(t newTrigger) any { return t.AssistantID }
	b.waiting.maxBytes, b.paused.maxBytes = maxQueueBytes, maxQueueBytes
	if b.then != nil {
		b.then.group, b.then.each = b.group, aloneEach
		b.then.weigh, b.then.waiting.maxBytes = b.weigh, maxQueueBytes
	}
	if s.opts.Enqueue != nil {
		b.each, b.workers, b.spare = 1, hookWorkers, 0
		b.most = func() int { // connections are for others too
			if most := s.db.DB.Stats().MaxOpenConnections; most > 0 {
				return max(1, most/2)
			}
			return hookWorkers
		}
	}
	return b
}

// newBatcher returns a batcher of what run does. It has one worker: a second one would make more
// and smaller batches, which cost more than they gain. On Postgres, another worker starts
// while a batch is late; SQLite has one writer. If one is nil, run leaves nothing to be done
// alone.
func newBatcher[A, R any](s *Store, run func(ctx context.Context, calls []*call[A, R]) error,
	one func(ctx context.Context, arg A) (R, error),
) *batcher[A, R] {
	b := &batcher[A, R]{
		run: run, workers: 1, max: s.opts.MaxBatch, background: &s.background, waiting: newWaitlist[A, R](), paused: newWaitlist[A, R](),
		timeout: func() time.Duration { return s.timeout },
	}
	if s.postgres {
		b.spare = 1
	}
	if one != nil {
		b.then = newAlone(&s.background, one)
	}
	return b
}

// newAlone returns a batcher of single calls. They run beside the batches, under the
// deadlines of their callers, and each may wait for a lock on its own connection.
func newAlone[A, R any](background *sync.WaitGroup, one func(ctx context.Context, arg A) (R, error)) *batcher[A, R] {
	return &batcher[A, R]{
		workers: aloneSlots, each: aloneSlots, max: 1, background: background, waiting: newWaitlist[A, R](), paused: newWaitlist[A, R](),
		run: func(_ context.Context, calls []*call[A, R]) error {
			for _, c := range calls {
				c.result, c.err = one(c.ctx, c.arg)
			}
			return nil
		},
	}
}

// newOpen returns a batcher of single calls that lock an open run. The first attempt waits for
// no lock. Calls whose run is locked pause, and are a group of their own: they take turns
// with the others, however many they are.
func newOpen[A, R any](background *sync.WaitGroup, one func(ctx context.Context, arg A, patience time.Duration) (R, error)) *batcher[A, R] {
	const waits = 3 // attempts that wait
	b := newAlone[A, R](background, nil)
	b.eachPaused = aloneSlots / 2
	b.run = func(_ context.Context, calls []*call[A, R]) error {
		for _, c := range calls {
			patience := time.Duration(0)
			if c.pauses > 0 && c.pauses <= waits {
				patience = lockPatience
			}
			if c.result, c.err = one(c.ctx, c.arg, patience); errors.Is(c.err, errLocked) {
				c.locked, c.err = true, nil
			}
		}
		return nil
	}
	return b
}

// micros is a duration as statements want it.
func micros(d time.Duration) int64 { return d.Microseconds() }
