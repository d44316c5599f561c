package bunstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// batcher executes calls that arrive together in one statement with one commit:
// group commit without a timer. A batch has the calls that arrived while the last one
// was under way, so a single call does not wait.
//
// A call joins a batch that is not yet sent, never one in flight: what it reads
// is not older than the call.
type batcher[A, R any] struct {
	// run does the calls of a batch and answers each. An error is that of the batch as
	// a whole. If the batch left nothing, each of its calls is then done in a batch of
	// its own: see call.single.
	run func(ctx context.Context, calls []*call[A, R]) error

	// then has the calls in its batches that run has left to be done alone: what may
	// wait for a lock that another transaction has. See newAlone.
	then *batcher[A, R]

	timeout    func() time.Duration    // of a batch; nil: statementTimeout
	workers    int                     // batches under way at a time
	spare      int                     // further ones, while others take longer than lateTime
	most       func() int              // bounds workers; nil: nothing
	max        int                     // calls in a batch; 0: maxBatch
	linger     time.Duration           // how long a batch waits for more where the one before is not longer ago
	background *sync.WaitGroup         // of batches under way
	weigh      func(arg A) int         // in bytes, about; nil: nothing
	subject    func(arg A) (any, bool) // what a batch may have once only; nil: nothing
	subjects   int                     // how many of them a batch may have; 0: any number

	// group is whose call it is. Groups take turns: see waitlist. If nil, all calls are
	// of one group. If each is not zero, a batch has calls of one group only, and a group
	// has at most that many batches under way. Slow groups together then have at most
	// half the workers, so that groups whose batches wait do not delay the others.
	group func(arg A) any
	each  int

	// eachPaused is each for the calls that have paused. If it is not zero, they are a group
	// of their own, and group is nil.
	eachPaused int

	mu      sync.Mutex
	waiting waitlist[A, R]
	paused  waitlist[A, R] // that need a lock of another transaction
	busy    int            // workers that are at work
	late    int            // of their batches, those that take longer than lateTime
	last    time.Time      // when the last batch was done
}

// call is one caller's part of a batch.
type call[A, R any] struct {
	ctx    context.Context // the caller's
	arg    A
	weight int
	result R
	err    error
	alone  bool // set by run: result and err are not known, and then does the call
	single bool // its batch was rolled back: the next one has this call only
	locked bool // set by run: the call left nothing, and is tried again after a pause
	pauses int
	done   chan struct{} // closed when result and err are known
}

const (
	maxBatch  = 512     // calls in a batch; the host may set another limit
	maxWeight = 4 << 20 // bytes in a batch that has more than one call

	linger   = 2 * time.Millisecond // nothing beside what the network takes to a receiver of callbacks
	slowTime = time.Second          // of a batch of a slow group

	lateTime = 100 * time.Millisecond // many times what a batch takes on a busy server
)

// do puts a call in the queue and waits for its answer.
func (b *batcher[A, R]) do(ctx context.Context, arg A) (R, error) {
	var none R
	if err := ended(ctx); err != nil {
		return none, err
	}
	c := &call[A, R]{ctx: ctx, arg: arg, done: make(chan struct{})}
	if b.weigh != nil {
		c.weight = b.weigh(arg)
	}
	if !b.enqueue(c) {
		return none, errQueueFull()
	}
	select {
	case <-c.done:
		return c.result, c.err
	case <-ctx.Done():
		if b.withdraw(c) {
			return none, fmt.Errorf("bunstore: %w: %w: %w before the call started", webtrigger.ErrUnavailable, webtrigger.ErrNotStored, ctx.Err())
		}
		return none, fmt.Errorf("bunstore: %w", ctx.Err())
	}
}

func errQueueFull() error {
	return fmt.Errorf("bunstore: %w: %w: queue is full (%d calls or %d MiB)", webtrigger.ErrUnavailable, webtrigger.ErrNotStored,
		maxQueue, maxQueueBytes>>20)
}

func (b *batcher[A, R]) groupOf(c *call[A, R]) any {
	switch {
	case b.eachPaused > 0:
		return c.pauses > 0
	case b.group == nil:
		return nil
	}
	return b.group(c.arg)
}

// enqueue starts a worker where there are not enough of them.
func (b *batcher[A, R]) enqueue(c *call[A, R]) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.enqueueLocked(c)
}

func (b *batcher[A, R]) enqueueLocked(c *call[A, R]) bool {
	ok := b.add(&b.waiting, c)
	if ok {
		b.startWorker()
	}
	return ok
}

func (b *batcher[A, R]) startWorker() {
	if b.busy < b.mostBusy() {
		b.busy++
		b.background.Go(b.work)
	}
}

// add adds a call to a list, and rejects those that give way to it.
func (b *batcher[A, R]) add(list *waitlist[A, R], c *call[A, R]) bool {
	gaveWay, ok := list.add(b.groupOf(c), c)
	for _, other := range gaveWay {
		other.err = errQueueFull()
		close(other.done)
	}
	return ok
}

// mostBusy is how many batches may be under way.
func (b *batcher[A, R]) mostBusy() int {
	workers := b.workers + min(b.late, b.spare)
	if b.most == nil {
		return workers
	}
	return min(workers, b.most())
}

// withdraw takes a call out of the queue, and reports whether it was not under way.
func (b *batcher[A, R]) withdraw(c *call[A, R]) bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	waited := b.waiting.remove(b.groupOf(c), c) || b.paused.remove(b.groupOf(c), c)
	b.mu.Unlock()
	return waited || b.then.withdraw(c)
}

// work does one batch after the other until nothing waits.
func (b *batcher[A, R]) work() {
	for {
		b.gather()
		calls, slow := b.next()
		if calls == nil {
			return
		}
		b.answer(calls, slow)
	}
}

// gather waits for more calls if calls are frequent.
func (b *batcher[A, R]) gather() {
	b.mu.Lock()
	often := b.waiting.count > 0 && time.Since(b.last) < b.linger
	b.mu.Unlock()
	if often {
		time.Sleep(b.linger)
	}
}

// next takes the calls of a batch out of the queue. It reports whether they are of a
// slow group.
func (b *batcher[A, R]) next() (calls []*call[A, R], slow bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy > b.mostBusy() { // a late batch is done
		b.busy--
		return nil, false
	}
	w := &b.waiting
	if b.each == 0 {
		calls = b.take(w.turns)
	} else if i := slices.IndexFunc(w.turns, b.eligible); i >= 0 {
		g := w.turns[i]
		if slow = w.slow[g.key]; slow {
			w.slowBusy++
		}
		g.busy++
		calls = b.take([]*group[A, R]{g})
		w.pass(g)
	}
	w.dropEmpty()
	if len(calls) == 0 {
		b.busy--
	}
	return calls, slow
}

// eligible reports whether a group may have one more batch under way.
func (b *batcher[A, R]) eligible(g *group[A, R]) bool {
	most := b.each
	if g.key == true { // see eachPaused
		most = b.eachPaused
	}
	if g.busy >= most {
		return false
	}
	return b.group == nil || !b.waiting.slow[g.key] || b.waiting.slowBusy < max(1, b.mostBusy()/2)
}

// take takes calls of groups in turns, one of each, until a batch is full. Of the calls
// with one subject it takes the first, and the others stay for the next batches: a
// batch is one statement, which is done as a whole or not at all.
func (b *batcher[A, R]) take(groups []*group[A, R]) (calls []*call[A, R]) {
	subjects, weight, most := map[any]bool{}, 0, cmp.Or(b.max, maxBatch)
	may := func(c *call[A, R]) bool {
		if b.subject == nil {
			return true
		}
		subject, has := b.subject(c.arg)
		if !has {
			return true
		}
		if subjects[subject] || b.subjects > 0 && len(subjects) == b.subjects {
			return false
		}
		subjects[subject] = true
		return true
	}
	from := make(map[*group[A, R]]int) // where to continue in a group with remaining calls
	for round := slices.Clone(groups); len(round) > 0; {
		left := round[:0]
		for _, g := range round {
			at := from[g]
			if at == len(g.calls) {
				continue
			}
			c := g.calls[at]
			if len(calls) == most || len(calls) > 0 && (weight+c.weight > maxWeight || c.single || calls[0].single) {
				b.waiting.first(g)
				return calls
			}
			left = append(left, g)
			if !may(c) {
				from[g] = at + 1
				continue
			}
			b.waiting.takeAt(g, at)
			calls, weight = append(calls, c), weight+c.weight
		}
		round = left
	}
	return calls
}

// answer does a batch. After an error other than a rollback it is unknown whether the
// batch was committed, and it is not done again.
func (b *batcher[A, R]) answer(calls []*call[A, R], slow bool) {
	start, group := time.Now(), b.groupOf(calls[0])
	done := b.mayBeLate()
	err := b.attempt(calls)
	done()
	again := len(calls) > 1 && rolledBack(err)
	var left []*call[A, R]
	for _, c := range calls {
		if c.single = again && c.ctx.Err() == nil; c.single {
			left = append(left, c)
		} else {
			b.close(c, err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = time.Now()
	w := &b.waiting
	w.putBack(b.groupOf, left)
	if b.each == 0 {
		return
	}
	if slow {
		w.slowBusy--
	}
	w.leave(group, b.last.Sub(start) > slowTime)
}

// mayBeLate lets another worker start if the batch that now begins takes longer than lateTime:
// its connection may be dead, or its commit may stall, and other calls do not wait for that.
// The caller calls done when the batch has ended.
func (b *batcher[A, R]) mayBeLate() (done func()) {
	if b.spare == 0 {
		return func() {}
	}
	ended, late := false, false
	timer := time.AfterFunc(lateTime, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if ended {
			return
		}
		late = true
		b.late++
		if b.waiting.count > 0 {
			b.startWorker()
		}
	})
	return func() {
		timer.Stop()
		b.mu.Lock()
		defer b.mu.Unlock()
		ended = true
		if late {
			b.late--
		}
	}
}

// close answers a call of a batch, or has it done alone.
func (b *batcher[A, R]) close(c *call[A, R], err error) {
	switch {
	case err != nil:
		c.err = err
	case c.locked && c.ctx.Err() != nil: // it left nothing, and its caller has left
		c.err = fmt.Errorf("bunstore: %w: %w: %w", webtrigger.ErrUnavailable, webtrigger.ErrNotStored, c.ctx.Err())
	case c.locked && b.pause(c):
		return
	case c.locked:
		c.err = errQueueFull()
	case c.alone && b.then.enqueue(c):
		return
	case c.alone:
		c.err = errQueueFull()
	}
	close(c.done)
}

// pause delays a call until a transaction that has a lock may have ended. Meanwhile the
// call has neither a lock nor a connection.
func (b *batcher[A, R]) pause(c *call[A, R]) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	wait := pauseAfter(c.pauses)
	c.pauses++
	if !b.add(&b.paused, c) {
		return false
	}
	time.AfterFunc(wait, func() { b.resume(c) })
	return true
}

// resume ends the pause of a call, unless its caller has left or it gave way.
func (b *batcher[A, R]) resume(c *call[A, R]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.paused.remove(b.groupOf(c), c) {
		return
	}
	if !b.enqueueLocked(c) {
		c.err = errQueueFull()
		close(c.done)
	}
}

// attempt executes calls under their own deadline. If a caller leaves, the statement
// of the others continues.
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
			c.result, c.err, c.alone, c.locked = none, nil, false, false
		}
		return b.run(ctx, calls)
	})
}
