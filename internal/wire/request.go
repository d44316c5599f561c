package wire

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/google/uuid"
)

const requestIDHeader = "X-Request-Id"

// SetRequestID puts the request's id on the answer, and returns it: the
// client's own when it is sane (1 to 128 of A-Z a-z 0-9 - . _ ~ : + / =), else
// a fresh one.
func SetRequestID(w http.ResponseWriter, r *http.Request) string {
	id := SaneRequestID(r.Header.Get(requestIDHeader))
	if id == "" {
		id = uuid.NewString()
	}
	w.Header().Set(requestIDHeader, id)
	return id
}

// RequestID returns the id that SetRequestID put on the answer.
func RequestID(w http.ResponseWriter) string { return w.Header().Get(requestIDHeader) }

// SaneRequestID returns a valid id unchanged, and "" instead of any other.
func SaneRequestID(id string) string {
	if len(id) > 128 {
		return ""
	}
	for i := range len(id) {
		c := id[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~:+/=", c) >= 0:
		default:
			return ""
		}
	}
	return id
}

// ReadJSON reads a body that must be application/json, of at most limit bytes.
// Its errors are Problems (415, then 413) or the connection's.
func ReadJSON(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if fault := mediaTypeFault(r.Header); fault != "" {
		return nil, &Problem{Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type", Detail: fault}
	}
	tooLarge := &Problem{Status: http.StatusRequestEntityTooLarge, Code: "body_too_large",
		Detail: fmt.Sprintf("The body must have at most %d bytes.", limit)}
	if r.ContentLength > limit {
		return nil, tooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var over *http.MaxBytesError
	if errors.As(err, &over) {
		return nil, tooLarge
	}
	if err != nil {
		return nil, BadRequest("incomplete_body", "The request body is incomplete. Send the request again.")
	}
	return body, nil
}

// mediaTypeFault describes the fault in the media type of a body, and what to send
// instead. It returns "" for application/json in UTF-8 without a content coding.
func mediaTypeFault(h http.Header) string {
	const remedy = "Send the header Content-Type: application/json."
	types := h.Values("Content-Type")
	switch {
	case len(types) == 0 || strings.TrimSpace(types[0]) == "":
		return "The request has no Content-Type. " + remedy
	case len(types) > 1:
		return fmt.Sprintf("The request has %d Content-Type headers. Send one: application/json.", len(types))
	}
	if coding := h.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return fmt.Sprintf("The Content-Encoding is %s. Send the body without a content coding.", shown(coding))
	}
	media, params, err := mime.ParseMediaType(types[0])
	if err != nil || media != "application/json" {
		return fmt.Sprintf("The Content-Type is %s. %s", shown(types[0]), remedy)
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return fmt.Sprintf("The charset is %s. Send JSON in UTF-8.", shown(charset))
	}
	return ""
}

// shown makes a header value fit for a problem: short, without control characters.
func shown(value string) string {
	value = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, value)
	if len(value) > 100 {
		value = value[:100] + "…"
	}
	if value == "" {
		return "not readable"
	}
	return value
}
