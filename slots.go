package webtrigger

import (
	"sync"
	"time"
)

// worker is the state of Work: its free slots, and whether the queue may contain runs.
type worker struct {
	wake chan struct{} // the claim loop must look again

	mu          sync.Mutex     // guards the following fields
	working     bool           // Work is running, including its drain
	taking      bool           // Work is running and does not drain
	interrupted bool           // the drain time is over
	postponed   bool           // the time for writes is over too
	size        int            // the number of slots
	free        int            // slots without a run; the slot of an abandoned Runner is not free
	overdue     int            // executions whose Runner has returned, and whose last write takes long
	reserved    int            // slots that are neither free nor have a run yet
	busy        int            // executions that began in a slot and have not ended
	hints       int            // that runs are queued, since the queue was last empty
	creating    map[string]int // by assistant: creations that have reserved a slot
	waiting     []chan struct{}
}

func (w *worker) init(size int) {
	w.wake = make(chan struct{}, 1)
	w.size, w.free = size, size
	w.creating = make(map[string]int)
}

// open allows claims. It returns false if Work is running already.
func (w *worker) open() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.working {
		return false
	}
	w.working, w.taking, w.interrupted, w.postponed = true, true, false, false
	w.hints++ // the queue has not been read yet
	return true
}

// isWorking reports whether Work is running.
func (w *worker) isWorking() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.working
}

// close ends the claims. The claimed runs continue.
func (w *worker) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.taking = false
}

// closed ends Work.
func (w *worker) closed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.working = false
}

// reserveIdle reserves a slot for a run of an assistant that is being created, unless an
// older run is known to be queued. The creations of one assistant have at most half of the
// slots at a time: they may wait for locks of other transactions.
func (w *worker) reserveIdle(assistantID string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.taking || w.hints > 0 || w.free == 0 || w.creating[assistantID] >= (w.size+1)/2 {
		return false
	}
	w.creating[assistantID]++
	w.free--
	w.reserved++
	return true
}

// created ends a creation that has reserved a slot. The slot stays reserved.
func (w *worker) created(assistantID string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.creating[assistantID]--; w.creating[assistantID] == 0 {
		delete(w.creating, assistantID)
	}
}

// reserve reserves up to n slots for runs that are being claimed. It returns their
// number, and the hints that the claim answers.
func (w *worker) reserve(n int) (slots, hints int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.taking {
		return 0, 0
	}
	slots = min(n, w.free)
	w.free -= slots
	w.reserved += slots
	return slots, w.hints
}

// giveBack frees reserved slots that got no run.
func (w *worker) giveBack(slots int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.free += slots
	w.reserved -= slots
	w.tellDrained()
}

// occupy uses a reserved slot for an execution. After the drain time, it interrupts the
// execution.
func (w *worker) occupy(x *execution) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reserved--
	w.busy++
	if w.interrupted {
		x.end(ErrShutdown)
	}
	if w.postponed {
		x.postpone()
	}
}

// vacate ends the execution of a slot. The slot is free when its Runner has returned.
func (w *worker) vacate() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy--
	w.tellDrained()
}

// slotPatience is how long an execution keeps its slot after its Runner has returned. The
// end of a run takes a few milliseconds to store.
const slotPatience = 100 * time.Millisecond

// lend makes the slot of an execution free that does nothing but store how it ended, as
// that takes long: the rows of its run are locked, for example. As many executions as there
// are slots lend theirs at a time.
func (w *worker) lend(x *execution) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if x.left {
		return
	}
	x.overdue = true
	if w.overdue++; w.overdue <= w.size {
		w.free++
		w.lookIfQueued()
	}
}

// release frees the slot of an execution whose Runner has returned, unless it is lent.
func (w *worker) release(x *execution) {
	w.mu.Lock()
	defer w.mu.Unlock()
	x.left = true
	if x.overdue {
		w.overdue--
	}
	if !x.overdue || w.overdue >= w.size { // another one lends its slot instead
		w.free++
	}
	w.lookIfQueued() // also without a slot more: a run that was over its limit can start
}

// lookIfQueued wakes the claim loop if runs may be queued; mu is held.
func (w *worker) lookIfQueued() {
	if w.hints > 0 {
		signal(w.wake)
	}
}

// look wakes the claim loop.
func (w *worker) look() { signal(w.wake) }

func (w *worker) sawQueued() {
	w.mu.Lock()
	w.hints++
	w.mu.Unlock()
	signal(w.wake)
}

// sawMore records that a claim had as many runs as it asked for: more may be queued.
func (w *worker) sawMore() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hints++
}

// sawEmptyQueue drops the hints that a claim has answered. A later hint remains.
func (w *worker) sawEmptyQueue(answered int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hints == answered {
		w.hints = 0
	}
}

// interrupt interrupts the executions that start from now on.
func (w *worker) interrupt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.interrupted = true
}

// postpone also postpones the writes of these executions.
func (w *worker) postpone() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.postponed = true
}

// drained returns a channel that is closed when no slot has a run or may get one.
func (w *worker) drained() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := make(chan struct{})
	w.waiting = append(w.waiting, c)
	w.tellDrained()
	return c
}

// tellDrained closes the channels of drained if that is the case; mu is held.
func (w *worker) tellDrained() {
	if w.reserved+w.busy > 0 {
		return
	}
	for _, c := range w.waiting {
		close(c)
	}
	w.waiting = nil
}
