package webtrigger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// DecodeResult parses the JSON result of a completed run into v, a pointer, as
// encoding/json does; into an any, numbers become json.Number, so that none loses
// a digit. It is an error when the run has not completed, or when its result is no
// JSON, which only a task definition with the output type json rules out.
func (r *Run) DecodeResult(v any) error {
	if r.Status != RunCompleted {
		return fmt.Errorf("webtrigger: decode result: the run is %s", r.Status)
	}
	if !json.Valid([]byte(r.Result)) { // a Decoder would not look at what follows the value
		return errors.New("webtrigger: decode result: it is not JSON")
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(r.Result)))
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("webtrigger: decode result: %w", err)
	}
	return nil
}
