package webtrigger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// emitter gathers the events and steps of one execution and stores them in batches
// without a timer: a batch is what came while the one before was being stored.
// Only text that streams may wait for more of it, see delta.
type emitter struct {
	ctx   context.Context
	store func(EventBatch) error

	stepping sync.Mutex // held while a step and its events are added

	mu      sync.Mutex // guards what follows
	pending []NewEvent
	size    int // of the pending payloads, in bytes
	steps   []StepRecord
	commit  *commit // of the steps; nil: there are none
	held    bool    // the events of a step are being added: nothing may be stored without the step
	number  int64   // of the last batch handed to store
	failed  error   // the error of store; nothing is stored after it
	closed  bool
	storing chan struct{} // closed when the batch under way is stored; nil: none
	delta   delta
}

// What may wait to be stored before Emit blocks, or Step.
const (
	maxPendingEvents = 512
	maxPendingBytes  = 4 * MaxEventPayloadBytes
)

// commit is the outcome of a batch with steps.
type commit struct {
	done chan struct{} // closed when err is known
	err  error
}

func (c *commit) resolve(err error) {
	if c != nil {
		c.err = err
		close(c.done)
	}
}

// wait returns the outcome, or the cause if the context of the caller or of the run ends
// before.
func (c *commit) wait(caller, run context.Context) error {
	select {
	case <-c.done:
		return c.err
	default:
	}
	select {
	case <-c.done:
		return c.err
	case <-caller.Done():
		return context.Cause(caller)
	case <-run.Done():
		return context.Cause(run)
	}
}

var errEmitClosed = errors.New("webtrigger: emit after the run ended")

// newEmitter returns an emitter in which text waits for at most the interval.
func newEmitter(ctx context.Context, interval time.Duration, store func(EventBatch) error) *emitter {
	return &emitter{ctx: ctx, store: store, delta: delta{interval: interval}}
}

// step records a step together with the events that emit emits. While emit runs, nothing
// is stored, and events are accepted even if the context has ended. So the events and the
// step are in one batch, or in what is left when the emitter is closed.
//
// If emit returns an error, the step is recorded, and step returns the error.
func (e *emitter) step(ctx context.Context, step StepRecord, emit func() error) (c *commit, err error) {
	e.stepping.Lock()
	defer e.stepping.Unlock()
	e.mu.Lock()
	for waits := true; waits && e.storing != nil && len(e.steps) > 0 && e.stepsSize()+step.size() > maxPendingBytes; {
		storing := e.storing
		e.mu.Unlock()
		select {
		case <-storing:
		case <-ctx.Done():
			waits = false
		case <-e.ctx.Done():
			waits = false
		}
		e.mu.Lock()
	}
	e.held = emit != nil
	e.mu.Unlock()
	returned := false // else emit panics
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.held = false
		switch {
		case !returned:
		case e.closed:
			err = errEmitClosed
		case e.failed != nil:
			err = e.failed
		default:
			e.addStep(step)
			if e.commit == nil {
				e.commit = &commit{done: make(chan struct{})}
			}
			c = e.commit
		}
		e.start()
	}()
	if emit != nil {
		err = emit()
	}
	returned = true
	return nil, err
}

// addStep adds a step to those that are pending. A record takes the place of its own start
// mark: a batch has no step twice.
func (e *emitter) addStep(step StepRecord) {
	for i := range e.steps {
		if e.steps[i].Name == step.Name && e.steps[i].Nth == step.Nth {
			e.steps[i] = step
			return
		}
	}
	e.steps = append(e.steps, step)
}

func (e *emitter) stepsSize() (n int) {
	for i := range e.steps {
		n += e.steps[i].size()
	}
	return n
}

// emit records an event that newEvent has made.
func (e *emitter) emit(event NewEvent) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		switch {
		case e.closed:
			return errEmitClosed
		case e.failed != nil:
			return e.failed
		case e.ctx.Err() != nil && !e.held:
			return context.Cause(e.ctx)
		}
		if e.storing == nil || (len(e.pending) < maxPendingEvents && e.size+len(event.Payload) <= maxPendingBytes) {
			break
		}
		storing := e.storing
		e.mu.Unlock()
		select {
		case <-storing:
		case <-e.ctx.Done():
		}
		e.mu.Lock()
	}
	e.add(event)
	e.start()
	return nil
}

// add puts an event behind those that are pending, or its text to the last one;
// mu is held.
func (e *emitter) add(event NewEvent) {
	e.size += len(event.Payload)
	if last := len(e.pending) - 1; e.delta.open && e.delta.grow(&e.pending[last], event) {
		return
	}
	e.delta.open = e.delta.interval > 0 && isDelta(event)
	e.pending = append(e.pending, event)
}

// start stores what may be stored now, unless that is under way; mu is held.
func (e *emitter) start() {
	if _, due := e.ready(); due && e.storing == nil {
		e.storing = make(chan struct{})
		go e.flush()
	}
}

// ready is how many of the pending events may be stored now, and whether a batch is
// due: all events but a text that waits for more. With a step, no text waits. ready has
// wake called when the wait is over; mu is held.
func (e *emitter) ready() (events int, due bool) {
	switch {
	case e.closed || e.failed != nil || e.held:
		return 0, false
	case len(e.steps) > 0:
		return len(e.pending), true
	case len(e.pending) == 0:
		return 0, false
	}
	last := len(e.pending) - 1
	if !e.delta.open || !e.delta.waits(e.wake) {
		return len(e.pending), true
	}
	return last, last > 0
}

// wake is called when a text has waited long enough.
func (e *emitter) wake() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.start()
}

// flush stores batch after batch until nothing is ready.
func (e *emitter) flush() {
	for {
		e.mu.Lock()
		n, due := e.ready()
		if !due {
			close(e.storing)
			e.storing = nil
			e.mu.Unlock()
			return
		}
		batch, commit := e.take(n)
		e.mu.Unlock()

		err := e.store(batch)
		commit.resolve(err)

		e.mu.Lock()
		if e.failed = err; err != nil { // nothing is stored any more
			e.commit.resolve(err)
			e.commit = nil
		}
		close(e.storing)
		e.storing = make(chan struct{})
		e.mu.Unlock()
	}
}

// take makes a batch of the first n pending events and, if these are all, of the steps;
// mu is held.
func (e *emitter) take(n int) (batch EventBatch, c *commit) {
	if n == 0 && len(e.steps) == 0 {
		return EventBatch{}, nil
	}
	e.number++
	batch = EventBatch{Number: e.number, Events: e.pending[:n:n]}
	if n < len(e.pending) {
		open := e.pending[n]
		e.pending, e.size = []NewEvent{open}, len(open.Payload)
		return batch, nil
	}
	batch.Steps, c = e.steps, e.commit
	e.pending, e.size, e.steps, e.commit = nil, 0, nil, nil
	if n > 0 {
		e.delta.taken(batch.Events[n-1])
	}
	return batch, c
}

// close rejects further events and steps. It returns the pending ones, which must be
// stored after the batch in flight.
func (e *emitter) close() EventBatch {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.delta.stop()
	for e.storing != nil {
		storing := e.storing
		e.mu.Unlock()
		<-storing
		e.mu.Lock()
	}
	batch, commit := e.take(len(e.pending))
	commit.resolve(errEmitClosed)
	return batch
}

// newEvent holds what a Runner emits to the rules of events.
func newEvent(typ EventType, payload any) (NewEvent, error) {
	switch typ {
	case EventMessageDelta, EventMessageCompleted, EventToolStarted, EventToolCompleted, EventToolFailed, EventModelCompleted:
	default:
		if !strings.HasPrefix(string(typ), "x_") || len(typ) > 64 || !wire.CleanText(string(typ)) {
			return NewEvent{}, fmt.Errorf("webtrigger: emit: unsupported event type %q: use a documented Runner type or the x_ prefix", typ)
		}
	}
	raw, err := wire.Marshal(payload)
	if err != nil {
		return NewEvent{}, fmt.Errorf("webtrigger: emit %s: %w", typ, err)
	}
	raw = repairEscapes(bytes.ToValidUTF8(raw, []byte("\uFFFD")))
	if len(raw) == 0 || raw[0] != '{' {
		return NewEvent{}, fmt.Errorf("webtrigger: emit %s: the payload is not a JSON object", typ)
	}
	if len(raw) > MaxEventPayloadBytes {
		return NewEvent{}, fmt.Errorf("webtrigger: emit %s: the payload has %d bytes, more than %d", typ, len(raw), MaxEventPayloadBytes)
	}
	return NewEvent{Type: typ, Payload: json.RawMessage(raw)}, nil
}

// repairEscapes makes U+FFFD of what escapes in marshalled JSON may smuggle in: a
// NUL and surrogates without their other half. A backslash that is itself
// escaped begins no escape.
func repairEscapes(raw []byte) []byte {
	if !bytes.Contains(raw, []byte(`\u`)) {
		return raw
	}
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); {
		r, ok := unicodeEscape(raw[i:])
		switch {
		case raw[i] != '\\':
			out = append(out, raw[i])
			i++
		case !ok: // an escape of one letter
			out = append(out, raw[i:i+2]...)
			i += 2
		case utf16.IsSurrogate(r):
			low, _ := unicodeEscape(raw[i+escapeLength:])
			if utf16.DecodeRune(r, low) == utf8.RuneError {
				out = append(out, "\uFFFD"...)
				i += escapeLength
				continue
			}
			out = append(out, raw[i:i+2*escapeLength]...)
			i += 2 * escapeLength
		case r == 0:
			out = append(out, "\uFFFD"...)
			i += escapeLength
		default:
			out = append(out, raw[i:i+escapeLength]...)
			i += escapeLength
		}
	}
	return out
}

const escapeLength = len(`\u0000`)

// unicodeEscape reads the \u escape that raw begins with.
func unicodeEscape(raw []byte) (rune, bool) {
	if len(raw) < escapeLength || raw[0] != '\\' || raw[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(raw[2:escapeLength]), 16, 16)
	return rune(n), err == nil
}

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

// delta is an emitter's state of the text that streams. Its mu guards it.
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
// did. The bytes between the quotes are joined unchanged: no escape lies
// across a border, since newEvent leaves no half of a surrogate pair.
func (o *delta) grow(d *NewEvent, next NewEvent) bool {
	if !isDelta(next) || len(d.Payload)+len(next.Payload) > maxDelta {
		return false
	}
	d.Payload = append(d.Payload[:len(d.Payload)-len(deltaEnd)], next.Payload[len(deltaHead):]...)
	return true
}

// waits reports whether the open delta must wait for more text. It has wake called when
// the wait is over.
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

// taken notes that all pending text was passed to the store. last is the last event of it.
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

// advice logs mistakes of a host that otherwise show only as missing results. Each
// is logged once for a Service, with the remedy.
type advice struct {
	log *slog.Logger

	worker, event, delta sync.Once
	looked               atomic.Int64 // when checkWorkers last acted, in Unix nanoseconds; 0: never
}

// rejected logs an event that Emit rejected. Runners tend to ignore that error.
func (a *advice) rejected(err error) {
	a.event.Do(func() {
		a.log.Warn("event rejected", "error", err, "remedy", "correct the call of Emit, and check the error that it returns")
	})
}

// checkDelta logs a message_delta from which readers can assemble no text.
func (a *advice) checkDelta(e NewEvent) {
	if e.Type != EventMessageDelta || isDelta(e) || bytes.Contains(e.Payload, deltaHead[1:]) {
		return
	}
	var payload struct {
		Text *string `json:"text"`
	}
	if json.Unmarshal(e.Payload, &payload) == nil && payload.Text != nil {
		return
	}
	a.delta.Do(func() {
		a.log.Warn("message_delta without text", "remedy", `emit a payload with the string field "text"`)
	})
}
