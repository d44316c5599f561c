package vendorhttp

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/webtrigger-go/webtrigger/internal/sse"
)

// Event is one JSON document of a response.
type Event struct {
	Name string // of the stream's event; "": none
	Data []byte // "[DONE]": the end of the stream, by the server's own mark
}

// Done is the data of the event by which most servers end a stream.
const Done = "[DONE]"

// Events reads the documents of a response: those of an event stream, whatever the
// response is labelled, or those of a body that is JSON itself. A server that does
// not stream answers with the latter.
type Events struct {
	call    *Call
	kind    string
	in      *bufio.Reader
	stream  *sse.Reader // nil: not known yet, or the body is JSON
	started bool
	pending []Event
	body    []byte // of a response that is JSON itself
}

func newEvents(c *Call, kind string, body io.Reader) *Events {
	return &Events{call: c, kind: kind, in: bufio.NewReader(body)}
}

// Document reports whether the response is JSON itself, not a stream.
func (e *Events) Document() bool { return e.call.document }

// Next returns the next document, io.EOF after the last one, or an error for the
// caller of the model.
func (e *Events) Next() (Event, error) {
	if !e.started {
		e.started = true
		if err := e.start(); err != nil {
			return Event{}, e.call.Failed(err)
		}
	}
	for len(e.pending) == 0 {
		if e.stream == nil {
			return Event{}, io.EOF
		}
		event, err := e.stream.Next()
		switch {
		case err == io.EOF:
			return Event{}, io.EOF
		case errors.Is(err, sse.ErrTooLong):
			return Event{}, e.call.TooLarge()
		case err != nil:
			return Event{}, e.call.Failed(err)
		}
		e.pending = documents(event.Name, event.Data)
	}
	next := e.pending[0]
	e.pending = e.pending[1:]
	return next, nil
}

// start checks the first byte that is not white space. A line of an event stream never
// begins like a JSON document.
func (e *Events) start() error {
	for {
		first, err := e.in.Peek(1)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch first[0] {
		case ' ', '\t', '\r', '\n':
			_, _ = e.in.Discard(1)
			continue
		case '{', '[':
			e.call.document = true
			text, err := io.ReadAll(io.LimitReader(e.in, maxEvent))
			if err != nil {
				return err
			}
			e.body, e.pending = text, documents("", text)
			return nil
		}
		e.stream = sse.NewTolerantReader(e.in, maxEvent)
		return nil
	}
}

// documents splits data that holds several documents: some servers omit the blank
// line between events. Data that is not JSON stays unchanged.
func documents(name string, data []byte) []Event {
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return nil
	}
	if json.Valid(data) || !bytes.ContainsRune(data, '\n') {
		return []Event{{name, data}}
	}
	var events []Event
	for line := range bytes.Lines(data) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if !json.Valid(line) && string(line) != Done {
			return []Event{{name, data}}
		}
		events = append(events, Event{name, line})
	}
	return events
}
