package webtrigger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Work executes queued runs with the Runner, up to [Options.Workers] at a time, until
// ctx ends. It also sweeps the runs of lost processes, purges expired data and sends
// pending callbacks.
//
// When ctx ends, Work drains: it claims no more runs, lets running runs continue for
// [Options.DrainTimeout] and then interrupts the rest. An interrupted run fails, or
// is requeued if MaxAttempts is above 1. If the store is unavailable, Work tries to
// store this for one more Lease. Work then sends pending callbacks and returns nil. A main function should wait for Work after its HTTP server has shut
// down.
//
// Any number of processes may call Work on one store. Within a Service, a second
// concurrent call returns ErrConflict.
func (s *Service) Work(ctx context.Context) error {
	if !s.worker.open() {
		return fmt.Errorf("work: already running for this service: %w", ErrConflict)
	}
	defer s.worker.closed()
	// Heartbeats, sweeps and callbacks continue during the drain.
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	s.watcher.join()
	defer s.watcher.leave()
	s.process.join()
	var loops sync.WaitGroup
	loops.Go(func() { s.sweepLoop(life) })
	loops.Go(func() { s.purgeLoop(life) })
	callbacks := newDispatcher(s)
	loops.Go(func() { callbacks.run(life) })

	s.claimLoop(ctx)
	s.worker.close()
	writesUntil := s.drain()
	stop()
	loops.Wait()
	loops.Go(func() { s.process.leave(writesUntil) })
	callbacks.flush()
	loops.Wait()
	return nil
}

// Wake signals the workers of this process that runs may be queued. Call it only
// after [Service.TriggerVia] in a transaction of the host, if the store does not
// detect the commit itself.
func (s *Service) Wake() { s.hint(Hint{Queued: true}) }

// Execute claims one queued run and executes it before it returns. It is for a host
// that executes runs from its own job engine instead of Work. It returns
//
//   - nil if the run has ended, was requeued or waits for input,
//   - ErrNotFound if the run does not exist,
//   - ErrConflict if another worker has claimed the run, or a limit of running runs is
//     reached ([Limits.RunningPerAssistant]),
//   - ErrNotReady if the run is behind another one of its conversation, or waits for
//     input already.
//
// If ctx ends, the run is interrupted as at the end of a drain. A Runner that does not
// return within [Options.CancelGrace] is abandoned. If the store is unavailable, Execute
// returns one Lease later at the latest, and the process stores the end when it can.
//
// If Execute returns another error, the outcome of its claim may be unknown. The run
// then returns to the queue, unless it is not claimed at all.
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
	s.process.join()
	defer s.process.rest()
	x, err := s.claimOne(ctx, runID)
	if err != nil {
		return fmt.Errorf("execute run %d: %w", runID, err)
	}
	if x == nil {
		run, err := s.store.RunSummary(ctx, runID)
		if err != nil || run.Status.Terminal() {
			return err
		}
		if run.Behind {
			return fmt.Errorf("execute run %d: run is behind another one of its conversation: %w", runID, ErrNotReady)
		}
		if run.Status == RunWaiting {
			return fmt.Errorf("execute run %d: run waits for input: %w", runID, ErrNotReady)
		}
		if run.Status == RunQueued && s.opts.Limits.limitsRunning() {
			return fmt.Errorf("execute run %d: run stays queued, because its assistant or API key has reached its limit of running runs: %w",
				runID, ErrConflict)
		}
		return fmt.Errorf("execute run %d: run is %s: %w", runID, run.Status, ErrConflict)
	}
	stop := context.AfterFunc(ctx, func() {
		x.end(ErrShutdown)
		limit := time.AfterFunc(s.opts.CancelGrace+s.opts.Lease, x.postpone)
		<-x.done
		limit.Stop()
	})
	defer stop()
	x.execute()
	return nil
}

// claimOne claims one run. It returns nil if the run is not queued.
func (s *Service) claimOne(ctx context.Context, runID int64) (*execution, error) {
	const tries = 3 // the row of the process may be lost at the first
	for range tries {
		if err := s.process.awaitRegistration(ctx); err != nil {
			return nil, err
		}
		call := s.process.begin(1)
		if call == nil {
			continue
		}
		claimedAt := time.Now()
		claimed, err := s.claimRuns(call, runID)
		var x *execution
		if err == nil && len(claimed) > 0 && s.process.admit(call, claimed[0].Lease) {
			x = s.newExecution(claimed[0], call.processID, claimedAt)
			s.process.add(x)
		}
		s.process.end(call, err)
		switch {
		case errors.Is(err, ErrLeaseLost):
		case err != nil:
			return nil, fmt.Errorf("claim run: %w", err)
		case x != nil || len(claimed) == 0:
			return x, nil
		}
	}
	return nil, fmt.Errorf("claim run: the process is not registered: %w", ErrUnavailable)
}

// claimLoop claims runs for free slots until ctx ends.
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

// claim claims as many runs as there are free slots and starts them. It reports
// whether the claim loop must look again immediately.
func (s *Service) claim() (again bool) {
	slots, hints := s.worker.reserve(maxClaim)
	if slots == 0 {
		return false
	}
	call := s.process.begin(slots)
	if call == nil {
		s.worker.giveBack(slots) // the registration wakes the claim loop
		return false
	}
	claimedAt := time.Now()
	claimed, err := s.claimRuns(call, 0)
	defer s.process.end(call, err)
	if err != nil {
		s.worker.giveBack(slots)
		s.log.Warn("run claim failed", "error", err)
		return false
	}
	for _, run := range claimed {
		s.start(call, run, claimedAt)
	}
	s.worker.giveBack(slots - len(claimed))
	switch {
	case len(claimed) == slots:
		s.worker.sawMore()
		return true
	case !s.opts.Limits.limitsRunning(): // else runs over their limit may be queued
		s.worker.sawEmptyQueue(hints)
	}
	return false
}

// claimRuns claims queued runs; see Claim for runID. It does not end with its caller's
// context, so that an answer that is on its way is not lost.
func (s *Service) claimRuns(call *claimCall, runID int64) ([]ClaimedRun, error) {
	ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
	defer cancel()
	claimed, err := s.store.ClaimRuns(ctx, Claim{
		ProcessID: call.processID, Token: call.token, Limit: int(call.limit), RunID: runID,
		MaxPerAssistant: s.opts.Limits.RunningPerAssistant, MaxPerKey: s.opts.Limits.RunningPerKey,
	})
	if errors.Is(err, ErrLeaseLost) {
		s.process.expel(call.processID)
	}
	return claimed, err
}

// start executes a claimed run in a reserved slot.
func (s *Service) start(call *claimCall, run ClaimedRun, claimedAt time.Time) {
	if !s.process.admit(call, run.Lease) {
		s.worker.giveBack(1)
		return
	}
	x := s.newExecution(run, call.processID, claimedAt)
	x.slot = true
	s.process.add(x)
	s.worker.occupy(x)
	go x.execute()
}

// drain waits until the runs of the slots have ended. It interrupts those that have not
// ended after the DrainTimeout. It returns the time until which this process may try to
// store what is not stored yet.
func (s *Service) drain() (writesUntil time.Time) {
	timer := time.NewTimer(max(s.opts.DrainTimeout, 0))
	defer timer.Stop()
	select {
	case <-s.worker.drained():
		return time.Now().Add(s.opts.Lease)
	case <-timer.C:
	}
	s.worker.interrupt()
	for _, x := range s.process.ofSlots() {
		x.end(ErrShutdown)
	}
	writesUntil = time.Now().Add(s.opts.CancelGrace + s.opts.Lease)
	timer.Reset(time.Until(writesUntil))
	select {
	case <-s.worker.drained():
		return writesUntil
	case <-timer.C:
	}
	s.worker.postpone()
	for _, x := range s.process.ofSlots() {
		x.postpone()
	}
	<-s.worker.drained()
	return writesUntil
}

// maxClaim is the maximum number of runs that one call claims.
const maxClaim = 512

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

// lend frees the slot of an execution whose Runner has returned and whose last write takes
// long, for example because the rows of its run are locked. At most as many executions lend
// their slots at a time as there are slots.
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
	if !x.overdue || w.overdue >= w.size { // if overdue, another one lends its slot instead
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
