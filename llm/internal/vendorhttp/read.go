package vendorhttp

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
)

// errMalformed is the error of an event that cannot be read. Malformed wraps it.
var errMalformed = errors.New("not a document of the API")

// Malformed returns the error of an event that cannot be read.
func Malformed(err error) error { return errors.Join(errMalformed, err) }

// Unmarshal reads a JSON object. Members of an unexpected type are skipped. Any other
// document is malformed.
func Unmarshal(data []byte, to any) error {
	err := json.Unmarshal(data, to)
	if odd := new(json.UnmarshalTypeError); errors.As(err, &odd) && bytes.HasPrefix(data, []byte("{")) {
		return nil
	}
	if err != nil {
		return Malformed(err)
	}
	return nil
}

// ErrDone ends the reading of an answer: nothing that matters follows.
var ErrDone = errors.New("done")

// Read feeds the documents of a response to add until the answer is complete. An error
// document ends it. common is a member that the documents of an answer have. Documents
// that have it and mention no error are not searched for one.
func (a *Answer) Read(events *Events, common string, add func(data []byte) error) error {
	common = strconv.Quote(common)
	for {
		event, err := events.Next()
		if err == nil && string(event.Data) == Done {
			a.whole = a.MayLackReason
			err = io.EOF
		}
		if err == io.EOF {
			return a.over(events)
		}
		if err != nil {
			return a.unless(err)
		}
		if a.isFault(event, common) {
			return a.unless(a.call.InStream(event.Data))
		}
		switch err := add(event.Data); {
		case err == nil:
		case err == ErrDone:
			return a.over(events)
		case errors.Is(err, errMalformed):
			return a.unless(a.call.Failed(err))
		default:
			return a.call.ended(err)
		}
	}
}

func (a *Answer) isFault(event Event, common string) bool {
	if event.Name == "error" {
		return true
	}
	if bytes.Contains(event.Data, []byte(common)) && !bytes.Contains(event.Data, []byte(`"error`)) {
		return false
	}
	_, ok := ReadFault(event.Data)
	return ok
}

// over is the result of a response that was read to its end.
func (a *Answer) over(events *Events) error {
	if events.Document() {
		a.whole = true
		if !a.Ended() && a.size == 0 {
			return a.call.ended(a.call.NoAnswer(events.kind, events.body))
		}
	}
	return a.call.ended(nil)
}

// unless drops the error of an event after a complete answer: a cut, for example,
// changes nothing any more.
func (a *Answer) unless(err error) error {
	if a.Complete() {
		err = nil
	}
	return a.call.ended(err)
}

// Number reads a count; -1 for anything else.
func Number(raw json.RawMessage) int64 {
	s := text(raw)
	if s == "" {
		s = string(raw)
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || !(n >= 0 && n < 1<<53) {
		return -1
	}
	return int64(n)
}
