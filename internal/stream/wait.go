package stream

import (
	"context"
	"slices"
	"time"
)

// How requests wait for the end of a run. A waiter is a goroutine and a channel:
// the hub of the process, which tails logs for streams, also has the runs for which
// requests wait. A hint that a conversation moved, and every two seconds one query for
// the ends of all awaited logs, lead to one read of the run, however many wait for
// it; its end wakes them all. A waiter reads again what it may see then, so that a
// key that was revoked meanwhile sees nothing.

// awaited is a run that requests wait for. All but the first three is guarded by
// the hub's mu.
type awaited struct {
	runID   int64
	known   int64         // the request for input that the waiters have seen; 0: none
	over    chan struct{} // closed when there is no more to wait for
	ended   bool          // over is closed
	waiting int
	hints   int   // see tail
	looking bool  // a goroutine reads the run
	last    int64 // the log's end that the last poll saw; -1: look at the next poll
}

// Await returns when the run has ended, waits for input or does not exist, d is over, ctx has ended or
// the hub is closed, whichever is first. The request for input with the id known does not count.
func (h *Hub) Await(ctx context.Context, conversationID, runID, known int64, d time.Duration) {
	a := h.joinAwaited(conversationID, runID, known)
	if a == nil {
		return
	}
	defer h.leaveAwaited(conversationID, a)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-a.over:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// joinAwaited registers a waiter, and looks at the run: it may have ended since
// the caller has read it. nil: the process shuts down.
func (h *Hub) joinAwaited(conversationID, runID, known int64) *awaited {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	h.begins()
	i := slices.IndexFunc(h.awaited[conversationID], func(a *awaited) bool {
		return a.runID == runID && a.known == known && !a.ended // an answer may have continued the run
	})
	if i < 0 {
		i = len(h.awaited[conversationID])
		h.awaited[conversationID] = append(h.awaited[conversationID], &awaited{runID: runID, known: known, over: make(chan struct{}), last: -1})
	}
	a := h.awaited[conversationID][i]
	a.waiting++
	h.lookAt(a)
	return a
}

func (h *Hub) leaveAwaited(conversationID int64, a *awaited) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if a.waiting--; a.waiting > 0 {
		return
	}
	left := slices.DeleteFunc(h.awaited[conversationID], func(other *awaited) bool { return other == a })
	if h.awaited[conversationID] = left; len(left) == 0 {
		delete(h.awaited, conversationID)
		h.ends()
	}
}

// lookAt sees to it that the run is read after now; mu is held.
func (h *Hub) lookAt(a *awaited) {
	a.hints++
	if !a.looking && !a.ended {
		a.looking = true
		go h.look(h.life, a)
	}
}

// look reads the run until no hint is newer than the last read. After an error
// the next poll tries again.
func (h *Hub) look(life context.Context, a *awaited) {
	for {
		h.mu.Lock()
		hints := a.hints
		h.mu.Unlock()
		ctx, cancel := context.WithTimeout(life, statementTimeout)
		ended, err := h.source.RunRests(ctx, a.runID, a.known)
		cancel()
		over := err == nil && ended || err != nil && h.opts.NotFound(err)
		if err != nil && !over && life.Err() == nil {
			h.opts.Log.Warn("run read failed", "run_id", a.runID, "error", err)
		}
		h.mu.Lock()
		switch {
		case over:
			a.end()
		case err != nil:
			a.last = -1
		case a.hints != hints && !a.ended:
			h.mu.Unlock()
			continue
		}
		a.looking = false
		h.mu.Unlock()
		return
	}
}

// end wakes all who wait; the hub's mu is held.
func (a *awaited) end() {
	if !a.ended {
		a.ended = true
		close(a.over)
	}
}
