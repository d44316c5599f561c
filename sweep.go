package webtrigger

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	sweepBatch     = 100
	auditInterval  = time.Minute
	unknownTimeout = 60 * time.Second // SPEC §6: claimed so long without an outcome
)

// sweepLoop ends or requeues the runs of lost processes. Every process does so, at
// irregular times, so that they do not sweep at the same instant. After errors it waits
// longer, but no longer than a lease.
func (s *Service) sweepLoop(life context.Context) {
	interval := min(s.opts.Lease/4, 5*time.Second)
	pause := interval
	next := time.NewTimer(sweepPause(pause))
	defer next.Stop()
	audited := time.Now()
	for {
		select {
		case <-life.Done():
			return
		case <-next.C:
		}
		audit := time.Since(audited) >= auditInterval
		if audit {
			audited = time.Now()
		}
		pause = min(2*pause, 4*interval)
		if s.sweepRuns(life, audit) {
			pause = interval
		}
		s.sweepDeliveries(life)
		next.Reset(sweepPause(pause))
	}
}

// sweepPause returns a time from half of d to d.
func sweepPause(d time.Duration) time.Duration { return d - rand.N(d/2+1) }

// sweepRuns reports whether the store answered or some runs changed.
func (s *Service) sweepRuns(life context.Context, audit bool) (ok bool) {
	for {
		id := s.process.processID()
		if id == "" {
			return true
		}
		ctx, cancel := context.WithTimeout(life, statementTimeout)
		swept, err := s.store.SweepRuns(ctx, Sweep{
			ProcessID: id, MaxQueueTime: s.opts.MaxQueueTime, Limit: sweepBatch, Audit: audit,
		})
		cancel()
		if err != nil && life.Err() == nil {
			s.log.Warn("run sweep failed", "runs", len(swept), "error", err)
		}
		for _, run := range swept {
			s.log.With(run.logFields()...).Warn("run swept", "status", run.Status, "status_detail", run.StatusDetail)
			s.opts.Hooks.ended(life, run)
		}
		if err != nil || len(swept) < sweepBatch {
			return err == nil || len(swept) > 0
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
