package webtrigger

import (
	"context"
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
