package webtrigger

import "sync"

// maxClaim bounds how many runs one claim takes.
const maxClaim = 512

// worker is what a process knows of its own executions: its free slots, the
// runs under way, and whether the queue may hold more.
type worker struct {
	wake chan struct{} // the claim loop should look again
	beat chan struct{} // the heartbeat should not wait for its tick

	mu          sync.Mutex // guards what follows
	working     bool       // Work is running, draining included
	taking      bool       // Work is running and does not drain
	interrupted error      // the drain is over: a run that still comes ends by it
	free        int        // slots without a run; those of abandoned Runners are not free
	reserved    int        // slots that are neither free nor have their run yet
	hints       int        // of queued runs, since the queue was last seen empty
	runs        map[int64]*execution
	beating     bool            // the heartbeat goroutine runs
	waiting     []chan struct{} // closed when no slot has or expects a run
}

func (w *worker) init(size int) {
	w.wake = make(chan struct{}, 1)
	w.beat = make(chan struct{}, 1)
	w.free = max(size, 0)
	w.runs = make(map[int64]*execution)
}

// open lets the worker take runs; false when Work is running already.
func (w *worker) open() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.working {
		return false
	}
	w.working, w.taking, w.interrupted = true, true, nil
	w.hints++ // nobody has looked yet
	return true
}

// close ends the taking; what runs goes on.
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

// reserveIdle reserves a slot for a run that is just being accepted: only while
// no older run is known to wait.
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

// reserve reserves up to n slots for claimed runs and returns how many, with
// the hints that the claim answers.
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

// release frees the slot of a run and, where runs may wait, asks the claim loop
// to look.
func (w *worker) release() {
	w.mu.Lock()
	w.free++
	look := w.hints > 0
	w.mu.Unlock()
	if look {
		signal(w.wake)
	}
}

// giveBack frees slots that were reserved and got no run.
func (w *worker) giveBack(slots int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.free += slots
	w.reserved -= slots
	w.tellDrained()
}

func (w *worker) sawQueued() {
	w.mu.Lock()
	w.hints++
	w.mu.Unlock()
	signal(w.wake)
}

// sawEmptyQueue forgets the hints that a claim has answered; one that came
// meanwhile stands.
func (w *worker) sawEmptyQueue(answered int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hints == answered {
		w.hints = 0
	}
}

// add registers an execution, in the slot that was reserved for it if it has
// one. It reports whether the caller is to start the
// heartbeat goroutine.
func (w *worker) add(x *execution) (startBeating bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.runs[x.lease.RunID] = x
	if x.slot {
		w.reserved--
		if w.interrupted != nil {
			x.end(w.interrupted)
		}
	}
	startBeating = !w.beating
	w.beating = true
	return startBeating
}

func (w *worker) remove(x *execution) {
	w.mu.Lock()
	if w.runs[x.lease.RunID] == x {
		delete(w.runs, x.lease.RunID)
	}
	last := len(w.runs) == 0
	w.tellDrained()
	w.mu.Unlock()
	if last {
		signal(w.beat) // nothing is left to keep alive
	}
}

// snapshot returns the executions under way; without any, the heartbeat
// goroutine is to end.
func (w *worker) snapshot() []*execution {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.runs) == 0 {
		w.beating = false
		return nil
	}
	all := make([]*execution, 0, len(w.runs))
	for _, x := range w.runs {
		all = append(all, x)
	}
	return all
}

// has reports whether one of the runs is executed here.
func (w *worker) has(runIDs []int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range runIDs {
		if w.runs[id] != nil {
			return true
		}
	}
	return false
}

// interrupt ends the executions of the slots, also those that are yet to come.
func (w *worker) interrupt(cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.interrupted = cause
	for _, x := range w.runs {
		if x.slot {
			x.end(cause)
		}
	}
}

// drained returns a channel that is closed once no slot has a run or expects
// one.
func (w *worker) drained() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := make(chan struct{})
	w.waiting = append(w.waiting, c)
	w.tellDrained()
	return c
}

// tellDrained tells those who wait for it, if it is so; mu is held.
func (w *worker) tellDrained() {
	if w.reserved > 0 {
		return
	}
	for _, x := range w.runs {
		if x.slot {
			return
		}
	}
	for _, c := range w.waiting {
		close(c)
	}
	w.waiting = nil
}
