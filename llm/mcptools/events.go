package mcptools

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/webtrigger-go/webtrigger/internal/sse"
)

// events is the body of a response that streams, with the events that the SDK can
// use.
type events struct {
	io.Closer
	in     *sse.Reader
	filter *filter
	call   json.RawMessage // the id of the call; nil: not a call
	id     string          // the last one that was written
	retry  int64
	out    []byte
	err    error
}

func newEvents(body io.ReadCloser, f *filter, call json.RawMessage) *events {
	return &events{Closer: body, in: sse.NewReader(body, maxAnswer), filter: f, call: call}
}

func (e *events) Read(p []byte) (int, error) {
	for len(e.out) == 0 {
		if e.err != nil {
			return 0, e.err
		}
		event, err := e.in.Next()
		switch {
		case errors.Is(err, sse.ErrTooLong):
			e.filter.notes.skipped("event too long", maxAnswer)
			e.err = io.EOF
			if e.call != nil {
				e.write(event.ID, failure(e.call, fmt.Sprintf("response of the server has more than %d bytes", maxAnswer)))
			}
		case err != nil:
			e.err = err
		default:
			e.accept(event)
		}
	}
	n := copy(p, e.out)
	e.out = e.out[n:]
	return n, nil
}

func (e *events) accept(event sse.Event) {
	if event.Name != "" && event.Name != "message" {
		return
	}
	messages := parse(event.Data)
	if messages == nil && len(bytes.TrimSpace(event.Data)) > 0 {
		e.filter.notes.skipped("event is not a JSON-RPC message", len(event.Data))
	}
	passed := false
	for _, one := range messages {
		if data := e.filter.pass(one); data != nil {
			passed = true
			e.write(event.ID, data)
		}
	}
	if !passed && event.ID != e.id {
		e.write(event.ID, nil) // the stream can be resumed after it
	}
}

func (e *events) write(id string, data []byte) {
	if retry := e.in.Retry().Milliseconds(); retry != e.retry {
		e.retry = retry
		e.out = append(e.out, "retry: "+strconv.FormatInt(retry, 10)+"\n"...)
	}
	if id != e.id {
		e.id = id
		e.out = append(e.out, "id: "+id+"\n"...)
	}
	e.out = append(append(append(e.out, "data: "...), data...), "\n\n"...)
}
