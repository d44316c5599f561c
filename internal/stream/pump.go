package stream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/sse"
)

const (
	streamRetry     = 3 * time.Second  // what EventSource waits before it reconnects
	streamHeartbeat = 10 * time.Second // documented: at least every 15 s
	streamPause     = time.Second      // before the store or the authorizer is tried again
	streamHurry     = 2 * time.Second  // what a write under way gets when the process ends

	// A stream asks whether it is still allowed at every heartbeat, and before it
	// sends events if the last answer is as old as this. With a write that takes
	// as long as it may, a denial takes effect within 15 s.
	allowedFor = 15*time.Second - MaxWriteTimeout
)

// pump sends bursts and heartbeats to one reader until the stream ends, for
// whatever reason. Each burst has its own write deadline, so that a reader that
// stalls is disconnected and http.Server.WriteTimeout does not disconnect others. It ends between
// two frames, unless it is a write that fails.
type pump struct {
	hub     *Hub
	r       *http.Request
	w       http.ResponseWriter
	sub     *subscriber
	allowed func() error // asks the authorizer
	asked   time.Time    // when it allowed the reader last
	beat    *time.Ticker

	ctx    context.Context // ends with the request, and when the process ends
	cancel context.CancelFunc

	mu         sync.Mutex // guards what follows
	controller *http.ResponseController
	timeout    time.Duration // of a burst
	over       bool          // w must not be touched any more
}

// run sends next and all that follows. The answer's head is written.
func (p *pump) run(next burst) {
	p.asked = time.Now()
	p.beat = time.NewTicker(streamHeartbeat)
	defer p.beat.Stop()
	next.frames = append([][]byte{sse.AppendRetry(nil, streamRetry)}, next.frames...)
	for {
		if len(next.frames) > 0 && time.Since(p.asked) >= allowedFor && !p.permitted() {
			return
		}
		if p.send(next.frames...) != nil || next.last {
			return
		}
		select {
		case <-p.ctx.Done():
			return
		case <-p.beat.C:
			if !p.heartbeat() || !p.permitted() {
				return
			}
		case <-next.wake:
		}
		var ok bool
		if next, ok = p.next(); !ok {
			return
		}
	}
}

// next returns the next events and frames of the subscriber. An unavailable store does
// not end the stream, because the reader would only reconnect.
func (p *pump) next() (burst, bool) {
	for {
		next, err := p.sub.next(p.ctx)
		if err == nil {
			return next, true
		}
		if p.ctx.Err() != nil {
			return burst{}, false
		}
		p.hub.opts.Log.WarnContext(p.r.Context(), "event read failed",
			"conversation_id", p.sub.query.ConversationID, "error", err)
		if !p.unavailable(err) || !p.pause() {
			return burst{}, false
		}
	}
}

// permitted asks the authorizer again. While it is unavailable, the stream stays
// open and sends no events.
func (p *pump) permitted() bool {
	for {
		err := p.allowed()
		if err == nil {
			p.asked = time.Now()
			return true
		}
		if !p.unavailable(err) || !p.pause() {
			return false
		}
	}
}

// unavailable reports whether err means that the store is unavailable for now.
func (p *pump) unavailable(err error) bool {
	return p.hub.opts.Unavailable(err) || errors.Is(err, context.DeadlineExceeded)
}

// pause waits for streamPause and sends heartbeats. It reports whether the stream
// continues.
func (p *pump) pause() bool {
	timer := time.NewTimer(streamPause)
	defer timer.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return false
		case <-p.beat.C:
			if !p.heartbeat() {
				return false
			}
		case <-timer.C:
			return true
		}
	}
}

func (p *pump) heartbeat() bool { return p.send(sse.AppendComment(nil, "heartbeat")) == nil }

// send writes and flushes whole frames.
func (p *pump) send(frames ...[]byte) error {
	if len(frames) == 0 {
		return nil
	}
	if err := p.setDeadline(true); err != nil {
		return err
	}
	for _, f := range frames {
		if _, err := p.w.Write(f); err != nil {
			return err
		}
	}
	if err := p.controller.Flush(); err != nil {
		return err
	}
	return p.setDeadline(false) // HTTP/2 would reset an idle stream
}

// setDeadline gives the writes that follow their time, or lifts the deadline.
func (p *pump) setDeadline(on bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var at time.Time
	if on {
		at = time.Now().Add(p.timeout)
	}
	return p.controller.SetWriteDeadline(at)
}

// hurry ends the stream soon, from another goroutine. A write that is stalled
// does not hold up the process.
func (p *pump) hurry() {
	p.cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timeout = min(p.timeout, streamHurry)
	if !p.over {
		_ = p.controller.SetWriteDeadline(time.Now().Add(p.timeout))
	}
}

// close is the end. What completes the answer is written after the handler: a
// reader who has stalled is not to hold that up either.
func (p *pump) close() {
	p.hub.end(p)
	p.cancel()
	_ = p.setDeadline(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
}

// writerRemedy is the remedy for a writer that cannot stream.
const writerRemedy = "serve event streams outside of http.TimeoutHandler and of middleware whose writer has no Unwrap method"

// writerTypes names the type of w, and of the writer that it wraps in the end.
func writerTypes(w http.ResponseWriter) string {
	inner := w
	for {
		wrapper, ok := inner.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		inner = wrapper.Unwrap()
	}
	if inner == w {
		return fmt.Sprintf("%T", w)
	}
	return fmt.Sprintf("%T around %T", w, inner)
}

// canFlush reports whether w, or a writer that it wraps, can flush. Asking the
// controller would commit the answer.
func canFlush(w http.ResponseWriter) bool {
	for {
		switch v := w.(type) {
		case interface{ FlushError() error }, http.Flusher:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = v.Unwrap()
		default:
			return false
		}
	}
}
