//go:build unix

package outagetest_test

import (
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/webtrigger-go/webtrigger"
)

// receiver receives callbacks.
type receiver struct {
	server *httptest.Server
	roots  *x509.CertPool

	mu    sync.Mutex
	posts map[string]int // by run key
	want  map[string]int // by run key, where it is not 1
	hold  chan struct{}  // handshakes wait until it is closed; nil: they do not
	held  int
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{posts: make(map[string]int), want: make(map[string]int), roots: x509.NewCertPool()}
	r.server = httptest.NewUnstartedServer(r)
	r.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	r.server.Listener = slowListener{r.server.Listener, r}
	r.server.StartTLS()
	r.roots.AddCert(r.server.Certificate())
	t.Cleanup(r.server.Close)
	return r
}

func (r *receiver) url() string { return r.server.URL + "/" }

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var body struct {
		RunKey string `json:"run_key"`
	}
	if err := json.NewDecoder(req.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.posts[body.RunKey]++
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) count(runKey string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.posts[runKey]
}

// expect makes n the number of callbacks of a run.
func (r *receiver) expect(runKey string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.want[runKey] = n
}

// expected is the number of callbacks that a run must have.
func (r *receiver) expected(run webtrigger.Run) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, ok := r.want[run.Key]
	switch {
	case run.CallbackURL == "":
		return 0
	case ok:
		return n
	}
	return 1
}

// holdHandshakes makes TLS handshakes wait, until release is called.
func (r *receiver) holdHandshakes(t *testing.T) (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	hold := make(chan struct{})
	r.hold = hold
	release = sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.hold = nil
		close(hold)
	})
	t.Cleanup(release)
	return release
}

func (r *receiver) handshakes() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held
}

type slowListener struct {
	net.Listener
	receiver *receiver
}

func (l slowListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	l.receiver.mu.Lock()
	hold := l.receiver.hold
	if hold != nil {
		l.receiver.held++
	}
	l.receiver.mu.Unlock()
	if err == nil && hold != nil {
		<-hold
	}
	return conn, err
}
