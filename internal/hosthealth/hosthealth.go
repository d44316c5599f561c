// Package hosthealth decides when callbacks to a host that does not answer are tried
// again.
package hosthealth

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Circuit lets the retries of a dead host rest. A host that has given no answer
// at all several times in a row is dead; any answer, even a 500, revives it.
//
//	             failures reach the limit              the rest is over
//	lively ──────────────────────────────► resting ──────────────────────► on trial
//	   ▲                                      ▲                               │
//	   └───────────── any answer ─────────────┼──────── one retry is let go ──┤
//	                                          └──── no answer: rest longer ───┘
//
// First attempts go on throughout, and what becomes of them counts as well. It
// knows what this process saw: others find out for themselves.
type Circuit struct {
	mu    sync.Mutex
	hosts map[string]*health // those whose last delivery had no answer
}

type health struct {
	failures int           // without an answer, in a row
	last     time.Time     // the last of them
	rest     time.Duration // 0: lively
	until    time.Time     // the rest's end
	trial    bool          // a retry is under way to find out
}

const (
	deadAfter    = 5 // failures in a row
	firstRest    = 30 * time.Second
	longestRest  = 10 * time.Minute
	healthKept   = time.Hour // without news
	healthsKept  = 4096      // hosts remembered; callers choose the names
	healthPruned = healthsKept / 4
)

// Sign is what a delivery told of its host.
type Sign int

const (
	Silent   Sign = iota // nothing: it never got so far
	Answered             // an HTTP answer, whatever it said
	Dead                 // no answer
)

// Resting lists the hosts whose retries are to wait.
func (c *Circuit) Resting(now time.Time) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var hosts []string
	for host, h := range c.hosts {
		if h.rest > 0 && (h.trial || now.Before(h.until)) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// Admit reports whether a retry may go now. Of a host on trial one may.
func (c *Circuit) Admit(host string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[host]
	if h == nil || h.rest == 0 {
		return true
	}
	if h.trial || now.Before(h.until) {
		return false
	}
	h.trial = true
	return true
}

// Report takes note of what a delivery told of its host.
func (c *Circuit) Report(host string, sign Sign, retry bool, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[host]
	switch {
	case sign == Answered:
		delete(c.hosts, host)
	case sign == Dead:
		if h == nil {
			h = c.remember(host, now)
		}
		h.failed(retry, now)
	case h != nil && retry:
		h.trial = false // it found nothing out: the next one may
	}
}

func (h *health) failed(retry bool, now time.Time) {
	h.failures++
	h.last = now
	if h.rest == 0 && h.failures < deadAfter || now.Before(h.until) || h.trial && !retry {
		return // not dead yet, known to be dead, or on trial already
	}
	h.rest = min(max(2*h.rest, firstRest), longestRest)
	h.until = now.Add(h.rest)
	h.trial = false
}

// remember makes room for a host and takes it in.
func (c *Circuit) remember(host string, now time.Time) *health {
	if c.hosts == nil {
		c.hosts = make(map[string]*health)
	}
	if len(c.hosts) >= healthsKept {
		c.prune(now)
	}
	h := &health{}
	c.hosts[host] = h
	return h
}

// prune forgets the hosts without news for long, and otherwise those with the
// oldest: at worst a dead host gets a few retries more.
func (c *Circuit) prune(now time.Time) {
	maps.DeleteFunc(c.hosts, func(_ string, h *health) bool { return now.Sub(h.last) > healthKept && !h.trial })
	if len(c.hosts) < healthsKept {
		return
	}
	oldest := slices.SortedFunc(maps.Keys(c.hosts), func(a, b string) int { return c.hosts[a].last.Compare(c.hosts[b].last) })
	for _, host := range oldest[:healthPruned] {
		delete(c.hosts, host)
	}
}
