package webtrigger

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// heartbeats registers the process and renews it until it rests or has left. It is the
// one such goroutine of the Service.
func (p *process) heartbeats() {
	tick := time.NewTicker(p.interval())
	defer tick.Stop()
	life, stop := context.WithCancel(context.Background())
	var writes sync.WaitGroup
	defer writes.Wait()
	defer stop()
	for fresh := p.fresh(); ; fresh = false {
		if p.rests() {
			return
		}
		if !fresh && p.heartbeat() {
			p.settle(life, &writes)
		}
		if p.leaves() {
			return
		}
		select {
		case <-tick.C:
		case <-p.beat:
		}
	}
}

// longest is the maximum of the times in Options, 36 years. Their sums do not overflow.
const longest = time.Duration(1) << 60

func (p *process) interval() time.Duration { return min(p.s.opts.Lease/3, pollInterval) }

// fresh reports whether the process was renewed a moment ago.
func (p *process) fresh() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live && time.Since(p.contact) < p.interval()
}

// patience is how long a heartbeat may take.
func (p *process) patience() time.Duration {
	most := min(p.s.opts.Lease/3, statementTimeout)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users == 0 && !p.leaveBy.IsZero() {
		most = max(min(most, time.Until(p.leaveBy)), most/8)
	}
	return most
}

// heartbeat renews the process, and registers it before if necessary. It returns false
// if the store does not answer. That alone ends nothing.
func (p *process) heartbeat() bool {
	ctx, cancel := context.WithTimeout(context.Background(), p.patience())
	defer cancel()
	id, err := p.register(ctx)
	if err != nil || id == "" {
		return err == nil
	}
	seen := p.note()
	sent := time.Now() // the store's count starts later, so the count from here ends earlier
	renewed, err := p.s.store.RenewProcess(ctx, p.describe(id))
	if err != nil {
		p.s.log.Warn("lease renewal failed", "process_id", id, "error", err, "runs", len(seen.executions))
		p.notRenewed(err)
		return false
	}
	if !renewed.Registered {
		p.expel(id)
		return true
	}
	p.registered(id, sent)
	p.compare(seen, renewed.Claims)
	return true
}

// noted is what the process had when a renewal was sent, and the calls since.
type noted struct {
	executions map[Lease]*execution
	calls      []*claimCall
	doubts     int
}

// note starts the notes for the comparison with the answer of a renewal.
func (p *process) note() *noted {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = &noted{executions: maps.Clone(p.executions), calls: slices.Collect(maps.Keys(p.calls)), doubts: p.doubts}
	return p.seen
}

// compare handles the claims that a renewal has read. An execution that was noted and
// has no claim has lost its lease. A claim is unacknowledged, and becomes unsettled, if
// the process neither has it nor was getting it since the renewal was sent.
func (p *process) compare(seen *noted, claims []HeldClaim) {
	held := make(map[Lease]bool, len(claims))
	stops := make(map[*execution]*Stop)
	var lost []*execution
	p.mu.Lock()
	p.seen = nil
	p.doubts -= seen.doubts
	for _, claim := range claims {
		held[claim.Lease] = true
		x := p.executions[claim.Lease]
		switch {
		case x != nil && claim.Stop != nil:
			stops[x] = claim.Stop
		case x != nil, seen.executions[claim.Lease] != nil, p.unsettled[claim.Lease] != nil, seen.claiming(claim.Lease):
		default:
			p.unsettled[claim.Lease] = p.unacknowledged(claim.Lease)
		}
	}
	for lease, x := range seen.executions {
		if !held[lease] && !x.ending {
			lost = append(lost, x)
		}
	}
	p.mu.Unlock()
	for x, stop := range stops {
		x.obey(stop)
	}
	for _, x := range lost {
		x.lose()
	}
}

// claiming reports whether one of the calls may have made the claim.
func (n *noted) claiming(lease Lease) bool {
	return slices.ContainsFunc(n.calls, func(call *claimCall) bool { return call.made(lease) })
}

// claimCall is a call of the store that claims runs and whose answer has not been
// processed. A heartbeat must not return its claims.
type claimCall struct {
	processID string
	token     int64 // of the first run
	limit     int64
}

func (c *claimCall) made(lease Lease) bool {
	return lease.Token >= c.token && lease.Token-c.token < c.limit
}

// begin starts a call that claims up to limit runs. It returns nil if the process
// must not claim now.
func (p *process) begin(limit int) *claimCall {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.mayClaim() || p.users == 0 {
		return nil
	}
	call := &claimCall{processID: p.id, token: NewToken(), limit: int64(limit)}
	p.calls[call] = struct{}{}
	if p.seen != nil {
		p.seen.calls = append(p.seen.calls, call)
	}
	return call
}

// end ends a call, after its executions are added. After an error, the call may have
// claimed runs, or its claims may be stored later. Heartbeats find and return them.
func (p *process) end(call *claimCall, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.calls, call)
	if err != nil {
		p.doubts++
	}
}

// admit reports whether the process may execute a run that a call has claimed. If the
// process is registered under another id by now, the claim will be swept. admit then
// returns false, and heartbeats return the claim.
func (p *process) admit(call *claimCall, lease Lease) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if call.processID == p.id {
		return true
	}
	p.unsettled[lease] = p.unacknowledged(lease)
	return false
}

func (p *process) add(x *execution) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.executions[x.lease] = x
}

// remove removes an execution whose claim has ended or is lost.
func (p *process) remove(x *execution) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.executions, x.lease)
}

// unsettle takes over the last write of an execution that has not been stored.
func (p *process) unsettle(x *execution, u *unsettled) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.executions, x.lease)
	p.unsettled[x.lease] = u
}

// ending records that the execution stores its end. From now on only the store's
// answer decides whether its lease is lost: a stored end also ends the claim.
func (p *process) ending(x *execution) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x.ending = true
}

// has reports whether this process executes one of the runs.
func (p *process) has(runIDs []int64) bool {
	if len(runIDs) == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for lease := range p.executions {
		if slices.Contains(runIDs, lease.RunID) {
			return true
		}
	}
	return false
}

// ofSlots returns the executions that hold a slot.
func (p *process) ofSlots() []*execution {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*execution
	for _, x := range p.executions {
		if x.slot {
			all = append(all, x)
		}
	}
	return all
}

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
	} else if run.Status == RunWaiting {
		u.log.Info("run waiting for input")
	} else {
		u.log.Info("run requeued", "operation", u.operation)
	}
	s.opts.Hooks.ended(u.ctx, run)
}
