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

// hint wakes the loops that the hint concerns.
func (s *Service) hint(h Hint) {
	anything := h.isZero()
	if h.Queued || anything {
		s.worker.sawQueued()
	}
	if h.Pending || anything {
		signal(s.pending)
	}
	if anything || s.process.has(h.Stopped) {
		signal(s.process.beat)
	}
}

// signal wakes the goroutine that waits on c, or leaves word for when it does.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// maxClaim is the maximum number of runs that one call claims.
const maxClaim = 512
