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

// Judge rejects the requests that a vendor rejects. It returns nil for a good one.
type Judge func(r *http.Request, body map[string]any) *Refusal

// Server is a vendor's API: a handler that judges each request as the vendor does
// and answers the good ones with its turns, in order.
type Server struct {
	judge Judge

	mu       sync.Mutex
	turns    []Turn
	requests []Request
}

// NewServer returns a server that judges requests by judge.
func NewServer(judge Judge, turns ...Turn) *Server { return &Server{turns: turns, judge: judge} }

// Request is what a server was asked.
type Request struct {
	Path   string
	Query  string // as it was sent
	Header http.Header
	Raw    string // the body
	Body   map[string]any
}

// Refusal is a request's refusal: a status and the vendor's document.
type Refusal struct {
	Status   int
	Document any
}

// ServeHTTP answers one request. Refused ones use no turn; one too many is a 501.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	var body map[string]any
	if err := json.Unmarshal(raw, &body); err != nil {
		http.Error(w, "the body is no JSON object", http.StatusBadRequest)
		return
	}
	wire := &Wire{w: w, r: r, body: body}
	turn, refusal := s.next(r, string(raw), body)
	switch {
	case refusal != nil:
		wire.JSON(refusal.Status, refusal.Document)
	case turn == nil:
		http.Error(w, "the test has no answer for this request", http.StatusNotImplemented)
	default:
		turn(wire)
	}
}

func (s *Server) next(r *http.Request, raw string, body map[string]any) (Turn, *Refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, Request{Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header.Clone(), Raw: raw, Body: body})
	if refusal := s.judge(r, body); refusal != nil {
		return nil, refusal
	}
	if len(s.turns) == 0 {
		return nil, nil
	}
	turn := s.turns[0]
	s.turns = s.turns[1:]
	return turn, nil
}

// Requests is what the server was asked so far.
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

// JSON answers with a document; a string is sent as it is.
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

// Event writes an event; a name of "" is left out, data that is no string is
// marshalled.
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

// Hang waits until the client is gone.
func (w *Wire) Hang() { <-w.r.Context().Done() }

// Gone is closed when the client is gone.
func (w *Wire) Gone() <-chan struct{} { return w.r.Context().Done() }

// Refuse is a turn that refuses whatever was asked. Headers are name and value in
// turn.
func Refuse(status int, document any, headers ...string) Turn {
	return func(w *Wire) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header(headers[i], headers[i+1])
		}
		w.JSON(status, document)
	}
}
