package webtrigger

import "sync"

// maxClaim bounds how many runs one claim takes.
const maxClaim = 64

// worker is what a process knows of its own executions: its free slots, the
// runs under way, and whether the queue may hold more.
type worker struct {
	wake chan struct{} // the claim loop should look again
	beat chan struct{} // the heartbeat should not wait for its tick

	mu      sync.Mutex // guards what follows
	working bool       // Work is running, draining included
	taking  bool       // Work is running and does not drain
	free    int        // slots without a run; those of abandoned Runners are not free
	hints   int        // of queued runs, since the queue was last seen empty
	runs    map[int64]*execution
	beating bool            // the heartbeat goroutine runs
	waiting []chan struct{} // closed when no run holds a slot
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
	w.working, w.taking = true, true
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

// giveBack frees slots that the claim loop reserved and did not need.
func (w *worker) giveBack(slots int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.free += slots
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

// add registers an execution. It reports whether the caller is to start the
// heartbeat goroutine.
func (w *worker) add(x *execution) (startBeating bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.runs[x.lease.RunID] = x
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
	if w.slotted() == 0 {
		for _, c := range w.waiting {
			close(c)
		}
		w.waiting = nil
	}
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

// interrupt ends the executions of the slots.
func (w *worker) interrupt(cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.runs {
		if x.slot {
			x.end(cause)
		}
	}
}

// drained returns a channel that is closed once no run holds a slot.
func (w *worker) drained() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := make(chan struct{})
	if w.slotted() == 0 {
		close(c)
	} else {
		w.waiting = append(w.waiting, c)
	}
	return c
}

// slotted counts the runs of the slots; mu is held.
func (w *worker) slotted() (n int) {
	for _, x := range w.runs {
		if x.slot {
			n++
		}
	}
	return n
}
