package serve

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	r3labs "github.com/r3labs/sse/v2"
	gosse "github.com/tmaxmax/go-sse"

	"github.com/webtrigger-go/webtrigger/bench/internal/child"
	"github.com/webtrigger-go/webtrigger/bench/internal/load"
)

// streams is a server whose Do publishes n events, at the configured rate, to
// everyone who reads stream.
func streams(c Config, stream http.HandlerFunc, publish func(data string) error) *child.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /events", stream)
	return &child.Server{Measured: mux, Do: publishing(c, publish)}
}

// publishing is a Do that publishes n events of the configured size. Each holds
// the time at which it was published.
func publishing(c Config, publish func(data string) error) func(context.Context, int) (child.Counters, error) {
	return func(_ context.Context, n int) (child.Counters, error) {
		began := time.Now()
		for i := range n {
			if c.Rate > 0 {
				time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(c.Rate))))
			}
			if err := publish(stamped(c.Size)); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}
}

// stamped is a JSON object of about size bytes that holds the present time.
func stamped(size int) string {
	const head, middle, tail = `{"at":"`, `","text":"`, `"}`
	stamp := load.Stamp()
	pad := max(0, size-len(head)-len(stamp)-len(middle)-len(tail))
	return head + stamp + middle + strings.Repeat("x", pad) + tail
}

// serveR3labs fans out with github.com/r3labs/sse.
func serveR3labs(_ context.Context, c Config) (*child.Server, error) {
	server := r3labs.New()
	server.AutoReplay = false
	server.CreateStream("conversation")
	return streams(c,
		func(w http.ResponseWriter, r *http.Request) {
			r.URL.RawQuery = "stream=conversation"
			server.ServeHTTP(w, r)
		},
		func(data string) error {
			server.Publish("conversation", &r3labs.Event{ID: []byte("1"), Data: []byte(data)})
			return nil
		}), nil
}

// serveGoSSE fans out with github.com/tmaxmax/go-sse.
func serveGoSSE(_ context.Context, c Config) (*child.Server, error) {
	server := &gosse.Server{}
	return streams(c,
		func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush() // it sends the head with the first event
			server.ServeHTTP(w, r)
		},
		func(data string) error {
			m := &gosse.Message{ID: gosse.ID("1")}
			m.AppendData(data)
			return server.Publish(m)
		}), nil
}

// serveIdle has streams on which nothing ever comes: what a waiting net/http
// handler takes at least. With a size each stream begins with an event of it:
// the first byte of a body makes net/http use buffers that lay untouched before.
func serveIdle(_ context.Context, c Config) (*child.Server, error) {
	return streams(c,
		func(w http.ResponseWriter, r *http.Request) {
			startStream(w)
			if c.Size > 0 {
				_, _ = io.WriteString(w, "data: "+stamped(c.Size)+"\n\n")
				w.(http.Flusher).Flush()
			}
			<-r.Context().Done()
		},
		func(string) error { return nil }), nil
}

// serveLoop fans out by writing the frame to one connection after the other, which
// is the least that it takes.
func serveLoop(_ context.Context, c Config) (*child.Server, error) {
	var mu sync.Mutex
	open := map[*http.Request]http.ResponseWriter{}
	return streams(c,
		func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			startStream(w)
			open[r] = w
			mu.Unlock()
			<-r.Context().Done()
			mu.Lock()
			defer mu.Unlock()
			delete(open, r)
		},
		func(data string) error {
			frame := []byte("id: 1\ndata: " + data + "\n\n")
			mu.Lock()
			defer mu.Unlock()
			for _, w := range open {
				if _, err := w.Write(frame); err != nil {
					return err
				}
				w.(http.Flusher).Flush()
			}
			return nil
		}), nil
}

func startStream(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
}

// shared is a fan-out in its simplest quick form: one log of encoded frames, and
// a channel that is closed when it has grown.
type shared struct {
	mu     sync.Mutex
	frames [][]byte
	grown  chan struct{}
}

func (s *shared) append(data string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frames = append(s.frames, []byte("id: 1\ndata: "+data+"\n\n"))
	close(s.grown)
	s.grown = make(chan struct{})
}

func (s *shared) after(position int) ([][]byte, chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frames[position:], s.grown
}

func (s *shared) stream(w http.ResponseWriter, r *http.Request) {
	startStream(w)
	for position := 0; ; {
		frames, grown := s.after(position)
		for _, f := range frames {
			_, _ = w.Write(f)
		}
		if position += len(frames); len(frames) > 0 {
			w.(http.Flusher).Flush()
		}
		select {
		case <-grown:
		case <-r.Context().Done():
			return
		}
	}
}
