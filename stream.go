package webtrigger

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/google/uuid"

	"github.com/webtrigger-go/webtrigger/internal/sse"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// EventsHandler serves the live event stream of conversations:
//
//	GET …/conversations/{conversation_id}/agent-events
//
// with the query parameters run_id (integer or run_key), after_event_id and
// after_sequence, and the header Last-Event-ID. It reads the end of the path
// itself, so that it works under any router, below any prefix and behind
// [http.StripPrefix], also when that strips "/conversations".
//
// authorize is the host's word on who may watch (see [Authorizer]); it is asked
// with ActionReadEvents before anything else is said, with an empty AssistantID
// when there is no such conversation, and again while the stream lasts: a
// refusal ends it within 15 s. It should answer quickly. An API key opens nothing
// here; for those there is …/web-triggers/{trigger_id}/events of
// [Service.ServeHTTP]. EventsHandler panics when authorize is nil: there is no
// way to mount the stream without one.
//
// The writer must be able to flush and to set write deadlines, itself or through
// Unwrap (see [http.ResponseController]); the timeouts of [http.Server] do not
// cut a stream. See [Service.CloseStreams] for shutdown.
func (s *Service) EventsHandler(authorize Authorizer) http.Handler {
	if authorize == nil {
		panic("webtrigger: EventsHandler needs an authorizer")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wire.SetRequestID(w, r)
		w, r, done := s.opts.Hooks.request(w, r, routeSessionEvents)
		defer done()
		if err := s.serveEvents(w, r, authorize); err != nil {
			s.WriteError(w, r, err)
		}
	})
}

// CloseStreams ends every open event stream between two events and refuses new
// ones with 503, so that readers reconnect to another process. A reader that is
// just stalled gets two seconds more. Streams do not end by themselves when an
// http.Server shuts down, and Shutdown waits for them:
//
//	server.RegisterOnShutdown(svc.CloseStreams)
//
// Requests that wait for the end of a run (Prefer: wait) are answered at once, with
// what there is.
func (s *Service) CloseStreams() { s.streams.close() }

func (s *Service) serveEvents(w http.ResponseWriter, r *http.Request, authorize Authorizer) error {
	query, allowed, err := s.admit(r, authorize)
	if err != nil {
		return err
	}
	return s.stream(w, r, query, allowed)
}

// admit judges a request up to the point where its events are read: route,
// method, authorizer, cursors, conversation, run. allowed asks the authorizer
// again.
func (s *Service) admit(r *http.Request, authorize Authorizer) (query EventQuery, allowed func() error, err error) {
	id, ok := eventsPath(r.URL.Path)
	if !ok {
		return query, nil, wire.NotFound()
	}
	if err := allowMethods(r, http.MethodGet, http.MethodHead); err != nil {
		return query, nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), statementTimeout)
	defer cancel()
	conversation, err := s.store.Conversation(ctx, id)
	absent := errors.Is(err, ErrNotFound)
	if err != nil && !absent {
		return query, nil, fmt.Errorf("read conversation: %w", err)
	}
	access := Access{Action: ActionReadEvents, AssistantID: conversation.AssistantID, ConversationID: id}
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

// streamOf completes a query with what it is about.
func (s *Service) streamOf(ctx context.Context, query EventQuery, conversationID int64, run *string) (EventQuery, error) {
	query.ConversationID = conversationID
	if run == nil {
		return query, nil
	}
	var err error
	query.RunID, err = s.streamRun(ctx, *run)
	return query, err
}

// eventsPath reads the conversation's id from the end of a path.
func eventsPath(path string) (id int64, ok bool) {
	path, leaf := cutLast(path)
	path, segment := cutLast(path)
	if path != "" {
		if _, collection := cutLast(path); collection != "conversations" {
			return 0, false
		}
	}
	id, ok = parseID(segment)
	return id, ok && leaf == "agent-events"
}

// streamQuery reads the cursors, and the run_id where there is one.
func streamQuery(r *http.Request) (query EventQuery, run *string, err error) {
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
	}
	if given := values["run_id"]; len(given) == 1 {
		run = &given[0]
	}
	if values.Has("after_sequence") && run == nil {
		return query, nil, wire.BadRequest("invalid_cursor", "after_sequence needs run_id.")
	}
	if id, ok := parseCursor(r.Header.Get("Last-Event-ID")); ok {
		query.AfterID = max(query.AfterID, id)
	}
	return query, run, nil
}

// parseCursor reads a non-negative 64-bit decimal.
func parseCursor(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err == nil
}

// streamRun returns the id of the run that run_id names. Whether it is one of the
// conversation's is for the first read of its events to say.
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

// stream answers with the events that pass the query. Its errors come before
// the first byte. allowed is asked again while it lasts.
func (s *Service) stream(w http.ResponseWriter, r *http.Request, query EventQuery, allowed func() error) error {
	tail, err := s.streams.join(query.ConversationID)
	if err != nil {
		return err
	}
	defer s.streams.leave(tail)
	sub := &subscriber{tail: tail, query: query}
	next, err := sub.first(r.Context())
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	if next.last && len(next.frames) == 0 {
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNoContent) // EventSource gives up at that
		return nil
	}
	if !canFlush(w) {
		return errors.New("stream events: the ResponseWriter cannot flush")
	}
	p := &pump{s: s, r: r, w: w, sub: sub, allowed: allowed, controller: http.NewResponseController(w), timeout: s.opts.Streams.WriteTimeout}
	if err := p.setDeadline(true); err != nil {
		return fmt.Errorf("stream events: the ResponseWriter cannot set write deadlines: %w", err)
	}
	p.ctx, p.cancel = context.WithCancel(r.Context())
	defer p.close()
	if !s.streams.begin(p) {
		return shuttingDown()
	}
	defer s.opts.Hooks.stream(r.Context(), query.ConversationID)()
	h := w.Header()
	h.Set("Content-Type", sse.ContentType)
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		p.run(next)
	}
	return nil
}
