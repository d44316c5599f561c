package webtrigger

import (
	"context"
	"time"
)

// keepAlive registers an execution for heartbeats. One goroutine per process
// renews the leases of all its executions with one call; it lives as long as
// there is any.
func (s *Service) keepAlive(x *execution) {
	if s.worker.add(x) {
		go s.heartbeats()
	}
}

func (s *Service) heartbeats() {
	tick := time.NewTicker(min(s.opts.Lease/3, pollInterval))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.worker.beat:
		}
		under := s.worker.snapshot()
		if under == nil {
			return
		}
		s.renew(under)
	}
}

// renew renews the leases of the executions. What it cannot renew loses its
// lease when the time is over that was granted last.
func (s *Service) renew(executions []*execution) {
	leases := make([]Lease, len(executions))
	for i, x := range executions {
		leases[i] = x.lease
	}
	ctx, cancel := context.WithTimeout(context.Background(), min(s.opts.Lease/3, statementTimeout))
	defer cancel()
	sent := time.Now() // the store's count starts later, so ours ends earlier
	renewals, err := s.store.RenewLeases(ctx, leases, s.opts.Lease)
	if err != nil {
		s.log.Warn("renew leases", "error", err, "runs", len(leases))
		return
	}
	for i, x := range executions {
		switch r := renewals[i]; {
		case !r.Renewed:
			x.lose()
		case x.expiry.Stop():
			x.expiry.Reset(s.opts.Lease - time.Since(sent))
			x.obey(r.Stop)
		}
	}
}

// obey ends the execution's context when a stop is recorded for its run.
func (x *execution) obey(stop *Stop) {
	switch {
	case stop == nil:
	case stop.Status == RunCancelled:
		x.end(ErrCancelled)
	default:
		x.end(ErrDeadline)
	}
}
