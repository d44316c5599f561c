package vendorhttp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// CheckBody returns a copy of the fields that a host adds to a body.
func CheckBody(more map[string]json.RawMessage) (map[string]json.RawMessage, error) {
	for name, value := range more {
		if !json.Valid(value) {
			return nil, fmt.Errorf("value of Body[%q] must be JSON", name)
		}
	}
	return maps.Clone(more), nil
}

// Body is the JSON of a body with further fields. They replace its own, and null
// removes a field. Text is not escaped for HTML, so that it costs no tokens.
func Body(body map[string]any, more map[string]json.RawMessage) ([]byte, error) {
	for name, value := range more {
		if string(bytes.TrimSpace(value)) == "null" {
			delete(body, name)
			continue
		}
		body[name] = value
	}
	return wire.Marshal(body)
}
