package webtrigger

import (
	"context"
	"net/http"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// serveKeyEvents is the event stream of a trigger's conversation for its
// assistant's API keys: that of EventsHandler, with a Bearer key in the place of
// the host's session. How many a key may have open is [StreamOptions.PerKey].
func (s *Service) serveKeyEvents(w http.ResponseWriter, r *http.Request, segment string) error {
	query, keyID, allowed, err := s.admitKey(r, segment)
	if err != nil {
		return err
	}
	if !s.streams.take(keyID) {
		return &wire.Problem{Status: http.StatusTooManyRequests, Code: "too_many_streams",
			Detail: "This API key has as many event streams open as it may. Close one first.", RetryAfter: 5 * time.Second}
	}
	defer s.streams.giveBack(keyID)
	return s.stream(w, r, query, allowed)
}

// admitKey judges a request up to the point where its events are read: method,
// key, cursors, trigger, run. allowed asks for the key again.
func (s *Service) admitKey(r *http.Request, segment string) (query EventQuery, keyID int64, allowed func() error, err error) {
	if err := allowMethods(r, http.MethodGet, http.MethodHead); err != nil {
		return query, 0, nil, err
	}
	triggerID, ok := parseID(segment)
	grant, err := s.authenticate(r, triggerID)
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
		grant, err := s.authenticate(r, triggerID)
		if err == nil && grant.Run == nil {
			return wire.NotFound()
		}
		return err
	}
	return query, grant.Key.ID, allowed, err
}
