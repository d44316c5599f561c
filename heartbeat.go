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

// noted is what the process had when a renewal was sent.
type noted struct {
	executions map[Lease]*execution
	calls      []*claimCall
	doubts     int
}

func (p *process) note() noted {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := noted{executions: maps.Clone(p.executions), doubts: p.doubts}
	for call := range p.calls {
		seen.calls = append(seen.calls, call)
	}
	return seen
}

// compare handles the claims that a renewal has read. A claim that the process neither
// has nor may be getting is unacknowledged: it becomes unsettled. An execution that was
// noted and has no claim has lost its lease.
func (p *process) compare(seen noted, claims []HeldClaim) {
	held := make(map[Lease]bool, len(claims))
	stops := make(map[*execution]*Stop)
	var lost []*execution
	p.mu.Lock()
	p.doubts -= seen.doubts
	for _, claim := range claims {
		held[claim.Lease] = true
		if x := p.executions[claim.Lease]; x != nil {
			if claim.Stop != nil {
				stops[x] = claim.Stop
			}
			continue
		}
		if seen.executions[claim.Lease] == nil && p.unsettled[claim.Lease] == nil && !p.claiming(seen, claim.Lease) {
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

// claiming reports whether a call in progress, now or when the renewal was sent, may
// have made the claim; mu is held.
func (p *process) claiming(seen noted, lease Lease) bool {
	for call := range p.calls {
		if call.made(lease) {
			return true
		}
	}
	return slices.ContainsFunc(seen.calls, func(call *claimCall) bool { return call.made(lease) })
}
