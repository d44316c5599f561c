package client

import (
	"encoding/json"
	"strings"
)

// TextCollector collects the text that runs stream, from their events:
//
//	var text client.TextCollector
//	for event, err := range c.Stream(ctx, id) {
//		if err == nil {
//			text.Add(event)
//			show(text.Text(event.RunID))
//		}
//	}
//
// The message_delta events of a run are the pieces of its current message. A
// message ends with message_completed, and the next message_delta begins another
// one. A run that was requeued begins another attempt with run_started: the pieces of
// a message that was not complete are dropped. The last message of a completed run is its
// result, if the Runner streams its result.
//
// The zero value is ready to use. It is not safe for concurrent use.
type TextCollector struct {
	runs map[int64]*runText
}

// runText is the message that a run streams.
type runText struct {
	sequence int64           // of the last event
	text     strings.Builder // of the current message
	whole    bool            // the message is complete; the next piece begins another one
	missing  bool            // events of the message are missing
}

// Add adds an event, from a stream of one run or of a whole conversation. An event
// that was added before changes nothing. Add detects by the sequence that events are
// missing: they were purged, or the stream began after them.
func (c *TextCollector) Add(e Event) {
	r := c.runs[e.RunID]
	if r == nil {
		r = new(runText)
		if c.runs == nil {
			c.runs = make(map[int64]*runText)
		}
		c.runs[e.RunID] = r
	}
	if e.Sequence <= r.sequence {
		return
	}
	if e.Sequence != r.sequence+1 {
		r.set("")
		r.missing = true
	}
	r.sequence = e.Sequence
	switch e.Type {
	case "run_started":
		if !r.whole {
			r.set("")
		}
	case "message_delta":
		if r.whole {
			r.set("")
		}
		if text := textOf(e.Payload); text != nil && !r.missing {
			r.text.WriteString(*text)
		}
	case "message_completed":
		r.complete(textOf(e.Payload))
	case "run_completed":
		r.whole = !r.missing
	}
}

// Text returns the text of a run's current message so far. complete reports whether
// the message is complete: its message_completed was added, or the run has
// completed. If events of the message are missing, the text is empty until the
// message is complete or another one begins. An unknown run has no text.
func (c *TextCollector) Text(runID int64) (text string, complete bool) {
	r := c.runs[runID]
	if r == nil {
		return "", false
	}
	return r.text.String(), r.whole
}

// set begins a message with a text.
func (r *runText) set(text string) {
	r.text.Reset()
	r.text.WriteString(text)
	r.whole, r.missing = false, false
}

// complete ends the message. nil: the event has no text. A text that is too long
// for one event comes shortened, with an ellipsis at its end; the pieces are whole.
func (r *runText) complete(text *string) {
	if text != nil {
		head, cut := strings.CutSuffix(*text, "…")
		if pieces := r.text.String(); !cut || len(pieces) <= len(*text) || !strings.HasPrefix(pieces, head) {
			r.set(*text)
		}
		r.missing = false
	}
	r.whole = !r.missing
}

// textOf returns the text of a payload. nil: it has none.
func textOf(payload json.RawMessage) *string {
	var p struct {
		Text *string `json:"text"`
	}
	if json.Unmarshal(payload, &p) != nil {
		return nil
	}
	return p.Text
}
