package mcptools

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
)

// rejection is a response with an error status that is not a JSON-RPC response to
// the request.
type rejection struct {
	status int
	detail string // "": none

	// lost reports that the server has no session of the request's id, so that it has
	// not executed the request.
	lost bool

	// doubtful reports that the session may be lost. It is not known whether the
	// server has executed the request.
	doubtful bool
}

func (r *rejection) Error() string {
	text := fmt.Sprintf("server responded with status %d %s", r.status, http.StatusText(r.status))
	if r.detail != "" {
		text += ": " + r.detail
	}
	if r.status >= 500 && !r.lost {
		text += " (it is not known whether the call was executed)"
	}
	return text
}

// maxRejection bounds what is read of a response with an error status, and maxDetail
// what is quoted of it, in bytes.
const (
	maxRejection = 64 << 10
	maxDetail    = 300
)

// rejected decides what a response with an error status means for the session:
//
//	status            session  call
//	404               lost     not executed, repeated (by the protocol)
//	400 with a text   lost     not executed, repeated
//	500 with a text   lost     not executed, repeated
//	400, 405, 410, 500 doubtful reported; the next call opens another session
//	401, 403          kept     reported
//	429, 502 to 504   kept     reported
//
// The text is one about the session. A JSON-RPC error with the id of the call shows
// that the server has handled the call in the session. Then the session is kept,
// except on 404 with a text.
func (t *roundTripper) rejected(r *http.Request, response *http.Response, call json.RawMessage) (*http.Response, error) {
	data, _ := io.ReadAll(io.LimitReader(response.Body, maxRejection))
	_ = response.Body.Close()
	own := false
	detail := string(data)
	for _, one := range parse(data) {
		if !isObject(one["error"]) {
			continue
		}
		own = call != nil && bytes.Equal(normalID(one["id"]), call)
		var fields message
		_ = json.Unmarshal(one["error"], &fields)
		detail = text(fields["message"])
		if own {
			data = t.filter.pass(one)
		}
	}
	found := &rejection{status: response.StatusCode, detail: shorten(detail, response.Header.Get("Content-Type"))}
	if r.Header.Get("Mcp-Session-Id") != "" {
		aboutSession := sessionText.MatchString(detail)
		switch response.StatusCode {
		case http.StatusNotFound:
			found.lost = !own || aboutSession
		case http.StatusBadRequest, http.StatusInternalServerError:
			found.lost = !own && aboutSession
			found.doubtful = !own && !aboutSession
		case http.StatusMethodNotAllowed, http.StatusGone:
			found.doubtful = !own
		}
	}
	if own && !found.lost {
		// The SDK ignores the body of some statuses.
		response.StatusCode = http.StatusOK
		return withBody(response, data), nil
	}
	return nil, found
}

// sessionText matches the texts about a session that a server does not have, such
// as "No valid session ID provided", "Session not found" and "Server not
// initialized".
var sessionText = regexp.MustCompile(`(?i)` +
	`\b(no valid|no such|invalid|unknown|missing|expired|unrecognized|bad|no)\s+(active\s+)?(mcp[- ]?)?session\b` +
	`|\bsession([- ]?id)?\b['":\s\w-]{0,80}\b(not found|not exist|no longer|invalid|unknown|expired|missing|terminated|closed|not valid|not recognized|not initialized|does ?n.t exist)\b` +
	`|\bserver (is )?not (yet )?initialized\b`)

// shorten returns the text of a body for a log or a model. Pages in HTML have none.
func shorten(s, contentType string) string {
	if strings.Contains(contentType, "html") {
		return ""
	}
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "\uFFFD")), " ")
	if len(s) > maxDetail {
		s = strings.ToValidUTF8(s[:maxDetail], "") + "…"
	}
	return s
}
