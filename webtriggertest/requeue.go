package webtriggertest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Requeue ends the current attempt of a run as if its process had been lost, and another
// attempt follows. It waits until the run is claimed, if necessary. The Runner's further
// steps and events are rejected, and its context ends with webtrigger.ErrLeaseLost at the
// next heartbeat. So you can test what a Runner does with its recorded steps
// (webtrigger.Step). The attempt is not counted.
func (s *Service) Requeue(tb testing.TB, runID int64) {
	tb.Helper()
	for deadline := time.Now().Add(wait); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		lease, ok := s.leases.of(runID)
		if !ok {
			continue
		}
		_, err := s.leases.RequeueRun(tb.Context(), lease, webtrigger.Requeue{Reason: webtrigger.RequeueHeartbeat})
		must(tb, "requeue run", err)
		return
	}
	tb.Fatalf("webtriggertest: run %d was not claimed within %v", runID, wait)
}

// leases is a store that keeps the last lease of each run.
type leases struct {
	webtrigger.Store
	mu   sync.Mutex
	last map[int64]webtrigger.Lease
}

func (l *leases) of(runID int64) (webtrigger.Lease, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lease, ok := l.last[runID]
	return lease, ok
}

func (l *leases) keep(lease webtrigger.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last[lease.RunID] = lease
}

func (l *leases) CreateTrigger(ctx context.Context, t webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	created, err := l.Store.CreateTrigger(ctx, t)
	if created.Lease != nil {
		l.keep(*created.Lease)
	}
	return created, err
}

func (l *leases) ClaimRuns(ctx context.Context, claim webtrigger.Claim) ([]webtrigger.ClaimedRun, error) {
	claimed, err := l.Store.ClaimRuns(ctx, claim)
	for _, run := range claimed {
		l.keep(run.Lease)
	}
	return claimed, err
}
