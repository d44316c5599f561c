package client

import (
	"bytes"
	"encoding/json"
	"time"
)

// timestamp is a time as JSON has it: RFC 3339, which also allows the letters T and
// Z in lower case. Package time accepts upper case only.
type timestamp struct{ time.Time }

func (t *timestamp) UnmarshalJSON(raw []byte) error {
	if string(raw) == "null" {
		return nil
	}
	return t.Time.UnmarshalJSON(bytes.ToUpper(raw)) // a time has no other letters
}

// UnmarshalJSON decodes the body of a status response.
func (s *Status) UnmarshalJSON(raw []byte) error {
	type fields Status
	body := struct {
		*fields
		CreatedAt   timestamp  `json:"created_at"`
		CompletedAt *timestamp `json:"completed_at"`
	}{fields: (*fields)(s)}
	err := json.Unmarshal(raw, &body)
	s.CreatedAt, s.CompletedAt = body.CreatedAt.Time, nil
	if body.CompletedAt != nil {
		s.CompletedAt = &body.CompletedAt.Time
	}
	return err
}

// UnmarshalJSON decodes the data of a frame of the event stream.
func (e *Event) UnmarshalJSON(raw []byte) error {
	type fields Event
	body := struct {
		*fields
		CreatedAt timestamp `json:"created_at"`
	}{fields: (*fields)(e)}
	err := json.Unmarshal(raw, &body)
	e.CreatedAt = body.CreatedAt.Time
	return err
}

// UnmarshalJSON decodes the body of a callback.
func (c *Callback) UnmarshalJSON(raw []byte) error {
	type fields Callback
	body := struct {
		*fields
		CompletedAt timestamp `json:"completed_at"`
	}{fields: (*fields)(c)}
	err := json.Unmarshal(raw, &body)
	c.CompletedAt = body.CompletedAt.Time
	return err
}
