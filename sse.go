package webtrigger

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/webtrigger-go/webtrigger/internal/hook"
	"github.com/webtrigger-go/webtrigger/internal/stream"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// EventsHandler returns a handler that serves the live event stream of conversations:
//
//	GET …/conversations/{conversation_id}/agent-events
//
// It accepts the query parameters run_id (integer or run_key), after_event_id and
// after_sequence, and the header Last-Event-ID. It reads the end of the path itself.
// It therefore works with any router, below any prefix and behind [http.StripPrefix],
// also if that strips "/conversations".
//
// authorize decides who may read the events (see [Authorizer]). The handler calls it
// with ActionReadEvents before it sends a response. If the conversation does not
// exist, AssistantID is empty. The handler calls authorize again while the stream is
// open; a denial ends the stream within 15 s. authorize should return quickly.
// EventsHandler panics if authorize is nil, because the stream must not be mounted
// without authorization.
//
// An API key gives no access to this handler. Callers use
// …/web-triggers/{trigger_id}/events of [Service.ServeHTTP].
//
// The response writer must support flushing and write deadlines, itself or through
// Unwrap (see [http.ResponseController]). The timeouts of [http.Server] do not end a
// stream. See [Service.CloseStreams] for shutdown.
func (s *Service) EventsHandler(authorize Authorizer) http.Handler {
	if authorize == nil {
		panic("webtrigger: EventsHandler needs an authorizer")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wire.SetRequestID(w, r)
		w, r, done := s.opts.Hooks.request(w, r, routeSessionEvents)
		defer done()
		if err := s.serveEvents(w, r, authorize); err != nil {
			s.writeError(w, r, err)
		}
	})
}

// CloseStreams ends every open event stream between two events, so that readers
// reconnect to another process. It rejects new streams with 503. A reader that is
// stalled gets another 2 s. It also responds immediately to requests that wait for
// the end of a run (Prefer: wait), with the current status.
//
// The Shutdown method of an http.Server waits for open streams and does not end them.
// Register CloseStreams:
//
//	server.RegisterOnShutdown(svc.CloseStreams)
//
// A Service without Work watches the store for another 30 s after its last stream or
// wait. CloseStreams ends that too.
func (s *Service) CloseStreams() {
	s.streams.Close()
	s.watcher.close()
}

func (s *Service) serveEvents(w http.ResponseWriter, r *http.Request, authorize Authorizer) error {
	query, allowed, err := s.admit(r, authorize)
	if err != nil {
		return err
	}
	return s.stream(w, r, query, allowed)
}

// admit validates a request up to the point where its events are read: route, method,
// authorizer, cursors, conversation, run. allowed calls the authorizer again.
func (s *Service) admit(r *http.Request, authorize Authorizer) (query stream.Query, allowed func() error, err error) {
	id, ok := eventsPath(r.URL.Path)
	if !ok {
		return query, nil, wire.NotFound()
	}
	if err := allowMethods(r, http.MethodGet, http.MethodHead); err != nil {
		return query, nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), statementTimeout)
	defer cancel()
	owner, err := s.store.Owner(ctx, ResourceConversation, id)
	absent := errors.Is(err, ErrNotFound)
	if err != nil && !absent {
		return query, nil, fmt.Errorf("read conversation: %w", err)
	}
	access := Access{Action: ActionReadEvents, AssistantID: owner.AssistantID, ConversationID: id}
	allowed = func() error {
		switch err := authorize(r, access); {
		case err == nil:
			return nil
		case errors.Is(err, ErrUnauthenticated):
			return ErrUnauthenticated
		case errors.Is(err, ErrUnavailable):
			return err
		default:
			return wire.NotFound()
		}
	}
	if err := allowed(); err != nil {
		return query, nil, err
	}
	query, run, err := streamQuery(r)
	if err != nil {
		return query, nil, err
	}
	if absent {
		return query, nil, wire.NotFound()
	}
	query, err = s.streamOf(ctx, query, id, run)
	return query, allowed, err
}

// streamOf adds the conversation and the run to a query.
func (s *Service) streamOf(ctx context.Context, query stream.Query, conversationID int64, run *string) (stream.Query, error) {
	query.ConversationID = conversationID
	if run == nil {
		return query, nil
	}
	var err error
	query.RunID, err = s.streamRun(ctx, *run)
	return query, err
}

// serveKeyEvents serves the event stream of a trigger's conversation to an API key of
// its assistant. It is the stream of EventsHandler with a Bearer key in place of the
// host's session. [StreamOptions.PerKey] limits the number of open streams.
func (s *Service) serveKeyEvents(w http.ResponseWriter, r *http.Request, segment string) error {
	query, keyID, allowed, err := s.admitKey(r, segment)
	if err != nil {
		return err
	}
	if !s.streams.Take(keyID) {
		return &wire.Problem{Status: http.StatusTooManyRequests, Code: "too_many_streams",
			Detail: "This API key has reached its limit of open event streams. Close a stream and try again.", RetryAfter: 5 * time.Second}
	}
	defer s.streams.Return(keyID)
	return s.stream(w, r, query, allowed)
}

// admitKey validates a request up to the point where its events are read: method,
// key, cursors, trigger, run. allowed authenticates the key again.
func (s *Service) admitKey(r *http.Request, segment string) (query stream.Query, keyID int64, allowed func() error, err error) {
	if err := allowMethods(r, http.MethodGet, http.MethodHead); err != nil {
		return query, 0, nil, err
	}
	triggerID, ok := parseID(segment)
	grant, err := s.authenticate(r, triggerID, 0)
	if err == nil && !grant.Key.May(ScopeRead) {
		err = missingScope(ScopeRead)
	}
	if err != nil {
		return query, 0, nil, err
	}
	query, run, err := streamQuery(r)
	if err != nil {
		return query, 0, nil, err
	}
	if !ok || grant.Run == nil {
		return query, 0, nil, wire.NotFound()
	}
	ctx, cancel := context.WithTimeout(r.Context(), statementTimeout)
	defer cancel()
	query, err = s.streamOf(ctx, query, triggerID, run)
	allowed = func() error {
		grant, err := s.authenticate(r, triggerID, 0)
		if err == nil && grant.Run == nil {
			return wire.NotFound()
		}
		return err
	}
	return query, grant.Key.ID, allowed, err
}

// stream sends the events that match the query. It returns errors only before the
// first byte of the response. It calls allowed again while the stream is open.
func (s *Service) stream(w http.ResponseWriter, r *http.Request, query stream.Query, allowed func() error) error {
	return s.streams.Serve(w, r, query, allowed, func() (closed func()) {
		_, ended := hook.Begin(r.Context(), s.opts.Hooks.Stream, StreamInfo{ConversationID: query.ConversationID})
		return func() { ended(StreamOutcome{}) }
	})
}

// eventsPath returns the conversation's id at the end of a path. The segment in
// front of it is "conversations", unless the host has stripped it.
func eventsPath(path string) (id int64, ok bool) {
	path, leaf := cutLast(strings.TrimSuffix(path, "/"))
	path, segment := cutLast(path)
	if path != "" {
		if _, collection := cutLast(path); collection != "conversations" {
			return 0, false
		}
	}
	id, ok = parseID(segment)
	return id, ok && leaf == "agent-events"
}

// isEventsPath reports whether a path is that of an event stream, whatever its id.
func isEventsPath(path string) bool {
	collection, _, leaf := splitRoute(path)
	return collection == "conversations" && leaf == "agent-events"
}

// streamQuery reads the cursors, and the run_id if there is one.
func streamQuery(r *http.Request) (query stream.Query, run *string, err error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return query, nil, wire.BadRequest("invalid_query", "The query is malformed.")
	}
	for _, p := range []struct {
		name   string
		cursor *int64 // nil: not a number
	}{{"run_id", nil}, {"after_event_id", &query.AfterID}, {"after_sequence", &query.AfterSequence}} {
		given := values[p.name]
		if len(given) > 1 {
			return query, nil, wire.BadRequest("invalid_query", p.name+" must be given once.")
		}
		if p.cursor == nil || len(given) == 0 {
			continue
		}
		var ok bool
		if *p.cursor, ok = parseCursor(given[0]); !ok {
			return query, nil, wire.BadRequest("invalid_cursor", p.name+" must be a non-negative 64-bit integer.")
		}
		*p.cursor = min(*p.cursor, lastCursor)
	}
	if given := values["run_id"]; len(given) == 1 {
		run = &given[0]
	}
	if values.Has("after_sequence") && run == nil {
		return query, nil, wire.BadRequest("invalid_cursor", "after_sequence needs run_id.")
	}
	if id, ok := parseCursor(r.Header.Get("Last-Event-ID")); ok {
		query.AfterID = max(query.AfterID, min(id, lastCursor))
	}
	return query, run, nil
}

// lastCursor is higher than every event id, and stores can add to it without
// overflow.
const lastCursor = 1 << 62

// parseCursor reads a non-negative 64-bit decimal.
func parseCursor(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err == nil
}

// streamRun returns the id of the run that run_id identifies. The first read of the
// events checks whether the run belongs to the conversation.
func (s *Service) streamRun(ctx context.Context, name string) (int64, error) {
	if id, ok := parseID(name); ok {
		return id, nil
	}
	key, err := uuid.Parse(name)
	if err != nil || len(name) != len(key.String()) {
		return 0, wire.NotFound()
	}
	run, err := s.store.RunByKey(ctx, key.String())
	if err != nil {
		return 0, fmt.Errorf("read run by key: %w", err)
	}
	return run.ID, nil
}

// maxWait is the maximum wait of a request with Prefer: wait.
const maxWait = 60 * time.Second

// maxWaits is the maximum number of requests that may wait at a time in one process.
const maxWaits = 10_000

// waitFor delays a request until the run ends or waits for input, up to the time that the
// request prefers. A request for input that the caller has seen (known, its id; 0: none) does
// not end the wait. Otherwise a caller that polls would get the same status at once, again and
// again. waited reports whether it did; the run must then be read again. If the API key or the
// process has reached its limit of waits, waitFor returns immediately.
//
// The WriteTimeout of an [http.Server] does not end the wait. Its ReadTimeout does
// not either if the body has been read. For a body that has not been read, it still
// applies.
func (s *Service) waitFor(w http.ResponseWriter, r *http.Request, keyID int64, run *Run, known int64, bodyRead bool) (waited bool, err error) {
	seconds, ok := wire.PreferWait(r.Header, int(maxWait/time.Second))
	if !ok {
		return false, nil
	}
	w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(seconds))
	d := time.Duration(seconds) * time.Second
	if run.Status.rests() && known == 0 || d == 0 || !s.streams.TakeWait(keyID) {
		return false, nil
	}
	defer s.streams.ReturnWait(keyID)
	// A writer that has no deadlines has none that could cut the wait either.
	controller := http.NewResponseController(w)
	if bodyRead {
		// The server keeps reading, to detect a client that disconnects. It
		// treats the deadline of that read as the client's end. It sets a new
		// deadline before it reads the next request.
		_ = controller.SetReadDeadline(time.Time{})
	}
	_ = controller.SetWriteDeadline(time.Time{})
	s.streams.Await(r.Context(), run.ConversationID, run.ID, known, d)
	_ = controller.SetWriteDeadline(time.Now().Add(stream.MaxWriteTimeout))
	return true, r.Context().Err()
}

// StreamOptions limits the resources of event streams in one process.
type StreamOptions struct {
	// MemoryBytes is the maximum size of the encoded events in memory, in bytes, for
	// all watched conversations together. Readers of a conversation share these
	// events. Readers of other events read the store. The memory of the connections
	// is not included. If zero, it is 64 MiB. It must not be negative.
	MemoryBytes int

	// PerKey is the maximum number of streams and waits (Prefer: wait) of one API key
	// at a time in this process. One more stream is rejected with 429. One more wait
	// gets an immediate response. If zero, it is 100. If negative, there is no limit.
	PerKey int

	// WriteTimeout is how long a reader may take to receive one write of about 32
	// KiB. A reader that takes longer is disconnected. If zero, it is 10 s. Maximum:
	// 10 s. It must not be negative.
	WriteTimeout time.Duration
}

const (
	defaultKeyStreams  = 100
	defaultStreamBytes = 64 << 20
)

// complete checks o and sets the defaults of zero fields.
func (o *StreamOptions) complete() error {
	if o.MemoryBytes < 0 || o.WriteTimeout < 0 {
		return errors.New("Streams.MemoryBytes and Streams.WriteTimeout must not be negative")
	}
	if o.WriteTimeout > stream.MaxWriteTimeout {
		return fmt.Errorf("Streams.WriteTimeout must be at most %v", stream.MaxWriteTimeout)
	}
	if o.MemoryBytes == 0 {
		o.MemoryBytes = defaultStreamBytes
	}
	if o.PerKey == 0 {
		o.PerKey = defaultKeyStreams
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = stream.MaxWriteTimeout
	}
	return nil
}
