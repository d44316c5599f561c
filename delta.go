package webtrigger

import (
	"bytes"
	"time"
)

// A model streams its text in pieces of a few characters. An event for each would
// cost a row, a frame and a wake-up for each, so pieces that follow one another
// become one message_delta:
//
//	piece     a    b c d      e         f
//	          │    └─┴─┴──────┤         │
//	event     a            b c d e      f
//	          ├── interval ──┤          after a pause at once
//
// A piece is stored at once when the interval since the last delta has passed,
// otherwise when it has, or when the next piece would make it larger than
// maxDelta, or when another event comes, which it must not be overtaken by, or when the run ends.
// The texts of a run's deltas, put together, are the pieces put together.

// maxDelta is how large a delta may grow by putting pieces together, in bytes.
const maxDelta = 4 << 10

// delta is what an emitter knows of the text that streams. Its mu guards it.
type delta struct {
	interval time.Duration // 0 or less: each piece is an event
	open     bool          // the last pending event is a delta that may still grow
	rest     time.Time     // until when a delta waits
	timer    *time.Timer   // wakes the emitter then; nil: not running
}

var deltaHead, deltaEnd = []byte(`{"text":"`), []byte(`"}`)

// isDelta reports whether the event's payload is a text and nothing else, in the
// form that newEvent gives it.
func isDelta(e NewEvent) bool {
	if e.Type != EventMessageDelta || len(e.Payload) >= maxDelta ||
		!bytes.HasPrefix(e.Payload, deltaHead) || !bytes.HasSuffix(e.Payload, deltaEnd) {
		return false
	}
	text := e.Payload[len(deltaHead):]
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i == len(text)-len(deltaEnd)
		}
	}
	return false
}

// grow puts the text of next to that of the open delta d, and reports whether it
// did. What stands between the quotes is put together as it is: no escape lies
// across a border, since newEvent leaves no half of a surrogate pair.
func (o *delta) grow(d *NewEvent, next NewEvent) bool {
	if !isDelta(next) || len(d.Payload)+len(next.Payload) > maxDelta {
		return false
	}
	d.Payload = append(d.Payload[:len(d.Payload)-len(deltaEnd)], next.Payload[len(deltaHead):]...)
	return true
}

// waits reports whether the open delta is to wait for more text, and has wake
// called when not any more.
func (o *delta) waits(wake func()) bool {
	wait := time.Until(o.rest)
	if wait <= 0 {
		return false
	}
	if o.timer == nil {
		o.timer = time.AfterFunc(wait, wake)
	} else {
		o.timer.Reset(wait)
	}
	return true
}

// taken says that all was taken to be stored, last the last of it.
func (o *delta) taken(last NewEvent) {
	o.open = false
	if last.Type == EventMessageDelta {
		o.rest = time.Now().Add(o.interval)
	}
}

// stop ends the waiting.
func (o *delta) stop() {
	if o.timer != nil {
		o.timer.Stop()
	}
}
