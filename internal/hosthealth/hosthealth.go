// Package hosthealth decides when callbacks to a host that does not answer are tried
// again.
package hosthealth

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Circuit holds back the retries to dead hosts. A host that has given no answer at
// all several times in a row is dead. Any answer, even a 500, revives it.
//
//	            failures reach the limit               the rest is over
//	alive ──────────────────────────────► resting ──────────────────────► on trial
//	   ▲                                     ▲                                │
//	   └───────────── any answer ────────────┼─────── one retry is sent ──────┤
//	                                         └──── no answer: rest longer ────┘
//
// First attempts are not paused, and their outcomes count too. A Circuit uses the
// outcomes of its own process only.
//
// The zero value is ready for use. It is safe for concurrent use.
type Circuit struct {
	mu    sync.Mutex
	hosts map[string]*health // hosts whose last delivery had no answer
}

type health struct {
	failures int           // deliveries in a row without an answer
	last     time.Time     // the last of them
	rest     time.Duration // 0: alive
	until    time.Time     // the end of the rest
	trial    bool          // a retry is under way to find out
}

const (
	deadAfter   = 5 // failures in a row
	firstRest   = 30 * time.Second
	longestRest = 10 * time.Minute
	keptFor     = time.Hour // without a new outcome
	kept        = 4096      // hosts in memory; callers choose the names
	pruned      = kept / 4
)

// Sign is what a delivery showed about its host.
type Sign int

// The signs of a delivery.
const (
	Silent   Sign = iota // nothing: the delivery did not get that far
	Answered             // an HTTP answer with any status
	Dead                 // no answer
)

// Resting lists the hosts whose retries must wait.
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

// Admit reports whether a retry may be sent now. It admits one retry to a host on
// trial; the caller must report what that one showed.
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

// Report records what a delivery showed about its host.
func (c *Circuit) Report(host string, sign Sign, retry bool, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[host]
	switch {
	case sign == Answered:
		delete(c.hosts, host)
	case sign == Dead:
		if h == nil {
			h = c.add(host, now)
		}
		h.failed(retry, now)
	case h != nil && retry:
		h.trial = false // it showed nothing: the next retry may find out
	}
}

func (h *health) failed(retry bool, now time.Time) {
	h.failures++
	h.last = now
	if h.rest == 0 && h.failures < deadAfter || now.Before(h.until) || h.trial && !retry {
		return // not dead yet, resting, or on trial already
	}
	h.rest = min(max(2*h.rest, firstRest), longestRest)
	h.until = now.Add(h.rest)
	h.trial = false
}

// add adds a host and makes room for it.
func (c *Circuit) add(host string, now time.Time) *health {
	if c.hosts == nil {
		c.hosts = make(map[string]*health)
	}
	if len(c.hosts) >= kept {
		c.prune(now)
	}
	h := &health{}
	c.hosts[host] = h
	return h
}

// prune deletes the hosts without a recent outcome. If there are none, it deletes
// the quarter with the oldest outcomes: a dead host then gets a few retries more.
func (c *Circuit) prune(now time.Time) {
	maps.DeleteFunc(c.hosts, func(_ string, h *health) bool { return now.Sub(h.last) > keptFor && !h.trial })
	if len(c.hosts) < kept {
		return
	}
	oldest := slices.SortedFunc(maps.Keys(c.hosts), func(a, b string) int { return c.hosts[a].last.Compare(c.hosts[b].last) })
	for _, host := range oldest[:pruned] {
		delete(c.hosts, host)
	}
}
