package webtrigger

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxWait is the longest that a request may prefer to wait.
const maxWait = 60 * time.Second

// How requests wait for the end of a run. A waiter is a goroutine and a channel:
// the hub of the process, which tails logs for streams, also knows which runs are
// awaited. A hint that a conversation moved, and every two seconds one query for
// the ends of all awaited logs, lead to one read of the run, however many wait for
// it; its end wakes them all. A waiter reads again what it may see then, so that a
// key that was revoked meanwhile sees nothing.

// awaited is a run that requests wait for. All but the first two is guarded by
// the hub's mu.
type awaited struct {
	runID   int64
	over    chan struct{} // closed when there is no more to wait for
	ended   bool          // over is closed
	waiting int
	hints   int   // see tail
	looking bool  // a goroutine reads the run
	last    int64 // the log's end that the last poll saw; -1: look at the next poll
}

// await returns when the run has ended or is gone, d is over, ctx has ended or the
// process shuts down, whichever is first.
func (h *hub) await(ctx context.Context, run *Run, d time.Duration) {
	a := h.joinAwaited(run)
	if a == nil {
		return
	}
	defer h.leaveAwaited(run.ConversationID, a)
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
func (h *hub) joinAwaited(run *Run) *awaited {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	h.begins()
	a := h.awaited[run.ConversationID]
	if a == nil || a.runID != run.ID {
		a = &awaited{runID: run.ID, over: make(chan struct{}), last: -1}
		h.awaited[run.ConversationID] = a
	}
	a.waiting++
	h.lookAt(a)
	return a
}

func (h *hub) leaveAwaited(conversationID int64, a *awaited) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if a.waiting--; a.waiting == 0 && h.awaited[conversationID] == a {
		delete(h.awaited, conversationID)
		h.ends()
	}
}

// lookAt sees to it that the run is read after now; mu is held.
func (h *hub) lookAt(a *awaited) {
	a.hints++
	if !a.looking && !a.ended {
		a.looking = true
		go h.look(h.life, a)
	}
}

// look reads the run until no hint is newer than the last read. After an error
// the next poll tries again.
func (h *hub) look(life context.Context, a *awaited) {
	for {
		h.mu.Lock()
		hints := a.hints
		h.mu.Unlock()
		ctx, cancel := context.WithTimeout(life, statementTimeout)
		run, err := h.store.Run(ctx, a.runID)
		cancel()
		over := err == nil && run.Status.Terminal() || errors.Is(err, ErrNotFound)
		if err != nil && !over && life.Err() == nil {
			h.log.Warn("read run for those who wait", "run_id", a.runID, "error", err)
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

// preferWait is the wait that a request prefers (RFC 7240 §4.3), at most maxWait.
// The first of several counts; what is malformed is ignored, as that RFC says.
func preferWait(h http.Header) (time.Duration, bool) {
	for _, line := range h.Values("Prefer") {
		for preference := range strings.SplitSeq(line, ",") {
			preference, _, _ = strings.Cut(preference, ";")
			name, value, _ := strings.Cut(preference, "=")
			if !strings.EqualFold(strings.TrimSpace(name), "wait") {
				continue
			}
			value = strings.TrimSpace(value)
			if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
				value = value[1 : n-1]
			}
			seconds, err := strconv.ParseUint(value, 10, 64)
			if err != nil && !errors.Is(err, strconv.ErrRange) {
				return 0, false
			}
			return time.Duration(min(seconds, uint64(maxWait/time.Second))) * time.Second, true
		}
	}
	return 0, false
}

// waitFor holds a request until the run ends, as far as it prefers that, and
// reports whether it does: the run is then to be read again. The timeouts of
// [http.Server] do not cut the wait.
func (s *Service) waitFor(w http.ResponseWriter, r *http.Request, run *Run) (waited bool, err error) {
	d, ok := preferWait(r.Header)
	if !ok {
		return false, nil
	}
	w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(d/time.Second)))
	if run.Status.Terminal() || d == 0 {
		return false, nil
	}
	// A writer that has no deadlines has none that could cut the wait either.
	controller := http.NewResponseController(w)
	_ = controller.SetReadDeadline(time.Time{})
	_ = controller.SetWriteDeadline(time.Time{})
	s.streams.await(r.Context(), run, d)
	_ = controller.SetWriteDeadline(time.Now().Add(maxStreamWrite))
	return true, r.Context().Err()
}
