package modeltest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// Turn plays one answer of a server.
type Turn func(w *Wire)

// Check rejects the requests that a vendor rejects. It returns nil for a valid one.
type Check func(r *http.Request, body map[string]any) *Rejection

// Server is a vendor's API: a handler that checks each request as the vendor does
// and answers the valid ones with its turns, in order.
type Server struct {
	check Check

	mu       sync.Mutex
	turns    []Turn
	requests []Request
}

// NewServer returns a server that checks requests with check.
func NewServer(check Check, turns ...Turn) *Server { return &Server{turns: turns, check: check} }

// Request is a request that a server received.
type Request struct {
	Path   string
	Query  string // as it was sent
	Header http.Header
	Raw    string // the body
	Body   map[string]any
}

// Rejection is the response to a rejected request: a status and the vendor's document.
type Rejection struct {
	Status   int
	Document any
}

// ServeHTTP answers one request. A rejected request does not use a turn. If no turns
// are left, the response is 501.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has disconnected
	}
	var body map[string]any
	if err := json.Unmarshal(raw, &body); err != nil {
		http.Error(w, "the body is not a JSON object", http.StatusBadRequest)
		return
	}
	wire := &Wire{w: w, r: r, body: body}
	turn, rejection := s.next(r, string(raw), body)
	switch {
	case rejection != nil:
		wire.JSON(rejection.Status, rejection.Document)
	case turn == nil:
		http.Error(w, "the test has no answer for this request", http.StatusNotImplemented)
	default:
		turn(wire)
	}
}

func (s *Server) next(r *http.Request, raw string, body map[string]any) (Turn, *Rejection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, Request{Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header.Clone(), Raw: raw, Body: body})
	if rejection := s.check(r, body); rejection != nil {
		return nil, rejection
	}
	if len(s.turns) == 0 {
		return nil, nil
	}
	turn := s.turns[0]
	s.turns = s.turns[1:]
	return turn, nil
}

// Requests returns the requests that the server has received.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Wire is the response that a turn writes.
type Wire struct {
	w       http.ResponseWriter
	r       *http.Request
	started bool
	body    map[string]any
}

// Body is the body of the request.
func (w *Wire) Body() map[string]any { return w.body }

// Header sets a header of the response.
func (w *Wire) Header(name, value string) { w.w.Header().Set(name, value) }

// JSON answers with a document. It sends a string as it is.
func (w *Wire) JSON(status int, document any) {
	w.Header("Content-Type", "application/json")
	w.w.WriteHeader(status)
	if text, ok := document.(string); ok {
		_, _ = io.WriteString(w.w, text)
		return
	}
	_ = json.NewEncoder(w.w).Encode(document)
}

// Plain answers with a body of any kind, as a proxy does.
func (w *Wire) Plain(status int, kind, body string) {
	w.Header("Content-Type", kind)
	w.w.WriteHeader(status)
	_, _ = io.WriteString(w.w, body)
}

// Raw writes a piece of an event stream as it is and sends it off.
func (w *Wire) Raw(text string) {
	if !w.started {
		w.started = true
		w.Header("Content-Type", "text/event-stream; charset=utf-8")
		w.Header("Cache-Control", "no-cache")
	}
	_, _ = io.WriteString(w.w, text)
	_ = http.NewResponseController(w.w).Flush()
}

// Event writes an event. It omits a name of "" and marshals data that is not a
// string.
func (w *Wire) Event(name string, data any) {
	text, ok := data.(string)
	if !ok {
		raw, err := json.Marshal(data)
		if err != nil {
			panic(err)
		}
		text = string(raw)
	}
	if name != "" {
		name = "event: " + name + "\n"
	}
	w.Raw(fmt.Sprintf("%sdata: %s\n\n", name, text))
}

// Cut breaks the connection in the middle of the response.
func (w *Wire) Cut() { panic(http.ErrAbortHandler) }

// Hang waits until the client has disconnected.
func (w *Wire) Hang() { <-w.r.Context().Done() }

// Disconnected returns a channel that is closed when the client has disconnected.
func (w *Wire) Disconnected() <-chan struct{} { return w.r.Context().Done() }

// Reject returns a turn that rejects any request. Headers are names, each followed
// by its value.
func Reject(status int, document any, headers ...string) Turn {
	return func(w *Wire) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header(headers[i], headers[i+1])
		}
		w.JSON(status, document)
	}
}
