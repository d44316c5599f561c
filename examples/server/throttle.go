package main

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Sign-in attempts are limited by failures: a success costs nothing. Each caller has
// a budget of its own, so that failures of one address do not lock out another. All
// callers share two more budgets against guesses from many addresses: one for callers
// without a recent failure and one for the others. A lock-out lasts seconds, until
// the budget has refilled.
var (
	perCaller = budget{burst: 10, refill: 3 * time.Second}
	ofFirst   = budget{burst: 100, refill: time.Second / 10}
	ofOthers  = budget{burst: 50, refill: time.Second / 5}
)

// maxCallers bounds the memory for callers.
const maxCallers = 4096

// budget is a number of failures and the time after which one more is allowed.
type budget struct {
	burst  int
	refill time.Duration
}

// spent is how much of a budget is used: the time at which it is full again.
type spent struct{ full time.Time }

// wait returns how long a caller must wait until the budget allows an attempt.
func (s spent) wait(b budget, now time.Time) time.Duration {
	return max(0, max(0, s.full.Sub(now))-time.Duration(b.burst-1)*b.refill)
}

func (s *spent) charge(b budget, now time.Time) {
	if s.full.Before(now) {
		s.full = now
	}
	s.full = s.full.Add(b.refill)
}

// throttle limits the sign-in attempts. Its zero value is ready to use.
type throttle struct {
	mu            sync.Mutex
	callers       map[string]spent
	first, others spent
}

// attempt calls matches, unless the caller must wait. A known caller, which has
// signed in before, has its own budget only.
func (t *throttle) attempt(caller string, known bool, matches func() bool) (ok bool, wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	own, failed := t.callers[caller]
	shared, limit := &t.first, ofFirst
	if failed {
		shared, limit = &t.others, ofOthers
	}
	wait = own.wait(perCaller, now)
	if !known {
		wait = max(wait, shared.wait(limit, now))
	}
	if wait > 0 || matches() {
		return wait == 0, wait
	}
	own.charge(perCaller, now)
	if !known {
		shared.charge(limit, now)
	}
	t.keep(caller, own, now)
	return false, 0
}

// keep stores what a caller has spent. If there are too many callers, it drops those
// with a full budget, or else the one whose budget is full first.
func (t *throttle) keep(caller string, own spent, now time.Time) {
	if t.callers == nil {
		t.callers = make(map[string]spent)
	}
	t.callers[caller] = own
	if len(t.callers) <= maxCallers {
		return
	}
	soonest := caller
	for name, s := range t.callers {
		if !s.full.After(now) {
			delete(t.callers, name)
		} else if s.full.Before(t.callers[soonest].full) {
			soonest = name
		}
	}
	if len(t.callers) > maxCallers {
		delete(t.callers, soonest)
	}
}

// address returns the caller's address. A caller owns a /64 of IPv6.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if ip = ip.Unmap(); ip.Is6() {
		return netip.PrefixFrom(ip.WithZone(""), 64).Masked().String()
	}
	return ip.String()
}
