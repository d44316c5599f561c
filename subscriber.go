package webtrigger

import (
	"context"
	"net/http"
	"time"
)

// burstBytes is about how much is written under one deadline.
const burstBytes = 64 << 10

// subscriber is one reader of a tail; see tail.go for the protocol.
type subscriber struct {
	tail  *tail
	query EventQuery // the cursors
	pos   int64      // the last event dealt with, sent or not
	page  view       // what is left of a page of its own; inside is false without one
}

// burst is what a subscriber sends next, if anything.
type burst struct {
	frames [][]byte
	last   bool            // and then the stream ends
	wake   <-chan struct{} // else, when to ask for more
}

// first is next by a read of the subscriber's own, so that the store says
// whether the conversation and the run exist.
func (sub *subscriber) first(ctx context.Context) (burst, error) {
	if err := sub.readPage(ctx, sub.tail.look(0).hints); err != nil {
		return burst{}, err
	}
	return sub.next(ctx)
}

// next returns what comes after the position, and moves it.
func (sub *subscriber) next(ctx context.Context) (burst, error) {
	if !sub.page.inside {
		v := sub.tail.look(sub.pos)
		if v.inside {
			return sub.take(&v), nil
		}
		if err := sub.readPage(ctx, v.hints); err != nil {
			return burst{}, err
		}
	}
	b := sub.take(&sub.page)
	if len(sub.page.frames) == 0 {
		sub.page = view{}
	}
	return b, nil
}

// readPage reads a page of the subscriber's own; hints is from before.
func (sub *subscriber) readPage(ctx context.Context, hints int) error {
	hub := sub.tail.hub
	query := sub.query
	query.AfterID = max(query.AfterID, sub.pos)
	query.Limit, query.MaxBytes = hub.pageSize, hub.windowBytes
	page, err := hub.events(ctx, query)
	if err != nil {
		return err
	}
	sub.page = view{inside: true, frames: hub.encode(page.Events), wake: hub.now}
	if page.More {
		sub.page.head = page.Events[len(page.Events)-1].ID
		return nil
	}
	// Events up to the log's end that are not in the page do not pass the
	// cursors: they are dealt with.
	sub.page.head, sub.page.ended = page.LastID, page.Ended
	sub.tail.anchor(page.LastID, page.Ended && query.RunID == 0, hints)
	return nil
}

// take moves the position through v, about a burst far.
func (sub *subscriber) take(v *view) burst {
	b := burst{wake: v.wake}
	size := 0
	for len(v.frames) > 0 && size < burstBytes {
		f := v.frames[0]
		v.frames = v.frames[1:]
		sub.pos = f.id
		if sub.passes(&f) {
			b.frames = append(b.frames, f.data)
			size += len(f.data)
		}
		if f.terminal && f.runID == sub.query.RunID {
			b.last = true // also when a cursor hides it
			return b
		}
	}
	if len(v.frames) > 0 {
		b.wake = sub.tail.hub.now
		return b
	}
	// A page of its own may have led the subscriber beyond the tail's head; what
	// the tail says is then of the past.
	b.last = v.ended && sub.pos <= v.head
	sub.pos = max(sub.pos, v.head)
	return b
}

func (sub *subscriber) passes(f *frame) bool {
	q := &sub.query
	return (q.RunID == 0 || f.runID == q.RunID) && f.id > q.AfterID && f.sequence > q.AfterSequence
}

// streamWriter writes bursts, each under its own deadline, so that a reader who
// stalls is cut off and http.Server.WriteTimeout cuts off nobody.
type streamWriter struct {
	w          http.ResponseWriter
	controller *http.ResponseController
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

// deadline gives the next writes streamWriteTimeout.
func (s streamWriter) deadline() error {
	return s.controller.SetWriteDeadline(time.Now().Add(streamWriteTimeout))
}

// send writes and flushes whole frames.
func (s streamWriter) send(frames ...[]byte) error {
	if len(frames) == 0 {
		return nil
	}
	if err := s.deadline(); err != nil {
		return err
	}
	for _, f := range frames {
		if _, err := s.w.Write(f); err != nil {
			return err
		}
	}
	if err := s.controller.Flush(); err != nil {
		return err
	}
	return s.controller.SetWriteDeadline(time.Time{}) // HTTP/2 would reset an idle stream
}
