package webtrigger

import "slices"

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

// begin starts a call that claims up to limit runs. It returns nil if the process may
// not claim now.
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
// answer decides whether its lease is lost: a claim is also gone once the end is stored.
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
