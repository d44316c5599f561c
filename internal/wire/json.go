package wire

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"
)

// timeLayout is RFC 3339 with a numeric offset, microseconds, and no fraction
// when it is zero.
const timeLayout = "2006-01-02T15:04:05.999999-07:00"

// FormatTime writes a time in UTC, never with Z.
func FormatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

// NullableTime is nil, which JSON shows as null, for the zero time.
func NullableTime(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := FormatTime(t)
	return &s
}

// NullableString is nil for the empty string.
func NullableString(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Marshal is json.Marshal without HTML escaping: <, > and & stay as they are,
// and so does every lexeme inside a json.RawMessage.
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// WriteJSON responds with v as JSON. Caches do not store the response, unless
// the handler has set Cache-Control.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	body, err := Marshal(v)
	if err != nil {
		return err
	}
	WriteBody(w, status, "application/json", body)
	return nil
}

// WriteBody answers with body.
func WriteBody(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // an error here is the client's absence
}
