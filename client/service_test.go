package client_test

import (
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/client"
	"github.com/webtrigger-go/webtrigger/webtriggertest"
)

// fault handles one request between client and service. It responds itself, or
// calls the service.
type fault func(w http.ResponseWriter, r *http.Request, service http.Handler)

// site is a service that works, behind faults.
type site struct {
	*webtriggertest.Service
	faults []fault // of the next requests; those after them have none

	mu   sync.Mutex
	seen []http.Header // of each request
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.seen = append(s.seen, r.Header.Clone())
	var now fault
	if len(s.faults) > 0 {
		now, s.faults = s.faults[0], s.faults[1:]
	}
	s.mu.Unlock()
	r.Header.Set("Authorization", "Bearer "+s.Key) // the client's is "secret"
	if now != nil {
		now(w, r, s.Service)
		return
	}
	s.Service.ServeHTTP(w, r)
}

// requests is the headers of all requests so far.
func (s *site) requests() []http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// inBubble runs test on a service in a bubble, where time is free.
func inBubble(t *testing.T, opts webtrigger.Options, test func(t *testing.T, s *site, c *client.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &site{Service: webtriggertest.New(t, &webtriggertest.Options{Service: opts})}
		test(t, s, serve(t, s, nil, client.Options{}))
	})
}

// runs is how many runs there are.
func (s *site) runs(t *testing.T) int {
	t.Helper()
	list, err := s.Runs(t.Context(), webtrigger.RunQuery{})
	require.NoError(t, err)
	return len(list)
}

// lost executes the request, and closes the connection before the response.
func lost(_ http.ResponseWriter, r *http.Request, service http.Handler) {
	service.ServeHTTP(&discard{header: make(http.Header)}, r)
	panic(http.ErrAbortHandler)
}

// cut sends half of the answer.
func cut(w http.ResponseWriter, r *http.Request, service http.Handler) {
	answer := &discard{header: w.Header()}
	service.ServeHTTP(answer, r)
	w.WriteHeader(answer.status)
	_, _ = w.Write(answer.body[:len(answer.body)/2])
	panic(http.ErrAbortHandler)
}

// rejected responds instead of the service.
func rejected(status int, header ...string) fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
	}
}

// silent sends no response until the client has disconnected.
func silent(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
	_, _ = io.Copy(io.Discard, r.Body) // a server detects a disconnected client only after it has read the request
	<-r.Context().Done()
}

// discard takes an answer that is not sent.
type discard struct {
	header http.Header
	status int
	body   []byte
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(p []byte) (int, error) { d.body = append(d.body, p...); return len(p), nil }
