package webtrigger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Work executes queued runs with the Runner, up to [Options.Workers] at a time,
// sweeps runs whose workers vanished and sends owed callbacks, until ctx ends.
// It then drains: it takes nothing more, lets running runs go on for
// [Options.DrainTimeout], interrupts the rest (failed, or requeued when
// MaxAttempts is above 1), sends what callbacks these owe, and returns nil. A
// main waits for it after its HTTP server has shut down.
//
// Any number of processes may work on one store. Within a Service, a second
// Work at the same time returns ErrConflict.
func (s *Service) Work(ctx context.Context) error {
	if !s.worker.open() {
		return fmt.Errorf("work: this service works already: %w", ErrConflict)
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

// Wake tells the workers of this process that runs may be waiting. It is needed
// only after a trigger that was joined to a transaction of the host, on a store
// that cannot tell when it commits.
func (s *Service) Wake() { s.hint(Hint{Queued: true}) }

// Execute takes one queued run and executes it before it returns: the step that
// Work is a loop around, for a host that drives runs from its own job engine.
// It returns nil when the run has ended, or was given back to the queue;
// ErrNotFound; or ErrConflict when another worker has the run. When ctx ends
// the run is interrupted as at the end of a drain.
//
// Slots do not count here. Work with negative Workers beside it sweeps and
// delivers, and makes cancellations act at once.
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
		return fmt.Errorf("execute run %d: it is %s: %w", runID, run.Status, ErrConflict)
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
		s.log.Warn("claim runs", "error", err)
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

// hint wakes whoever may have something to do.
func (s *Service) hint(h Hint) {
	anything := h.IsZero()
	if h.Queued || anything {
		s.worker.sawQueued()
	}
	if h.Pending || anything {
		signal(s.owed)
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
			s.log.Warn("sweep runs", "error", err)
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
		s.log.Warn("sweep deliveries", "error", err)
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
