package webtrigger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/stream"
)

// Handler returns one handler for every route: the Bearer API of
// [Service.ServeHTTP] and the event stream of [Service.EventsHandler]. A host can
// mount it at any path:
//
//	mux.Handle("/", svc.Handler(authorize))
//	mux.Handle("/hooks/v2/", svc.Handler(authorize))
//
// authorize decides who may read the event stream; see [Authorizer]. Handler panics
// if authorize is nil.
func (s *Service) Handler(authorize Authorizer) http.Handler {
	events := s.EventsHandler(authorize)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isEventsPath(r.URL.Path) {
			events.ServeHTTP(w, r)
			return
		}
		if s.opts.APIBase == "" {
			r = r.WithContext(context.WithValue(r.Context(), allRoutes{}, true))
		}
		s.ServeHTTP(w, r)
	})
}

// allRoutes is the context key of requests that Handler serves: its event stream is
// at the same mount as the API.
type allRoutes struct{}

func servesAll(r *http.Request) bool { return r.Context().Value(allRoutes{}) != nil }

// Serve runs a whole host: it listens on server.Addr (":http", or ":https" with a
// TLS configuration, if empty), serves HTTP, and executes runs as [Service.Work]
// does, until ctx ends. It uses TLS if server.TLSConfig has certificates.
//
// Then it shuts down in this order: the server stops accepting connections, event
// streams and waiting requests end, other requests get up to Options.DrainTimeout
// to finish, and the runs drain as Work describes. It returns nil after a shutdown,
// else the error of the listener, the server or Work.
//
// Serve uses the server once, and does not change it except by
// [http.Server.RegisterOnShutdown]. Hosts with a server of their own call Work beside
// it, and [Service.CloseStreams] when it shuts down.
func (s *Service) Serve(ctx context.Context, server *http.Server) error {
	listener, err := listen(ctx, server)
	if err != nil {
		return fmt.Errorf("webtrigger: serve: %w", err)
	}
	server.RegisterOnShutdown(s.CloseStreams)
	working, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	served, worked := make(chan error, 1), make(chan error, 1)
	go func() { served <- serve(server, listener) }()
	go func() { worked <- s.Work(working) }()

	var failure error
	select {
	case <-ctx.Done():
	case failure = <-served:
		served <- failure
	case failure = <-worked:
		worked <- failure
	}
	s.shutDown(server)
	stopWork()
	if err := <-served; failure == nil && !errors.Is(err, http.ErrServerClosed) {
		failure = err
	}
	if err := <-worked; failure == nil {
		failure = err
	}
	if failure != nil && !errors.Is(failure, http.ErrServerClosed) {
		return fmt.Errorf("webtrigger: serve: %w", failure)
	}
	return nil
}

// shutDown ends the server's streams and waits, and lets other requests finish
// within the drain time.
func (s *Service) shutDown(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), max(s.opts.DrainTimeout, time.Second))
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		s.log.Warn("requests interrupted by shutdown", "error", err)
		server.Close()
	}
}

func listen(ctx context.Context, server *http.Server) (net.Listener, error) {
	addr := server.Addr
	switch {
	case addr != "":
	case usesTLS(server):
		addr = ":https"
	default:
		addr = ":http"
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", addr)
}

func serve(server *http.Server, listener net.Listener) error {
	if usesTLS(server) {
		return server.ServeTLS(listener, "", "")
	}
	return server.Serve(listener)
}

func usesTLS(server *http.Server) bool {
	c := server.TLSConfig
	return c != nil && (len(c.Certificates) > 0 || c.GetCertificate != nil || c.GetConfigForClient != nil)
}

// watchKept is how long a process watches the store after its last stream or wait
// has ended. A reader that reconnects does not cost a new watch, which is a
// connection on some stores.
const watchKept = 30 * time.Second

// watcher is a process's one loop over the store's hints. It runs while Work runs,
// while there is a stream or a request that waits, and for watchKept after these.
//
//	                    ┌─► wake: worker, dispatcher, heartbeat
//	Store.Watch ─► pass ┤
//	                    └─► notify: tails, and waits for the end of a run
type watcher struct {
	store Store
	log   *slog.Logger
	wake  func(Hint)

	mu     sync.Mutex // guards what follows
	users  int        // Work, and the hub while it has streams or waits
	kept   *time.Timer
	closed bool               // streams are closed for good
	notify func(stream.Hint)  // of the hub; nil if it has no streams and no waits
	stop   context.CancelFunc // nil if the loop does not run
	done   chan struct{}      // closed when the loop has ended
}

// join starts the loop if it does not run.
func (w *watcher) join() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.users++
	if w.kept != nil {
		w.kept.Stop()
		w.kept = nil
	}
	if w.stop == nil {
		life, stop := context.WithCancel(context.Background())
		w.stop, w.done = stop, make(chan struct{})
		go w.run(life, w.done)
	}
}

// leave undoes join when Work ends. If the loop has no other user, it ends before
// leave returns.
func (w *watcher) leave() {
	w.mu.Lock()
	w.users--
	done := w.end()
	w.mu.Unlock()
	if done != nil {
		<-done
	}
}

// close ends the loop as soon as Work does not run. It is called when streams are
// closed for good.
func (w *watcher) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.end()
}

// end ends the loop if it has no user; mu is held. It returns the channel that is
// closed when the loop has ended, or nil if the loop continues.
func (w *watcher) end() (done <-chan struct{}) {
	if w.users > 0 || w.stop == nil {
		return nil
	}
	if w.kept != nil {
		w.kept.Stop()
		w.kept = nil
	}
	w.stop()
	w.stop = nil
	return w.done
}

// watchStreams is [stream.Source.Watch].
func (w *watcher) watchStreams(notify func(stream.Hint)) (stop func()) {
	w.join()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notify = notify
	return w.unwatchStreams
}

func (w *watcher) unwatchStreams() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notify = nil
	w.users--
	switch {
	case w.users > 0:
	case w.closed:
		w.end()
	default:
		var kept *time.Timer
		kept = time.AfterFunc(watchKept, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.kept == kept {
				w.end()
			}
		})
		w.kept = kept
	}
}

// run watches until life ends. While the store's Watch fails, everything is polled.
func (w *watcher) run(life context.Context, done chan<- struct{}) {
	defer close(done)
	for {
		err := w.store.Watch(life, w.pass)
		if life.Err() != nil {
			return
		}
		w.log.Warn("store watch failed", "error", err)
		select {
		case <-life.Done():
			return
		case <-time.After(pollInterval):
			w.wake(Hint{})
		}
	}
}

// pass passes a hint to the loops of Work and to the hub of streams.
func (w *watcher) pass(h Hint) {
	w.wake(h)
	w.mu.Lock()
	notify := w.notify
	w.mu.Unlock()
	anything := h.isZero()
	if notify != nil && (anything || len(h.Conversations)+len(h.Events) > 0) {
		notify(stream.Hint{Anything: anything, Conversations: h.Conversations, Events: streamEvents(h.Events)})
	}
}

// hint wakes the loops that the hint concerns.
func (s *Service) hint(h Hint) {
	anything := h.isZero()
	if h.Queued || anything {
		s.worker.sawQueued()
	}
	if h.Pending || anything {
		signal(s.pending)
	}
	if anything || s.process.has(h.Stopped) {
		signal(s.process.beat)
	}
}

// signal wakes the goroutine that waits on c, or leaves word for when it does.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// streamSource is the store as [stream.Source].
type streamSource struct {
	store   Store
	watcher *watcher
}

func (s streamSource) Events(ctx context.Context, query stream.Query) (stream.Page, error) {
	page, err := s.store.Events(ctx, EventQuery(query))
	return stream.Page{
		Events: streamEvents(page.Events), More: page.More, LastID: page.LastID, Ended: page.Ended, PurgedTo: page.PurgedTo,
	}, err
}

func (s streamSource) LastEventIDs(ctx context.Context, conversationIDs []int64) (map[int64]int64, error) {
	return s.store.LastEventIDs(ctx, conversationIDs)
}

func (s streamSource) RunRests(ctx context.Context, runID, known int64) (bool, error) {
	run, err := s.store.RunSummary(ctx, runID)
	if err != nil || known == 0 || run.Status != RunWaiting {
		return run.Status.rests(), err
	}
	open, err := s.store.OpenInputs(ctx, []int64{runID})
	input, waits := open[runID] // it may have been answered in between
	return waits && input.ID != known, err
}

func (s streamSource) Watch(notify func(stream.Hint)) (stop func()) {
	return s.watcher.watchStreams(notify)
}

func streamEvents(events []Event) []stream.Event {
	if len(events) == 0 {
		return nil
	}
	converted := make([]stream.Event, len(events))
	for i := range events {
		e := &events[i]
		converted[i] = stream.Event{
			ID: e.ID, Sequence: e.Sequence, RunID: e.RunID, RunKey: e.RunKey, ConversationID: e.ConversationID,
			Type: string(e.Type), Terminal: e.Type.Terminal(), Payload: e.Payload, CreatedAt: e.CreatedAt,
		}
	}
	return converted
}
