package webtrigger

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
)

// unsettled is a claim with the write that ends it. While no execution owns the claim,
// each heartbeat repeats the write until its outcome is known.
type unsettled struct {
	lease     Lease
	operation string
	write     func(context.Context) (Run, error)
	task      *TaskDefinition // of the run, for the hooks; FinishRun does not return it
	givenUp   bool            // write is the last resort
	ctx       context.Context // of the hooks
	log       *slog.Logger
	busy      bool // the write is in progress; guarded by process.mu
}

// settlers is the number of these writes at a time.
const settlers = 4

// unacknowledged returns a claim for which no Runner was called. The run goes back to
// the queue, and the attempt does not count.
func (p *process) unacknowledged(lease Lease) *unsettled {
	log := p.s.log.With("run_id", lease.RunID)
	log.Warn("claim unacknowledged", "effect", "the run returns to the queue")
	return &unsettled{
		lease: lease, operation: "return claim", givenUp: true, ctx: context.Background(), log: log,
		write: func(ctx context.Context) (Run, error) {
			return p.s.store.RequeueRun(ctx, lease, Requeue{Reason: RequeueUnacknowledged})
		},
	}
}

// giveUp replaces a write that the store does not accept by the end of [notStored].
func (u *unsettled) giveUp(store Store) {
	u.givenUp = true
	u.operation = "finish run as not stored"
	u.write = func(ctx context.Context) (Run, error) { return store.FinishRun(ctx, u.lease, notStored()) }
}

// settle starts the writes of the unsettled claims. Each has a deadline of its own, and
// no heartbeat waits for them.
func (p *process) settle(life context.Context, writes *sync.WaitGroup) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.unsettled {
		if u.busy {
			continue
		}
		u.busy = true
		writes.Go(func() {
			select {
			case p.settling <- struct{}{}:
				defer func() { <-p.settling }()
			case <-life.Done():
			}
			ctx, cancel := context.WithTimeout(life, statementTimeout)
			defer cancel()
			run, err := u.write(ctx)
			p.settled(u, run, err)
		})
	}
}

// settled handles the outcome of a write. ErrLeaseLost settles the claim too: another
// transition has ended it, or an earlier try of this write.
func (p *process) settled(u *unsettled, run Run, err error) {
	p.mu.Lock()
	u.busy = false
	switch {
	case err == nil || errors.Is(err, ErrLeaseLost):
		delete(p.unsettled, u.lease)
	case !u.givenUp && !storeAway(err) && !errors.Is(err, context.Canceled):
		u.giveUp(p.s.store)
	}
	if p.users == 0 && len(p.unsettled) == 0 {
		signal(p.beat) // the process can leave
	}
	p.mu.Unlock()
	if err != nil {
		u.log.Warn("run write failed", "operation", u.operation, "error", err)
		return
	}
	run.TaskDefinition = cmp.Or(run.TaskDefinition, u.task)
	p.s.settledRun(u, run)
	if run.Status == RunQueued {
		p.s.worker.sawQueued()
	}
}

// settledRun reports a claim that has ended.
func (s *Service) settledRun(u *unsettled, run Run) {
	if run.Status.Terminal() {
		u.log.Info("run ended", "status", run.Status, "status_detail", run.StatusDetail)
		if run.CallbackURL != "" {
			signal(s.pending) // the store's hint may come before this process watches
		}
	} else {
		u.log.Info("run requeued", "operation", u.operation)
	}
	s.opts.Hooks.ended(u.ctx, run)
}
