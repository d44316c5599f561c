package webtrigger

import "sync"

// maxClaim is the maximum number of runs that one call claims.
const maxClaim = 512

// worker is the state of Work: its free slots, and whether the queue may contain runs.
type worker struct {
	wake chan struct{} // the claim loop must look again

	mu          sync.Mutex // guards the following fields
	working     bool       // Work is running, including its drain
	taking      bool       // Work is running and does not drain
	interrupted bool       // the drain time is over
	postponed   bool       // the time for writes is over too
	free        int        // slots without a run; the slot of an abandoned Runner is not free
	reserved    int        // slots that are neither free nor have a run yet
	busy        int        // slots with an execution
	hints       int        // that runs are queued, since the queue was last empty
	waiting     []chan struct{}
}

func (w *worker) init(size int) {
	w.wake = make(chan struct{}, 1)
	w.free = size
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

// reserveIdle reserves a slot for a run that is being created, unless an older run is
// known to be queued.
func (w *worker) reserveIdle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.taking || w.hints > 0 || w.free == 0 {
		return false
	}
	w.free--
	w.reserved++
	return true
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

// release frees the slot of a Runner that has returned. If runs may be queued, it wakes
// the claim loop.
func (w *worker) release() {
	w.mu.Lock()
	w.free++
	look := w.hints > 0
	w.mu.Unlock()
	if look {
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
