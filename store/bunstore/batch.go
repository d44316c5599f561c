package bunstore

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// batcher lets calls that arrive together share one statement and one commit:
// group commit without a timer. A batch is what has queued up while the last one
// was under way, so a call that is alone waits for nothing.
//
// A call joins a batch that is not yet sent, never one in flight: what it reads
// is not older than the call.
type batcher[A, R any] struct {
	// run does the calls of a batch and answers each. An error is that of the
	// batch as a whole: the calls are then done one by one.
	run func(ctx context.Context, calls []*call[A, R]) error

	// one does a call that run has left to be done alone: what may wait for a lock
	// that another transaction has. It does so beside the batches, under the caller's own
	// deadline, on one of the connections of slots.
	one   func(ctx context.Context, arg A) (R, error)
	slots chan struct{}
	then  *batcher[A, R] // has these calls in its batches instead; nil: none

	timeout    func() time.Duration    // of a batch; nil: statementTimeout
	workers    int                     // batches under way at a time
	max        int                     // calls in a batch; 0: maxBatch
	linger     time.Duration           // how long a batch waits for more where the one before is not longer ago
	background *sync.WaitGroup         // of batches under way
	weigh      func(arg A) int         // in bytes, about; nil: nothing
	subject    func(arg A) (any, bool) // what a batch may have once only; nil: nothing
	subjects   int                     // how many of them a batch may have; 0: any number

	mu    sync.Mutex
	queue []*call[A, R]
	alone int       // calls that are left to one
	busy  int       // workers that are at work
	last  time.Time // when the last batch was done
}

// call is one caller's part of a batch.
type call[A, R any] struct {
	ctx    context.Context // the caller's
	arg    A
	result R
	err    error
	alone  bool          // set by run: result and err are not known, and one does the call
	done   chan struct{} // closed when result and err are known
}

const (
	maxQueue  = 10_000  // calls that wait for a batch, or to be done alone; more are refused
	maxBatch  = 512     // calls in a batch, unless the host says otherwise
	maxWeight = 4 << 20 // bytes in a batch that has more than one call

	linger = 2 * time.Millisecond // nothing beside what the network takes to a receiver of callbacks
)

// do puts a call in the queue and waits for its answer.
func (b *batcher[A, R]) do(ctx context.Context, arg A) (R, error) {
	var none R
	if err := ended(ctx); err != nil {
		return none, err
	}
	c := &call[A, R]{ctx: ctx, arg: arg, done: make(chan struct{})}
	if !b.enqueue(c) {
		return none, errQueueFull()
	}
	select {
	case <-c.done:
		return c.result, c.err
	case <-ctx.Done():
		b.withdraw(c)
		if b.then != nil {
			b.then.withdraw(c)
		}
		return none, fmt.Errorf("bunstore: %w", ctx.Err())
	}
}

func errQueueFull() error {
	return fmt.Errorf("bunstore: %w: %w: queue is full (%d calls)", webtrigger.ErrUnavailable, webtrigger.ErrNotStored, maxQueue)
}

// enqueue starts a worker where there are not enough of them.
func (b *batcher[A, R]) enqueue(c *call[A, R]) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) >= maxQueue {
		return false
	}
	b.queue = append(b.queue, c)
	if b.busy < b.workers {
		b.busy++
		b.background.Go(b.work)
	}
	return true
}

// withdraw takes a call out of the queue unless it is under way.
func (b *batcher[A, R]) withdraw(c *call[A, R]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, waiting := range b.queue {
		if waiting == c {
			b.queue = append(b.queue[:i], b.queue[i+1:]...)
			return
		}
	}
}

// work does one batch after the other until nothing waits.
func (b *batcher[A, R]) work() {
	for {
		b.gather()
		calls := b.next()
		if calls == nil {
			return
		}
		b.answer(calls)
	}
}

// gather lets calls come together where they come often.
func (b *batcher[A, R]) gather() {
	b.mu.Lock()
	often := len(b.queue) > 0 && time.Since(b.last) < b.linger
	b.mu.Unlock()
	if often {
		time.Sleep(b.linger)
	}
}

// next takes the calls of a batch out of the queue, in order. Of the calls with
// one subject it takes the first, and the others stay for the next batches: a
// batch is one statement, which is done as a whole or not at all.
func (b *batcher[A, R]) next() []*call[A, R] {
	b.mu.Lock()
	defer b.mu.Unlock()
	var calls, stay []*call[A, R]
	subjects, weight, most := map[any]bool{}, 0, cmp.Or(b.max, maxBatch)
	for i, c := range b.queue {
		if b.weigh != nil {
			weight += b.weigh(c.arg)
		}
		if len(calls) == most || len(calls) > 0 && weight > maxWeight {
			stay = append(stay, b.queue[i:]...)
			break
		}
		if b.subject != nil {
			if subject, has := b.subject(c.arg); has {
				if subjects[subject] || b.subjects > 0 && len(subjects) == b.subjects {
					stay = append(stay, c)
					continue
				}
				subjects[subject] = true
			}
		}
		calls = append(calls, c)
	}
	if len(calls) == 0 {
		b.busy--
	}
	b.queue = stay
	return calls
}

// answer does a batch. One that was rolled back is done again call by call: a
// bad one fails alone. After any other error it is unknown whether the batch was
// committed, and it is not done again.
func (b *batcher[A, R]) answer(calls []*call[A, R]) {
	defer b.done()
	err := b.attempt(calls)
	if len(calls) > 1 && rolledBack(err) {
		for _, c := range calls {
			b.close(c, b.attempt([]*call[A, R]{c}))
		}
		return
	}
	for _, c := range calls {
		b.close(c, err)
	}
}

// close answers a call of a batch, or has it done alone.
func (b *batcher[A, R]) close(c *call[A, R], err error) {
	switch {
	case err != nil:
		c.err = err
	case c.alone && b.then != nil:
		if b.then.enqueue(c) {
			return
		}
		c.err = errQueueFull()
	case c.alone && !b.admitAlone():
		c.err = errQueueFull()
	case c.alone:
		b.background.Go(func() {
			defer close(c.done)
			defer b.leaveAlone()
			select {
			case b.slots <- struct{}{}:
				defer func() { <-b.slots }()
				c.result, c.err = b.one(c.ctx, c.arg)
			case <-c.ctx.Done():
				c.err = ended(c.ctx)
			}
		})
		return
	}
	close(c.done)
}

// admitAlone reports whether one more call may wait to be done alone.
func (b *batcher[A, R]) admitAlone() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.alone == maxQueue {
		return false
	}
	b.alone++
	return true
}

func (b *batcher[A, R]) leaveAlone() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.alone--
}

func (b *batcher[A, R]) done() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = time.Now()
}

// attempt does calls under a deadline of their own: a caller that goes away
// does not end the statement of the others.
func (b *batcher[A, R]) attempt(calls []*call[A, R]) error {
	timeout := statementTimeout
	if b.timeout != nil {
		timeout = b.timeout()
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return again(ctx, func() error {
		for _, c := range calls {
			var none R
			c.result, c.err, c.alone = none, nil, false
		}
		return b.run(ctx, calls)
	})
}

// batch makes the store's batchers.
func (s *Store) batch() {
	// One worker makes fewer and larger batches, which cost a fifth less. Ends have two: the next claim waits for them.
	s.accepts = newBatcher(s, s.runAccepts, s.acceptAlone)
	s.accepts.weigh, s.accepts.subject, s.accepts.subjects, s.accepts.workers = weighTrigger, requestOf, maxRequests, 1

	// Those within bounds would wait for each other's locks besides.
	s.bounded = newBatcher(s, s.runAccepts, s.acceptAlone)
	s.bounded.weigh, s.bounded.subject, s.bounded.subjects, s.bounded.workers = weighTrigger, requestOf, maxRequests, 1

	ofRun := func(a appending) (any, bool) { return a.lease.RunID, true }
	s.appends = newBatcher(s, s.runAppends, nil)
	s.appends.weigh, s.appends.subject, s.appends.workers = weighAppending, ofRun, 1
	s.appends.then = newBatcher(s, s.pgAppendShared, s.appendAlone)
	s.appends.then.weigh, s.appends.then.subject, s.appends.then.workers = weighAppending, ofRun, 1

	s.ends = newBatcher(s, s.runEnds, s.finishAlone)
	s.ends.weigh, s.ends.subject = weighEnding, func(e ending) (any, bool) { return e.lease.RunID, true }

	s.begins = newBatcher(s, s.pgBegin, s.beginAlone)
	s.begins.workers, s.begins.linger = 1, linger
	s.begins.subject = func(l webtrigger.DeliveryLease) (any, bool) { return l.DeliveryID, true }

	s.outcomes = newBatcher(s, s.pgFinishDeliveries, s.finishDeliveryAlone)
	s.outcomes.workers, s.outcomes.linger, s.outcomes.weigh = 1, linger, weighDelivered
	s.outcomes.subject = func(d delivered) (any, bool) { return d.lease.DeliveryID, true }

	s.grants = newBatcher(s, s.runGrants, nil)
	s.grants.weigh = func(asking) int { return webtrigger.MaxGrantResultBytes } // what the answer may have
}

const (
	maxRequests = 256 // idempotency keys in a batch: each is a lock of the server until the commit
	aloneSlots  = 4   // connections that calls of one kind may wait on, alone
)

// newBatcher returns a batcher of what run does. Two workers keep Postgres busy
// while one batch waits for its commit; SQLite has one writer anyway.
func newBatcher[A, R any](s *Store, run func(ctx context.Context, calls []*call[A, R]) error,
	one func(ctx context.Context, arg A) (R, error),
) *batcher[A, R] {
	return &batcher[A, R]{
		run: run, one: one, slots: make(chan struct{}, aloneSlots), workers: 2, max: s.opts.MaxBatch, background: &s.background,
		timeout: func() time.Duration { return s.timeout },
	}
}

// micros is a duration as statements want it.
func micros(d time.Duration) int64 { return d.Microseconds() }
