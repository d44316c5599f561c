package webtriggertest

import (
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

// Callback is one POST that a Receiver received.
type Callback struct {
	Header http.Header
	Body   []byte // the exact bytes, which a client.Verifier needs

	RunKey         string    `json:"run_key"`
	Status         string    `json:"status"`
	StatusDetail   *string   `json:"status_detail"`
	ResultText     *string   `json:"result_text"`
	ErrorMessage   *string   `json:"error_message"`
	ConversationID int64     `json:"conversation_id"`
	EventsURL      string    `json:"events_url"`
	CompletedAt    time.Time `json:"completed_at"`
}

// Fault is a fault of the receiver at one callback, after it was recorded. If it
// writes no response, the response is 200.
type Fault func(w http.ResponseWriter, r *http.Request)

// Status returns a Fault that responds with a status.
func Status(code int) Fault {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// Delay returns a Fault that delays the response, until the sender gives up.
func Delay(d time.Duration) Fault {
	return func(_ http.ResponseWriter, r *http.Request) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		}
	}
}

// Close returns a Fault that closes the connection without a response.
func Close() Fault {
	return func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
}

// Receiver receives callbacks over TLS on a loopback address, with its own
// certificate, until the test ends. A service reaches it if its Options contain it.
// Its methods are safe for concurrent use.
type Receiver struct {
	URL string // https://127.0.0.1:<port>; any path and query may follow

	tb       testing.TB
	roots    *x509.CertPool
	prefixes []netip.Prefix

	mu     sync.Mutex
	faults []Fault
	all    []Callback
	taken  int           // returned by Next
	more   chan struct{} // closed and replaced when a callback arrives
}

// NewReceiver starts a Receiver.
func NewReceiver(tb testing.TB) *Receiver {
	tb.Helper()
	r := &Receiver{tb: tb, roots: x509.NewCertPool(), prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, more: make(chan struct{})}
	server := httptest.NewTLSServer(r)
	tb.Cleanup(server.Close)
	r.roots.AddCert(server.Certificate())
	r.URL = server.URL
	return r
}

// Fault adds faults for the next callbacks, one for each. With a nil
// Fault, the callback is received.
func (r *Receiver) Fault(faults ...Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, faults...)
}

// Callbacks returns the callbacks received so far, in order.
func (r *Receiver) Callbacks() []Callback {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// Next waits for the callback after the one that it returned last.
func (r *Receiver) Next() Callback {
	r.tb.Helper()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		r.mu.Lock()
		if r.taken < len(r.all) {
			r.taken++
			callback := r.all[r.taken-1]
			r.mu.Unlock()
			return callback
		}
		more := r.more
		r.mu.Unlock()
		select {
		case <-more:
		case <-timer.C:
			r.tb.Fatalf("webtriggertest: no callback received within %v", wait)
		}
	}
}

// ServeHTTP records one callback.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	callback := Callback{Header: req.Header.Clone(), Body: body}
	if err == nil {
		err = json.Unmarshal(body, &callback)
	}
	if err != nil || req.Method != http.MethodPost {
		r.tb.Errorf("webtriggertest: receive %s %s: not a callback: %v", req.Method, req.URL, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if fault := r.record(callback); fault != nil {
		fault(w, req)
	}
}

func (r *Receiver) record(callback Callback) (fault Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, callback)
	close(r.more)
	r.more = make(chan struct{})
	if len(r.faults) > 0 {
		fault, r.faults = r.faults[0], r.faults[1:]
	}
	return fault
}
