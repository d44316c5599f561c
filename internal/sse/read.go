package sse

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"time"
)

// ErrTooLong reports that an event is larger than the limit of its reader.
var ErrTooLong = errors.New("sse: event too long")

// Event is one event as a reader gets to see it.
type Event struct {
	ID   string // the last id that the stream has set, by this event or before
	Name string // "": a message
	Data []byte // the reader's own
}

// Reader interprets a stream as the HTML standard defines it (9.2.6, "Interpreting an
// event stream").
type Reader struct {
	in       *bufio.Reader
	max      int
	tolerant bool
	started  bool
	afterCR  bool
	line     []byte
	id       string
	retry    time.Duration
}

// NewReader returns a Reader of a stream whose events have at most max bytes.
func NewReader(r io.Reader, max int) *Reader {
	return &Reader{in: bufio.NewReader(r), max: max}
}

// NewTolerantReader returns a Reader that also accepts what servers of models send
// beyond the standard: a last event without its blank line, a line of JSON without a
// field name, and the field error, which llama.cpp uses for an event named error.
func NewTolerantReader(r io.Reader, max int) *Reader {
	reader := NewReader(r, max)
	reader.tolerant = true
	return reader
}

// Retry is how long the stream has asked to wait before a reconnection; 0: it
// has not.
func (r *Reader) Retry() time.Duration { return r.retry }

// Next returns the next event, or the error that ended the stream. An event that
// was not complete then is lost. In this case, the error may be io.EOF too.
func (r *Reader) Next() (Event, error) {
	var e Event
	var data []byte
	some := false
	for {
		err := r.readLine()
		last := err == io.EOF && r.tolerant && (some || len(r.line) > 0)
		if err != nil && !last {
			return Event{}, err
		}
		if len(r.line) == 0 {
			if some {
				e.ID, e.Data = r.id, bytes.TrimSuffix(data, []byte("\n"))
				return e, nil
			}
			e.Name = ""
			continue
		}
		field, value, _ := bytes.Cut(r.line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		if r.tolerant {
			switch {
			case string(field) == "error":
				e.Name, field = "error", []byte("data")
			case r.line[0] == '{':
				field, value = []byte("data"), r.line
			}
		}
		switch string(field) {
		case "event":
			e.Name = string(value)
		case "data":
			some = true
			if len(data)+len(value) >= r.max {
				return Event{}, ErrTooLong
			}
			data = append(append(data, value...), '\n')
		case "id":
			if !bytes.Contains(value, []byte{0}) {
				r.id = string(value)
			}
		case "retry":
			if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil && value[0] != '+' {
				r.retry = time.Duration(ms) * time.Millisecond
			}
		}
	}
}

var bom = []byte("\xef\xbb\xbf")

// readLine reads into line what stands before the next CR, LF or CR LF. It does
// not wait for what follows a CR.
func (r *Reader) readLine() error {
	r.line = r.line[:0]
	if !r.started {
		r.started = true
		if head, _ := r.in.Peek(len(bom)); bytes.Equal(head, bom) {
			_, _ = r.in.Discard(len(bom))
		}
	}
	for {
		if _, err := r.in.Peek(1); err != nil {
			return err
		}
		chunk, _ := r.in.Peek(r.in.Buffered())
		if r.afterCR {
			r.afterCR = false
			if chunk[0] == '\n' {
				_, _ = r.in.Discard(1)
				continue
			}
		}
		end := bytes.IndexAny(chunk, "\r\n")
		if end < 0 {
			r.line = append(r.line, chunk...)
			_, _ = r.in.Discard(len(chunk))
			if len(r.line) > r.max {
				return ErrTooLong
			}
			continue
		}
		r.line = append(r.line, chunk[:end]...)
		r.afterCR = chunk[end] == '\r'
		_, _ = r.in.Discard(end + 1)
		return nil
	}
}
