package webtrigger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Work executes queued runs with the Runner, up to [Options.Workers] at a time, until
// ctx ends. It also sweeps runs with expired leases, purges expired data and sends
// pending callbacks.
//
// When ctx ends, Work drains: it claims no more runs, lets running runs continue for
// [Options.DrainTimeout] and then interrupts the rest. An interrupted run fails, or
// is requeued if MaxAttempts is above 1. Work then sends pending callbacks and
// returns nil. A main function should wait for Work after its HTTP server has shut
// down.
//
// Any number of processes may call Work on one store. Within a Service, a second
// concurrent call returns ErrConflict.
func (s *Service) Work(ctx context.Context) error {
	if !s.worker.open() {
		return fmt.Errorf("work: already running for this service: %w", ErrConflict)
	}
	defer s.worker.closed()
	// What keeps running runs alive goes on while they drain.
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	s.watcher.join()
	defer s.watcher.leave()
	var loops sync.WaitGroup
	loops.Go(func() { s.sweepLoop(life) })
	loops.Go(func() { s.purgeLoop(life) })
	callbacks := newDispatcher(s)
	loops.Go(func() { callbacks.run(life) })

	s.claimLoop(ctx)
	s.worker.close()
	s.drain()
	stop()
	loops.Wait()
	callbacks.flush()
	return nil
}

// Wake signals the workers of this process that runs may be queued. Call it only
// after [Service.TriggerVia] in a transaction of the host, if the store does not
// detect the commit itself.
func (s *Service) Wake() { s.hint(Hint{Queued: true}) }

// Execute claims one queued run and executes it before it returns. It is for a host
// that executes runs from its own job engine instead of Work. It returns nil if the
// run has ended or was requeued, ErrNotFound if the run does not exist, and
// ErrConflict if another worker has claimed the run. If ctx ends, the run is
// interrupted as at the end of a drain. A Runner that does not return within
// [Options.CancelGrace] is abandoned.
//
// Execute does not use slots. You should run Work with [Options.NoWorkers] at the
// same time: it sweeps runs, sends callbacks, and makes cancellations take effect
// immediately.
func (s *Service) Execute(ctx context.Context, runID int64) error {
	if s.runner == nil {
		return errors.New("webtrigger: Execute needs a runner")
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("execute run %d: %w", runID, err)
	}
	claimedAt := time.Now()
	claimed, err := s.claimRuns(1, runID)
	if err != nil {
		return fmt.Errorf("claim run: %w", err)
	}
	if len(claimed) == 0 {
		run, err := s.store.RunByID(ctx, runID)
		if err != nil || run.Status.Terminal() {
			return err
		}
		return fmt.Errorf("execute run %d: run is %s: %w", runID, run.Status, ErrConflict)
	}
	x := s.newExecution(claimed[0], claimedAt)
	s.keepAlive(x)
	stop := context.AfterFunc(ctx, func() { x.end(ErrShutdown) })
	defer stop()
	x.execute()
	return nil
}

// claimLoop takes runs for free slots until ctx ends.
func (s *Service) claimLoop(ctx context.Context) {
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for ctx.Err() == nil {
		if s.claim() {
			continue // the queue may hold more, and slots may be free
		}
		select {
		case <-ctx.Done():
		case <-s.worker.wake:
		case <-poll.C:
		}
	}
}

// claim takes as many runs as there are free slots and starts them. It reports
// whether to look again at once.
func (s *Service) claim() (again bool) {
	slots, hints := s.worker.reserve(maxClaim)
	if slots == 0 {
		return false
	}
	claimedAt := time.Now()
	claimed, err := s.claimRuns(slots, 0)
	if err != nil {
		s.worker.giveBack(slots)
		s.log.Warn("run claim failed", "error", err)
		return false
	}
	for _, run := range claimed {
		s.start(run, claimedAt)
	}
	s.worker.giveBack(slots - len(claimed))
	if len(claimed) < slots {
		s.worker.sawEmptyQueue(hints)
		return false
	}
	return true
}

// claimRuns takes queued runs; see Claim for runID. It does not end with its
// caller's context: a claim that is cut short could leave taken runs without a
// worker.
func (s *Service) claimRuns(limit int, runID int64) ([]ClaimedRun, error) {
	ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
	defer cancel()
	return s.store.ClaimRuns(ctx, Claim{Worker: s.id, Lease: s.opts.Lease, Limit: limit, RunID: runID})
}

// start executes a run that this process has taken and reserved a slot for.
func (s *Service) start(run ClaimedRun, claimedAt time.Time) {
	x := s.newExecution(run, claimedAt)
	x.slot = true
	s.keepAlive(x)
	go x.execute()
}

// drain lets the runs of the slots end, then interrupts those that have not.
func (s *Service) drain() {
	timer := time.NewTimer(max(s.opts.DrainTimeout, 0))
	defer timer.Stop()
	select {
	case <-s.worker.drained():
		return
	case <-timer.C:
	}
	s.worker.interrupt(ErrShutdown)
	<-s.worker.drained() // bounded by CancelGrace and the lease
}

// hint wakes the loops that the hint concerns.
func (s *Service) hint(h Hint) {
	anything := h.isZero()
	if h.Queued || anything {
		s.worker.sawQueued()
	}
	if h.Pending || anything {
		signal(s.pending)
	}
	if anything || s.worker.has(h.Stopped) {
		signal(s.worker.beat)
	}
}

const (
	sweepBatch     = 100
	auditInterval  = time.Minute
	unknownTimeout = 60 * time.Second // SPEC §6: claimed so long without an outcome
)

// sweepLoop ends or requeues what has lost its worker. Every process does.
func (s *Service) sweepLoop(life context.Context) {
	tick := time.NewTicker(min(s.opts.Lease/4, 5*time.Second))
	defer tick.Stop()
	audited := time.Now()
	for {
		select {
		case <-life.Done():
			return
		case <-tick.C:
		}
		audit := time.Since(audited) >= auditInterval
		if audit {
			audited = time.Now()
		}
		s.sweepRuns(life, audit)
		s.sweepDeliveries(life)
	}
}

func (s *Service) sweepRuns(life context.Context, audit bool) {
	for {
		ctx, cancel := context.WithTimeout(life, statementTimeout)
		swept, err := s.store.SweepRuns(ctx, Sweep{
			MaxAttempts: s.opts.MaxAttempts, MaxQueueTime: s.opts.MaxQueueTime, Limit: sweepBatch, Audit: audit,
		})
		cancel()
		if err != nil && life.Err() == nil {
			s.log.Warn("run sweep failed", "error", err)
		}
		for _, run := range swept {
			s.log.With(run.logFields()...).Warn("run swept", "status", run.Status, "status_detail", run.StatusDetail)
			s.opts.Hooks.ended(life, run)
		}
		if len(swept) < sweepBatch {
			return
		}
	}
}

func (s *Service) sweepDeliveries(life context.Context) {
	ctx, cancel := context.WithTimeout(life, statementTimeout)
	defer cancel()
	swept, err := s.store.SweepDeliveries(ctx, unknownTimeout, sweepBatch)
	if err != nil && life.Err() == nil {
		s.log.Warn("delivery sweep failed", "error", err)
	}
	for _, d := range swept {
		s.log.Warn("callback outcome unknown", "delivery_id", d.ID, "run_id", d.RunID, "run_key", d.RunKey)
	}
}

// signal wakes the goroutine that waits on c, or leaves word for when it does.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

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
	w.free = size
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
	w.hints++ // the queue has not been read yet
	return true
}

// isWorking reports whether Work is running.
func (w *worker) isWorking() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.working
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
