package webtrigger

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// ServeHTTP serves the Bearer API:
//
//	POST …/assistants/{assistant_id}/web-trigger
//	GET  …/web-triggers/{trigger_id}/status
//	GET  …/web-triggers/{trigger_id}/events
//	POST …/web-triggers/{trigger_id}/cancel
//
// It reads the end of the path itself, so that it works under any router, below
// any prefix and behind [http.StripPrefix]. What is wrong with a request is
// judged in one order: 404 for the route, 405, 401, 403, 415, 413, the
// idempotent replay, 400, 422, and 429 where there are limits.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	wire.SetRequestID(w, r)
	route, serve, id := s.route(r.URL.Path)
	w, r, done := s.opts.Hooks.request(w, r, route)
	defer done()
	err := error(wire.NotFound())
	if serve != nil {
		err = serve(w, r, id)
	}
	if err != nil {
		s.WriteError(w, r, err)
	}
}

// The patterns of the paths, as [Hooks.Request] names them.
const (
	routeTrigger       = "/api/v1/assistants/{assistant_id}/web-trigger"
	routeStatus        = "/api/v1/web-triggers/{trigger_id}/status"
	routeKeyEvents     = "/api/v1/web-triggers/{trigger_id}/events"
	routeCancel        = "/api/v1/web-triggers/{trigger_id}/cancel"
	routeSessionEvents = "/conversations/{conversation_id}/agent-events"
)

// route finds what serves a path; nil: nothing does.
func (s *Service) route(path string) (pattern string, serve func(w http.ResponseWriter, r *http.Request, id string) error, id string) {
	collection, id, leaf := splitRoute(path)
	switch {
	case collection == "assistants" && leaf == "web-trigger":
		return routeTrigger, s.serveTrigger, id
	case collection == "web-triggers" && leaf == "status":
		return routeStatus, s.serveStatus, id
	case collection == "web-triggers" && leaf == "events":
		return routeKeyEvents, s.serveKeyEvents, id
	case collection == "web-triggers" && leaf == "cancel":
		return routeCancel, s.serveCancel, id
	}
	return "", nil, ""
}

// splitRoute returns the last three segments of a path, which may end in a slash.
func splitRoute(path string) (collection, id, leaf string) {
	path, leaf = cutLast(strings.TrimSuffix(path, "/"))
	path, id = cutLast(path)
	_, collection = cutLast(path)
	return collection, id, leaf
}

func cutLast(path string) (before, segment string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// parseID reads a positive 64-bit decimal as ids are written: digits without a
// leading zero.
func parseID(s string) (int64, bool) {
	if s == "" || s[0] < '1' || s[0] > '9' {
		return 0, false
	}
	id, err := strconv.ParseInt(s, 10, 64)
	return id, err == nil
}

func allowMethods(r *http.Request, methods ...string) error {
	for _, m := range methods {
		if r.Method == m {
			return nil
		}
	}
	return wire.MethodNotAllowed(strings.Join(methods, ", "))
}

// authenticate resolves the request's API key, and with triggerID the run that
// it may read, in one read of the store.
func (s *Service) authenticate(r *http.Request, triggerID int64) (Grant, error) {
	hash, sent, ok := bearerKey(r.Header["Authorization"])
	if !ok {
		return Grant{}, malformedKey(r.Header["Authorization"], sent)
	}
	ctx, cancel := context.WithTimeout(r.Context(), statementTimeout)
	defer cancel()
	grant, err := s.store.Authenticate(ctx, hash, triggerID)
	if errors.Is(err, ErrNotFound) {
		return Grant{}, unauthorized(true, "The API key is unknown, revoked or expired. Use a valid key.")
	}
	if err != nil {
		return Grant{}, fmt.Errorf("authenticate: %w", err)
	}
	s.used(r.Context(), grant.Key.ID)
	return grant, nil
}

// unauthorized is the 401 of the Bearer API (RFC 6750 §3).
func unauthorized(tokenSent bool, detail string) *wire.Problem {
	if tokenSent {
		return &wire.Problem{Status: http.StatusUnauthorized, Code: "invalid_token", Detail: detail, Challenge: `Bearer error="invalid_token"`}
	}
	return &wire.Problem{Status: http.StatusUnauthorized, Code: "unauthorized", Detail: detail, Challenge: "Bearer"}
}

// malformedKey is the 401 of a request whose API key cannot be one. The detail
// follows from the form of the header alone, and never repeats it.
func malformedKey(headers []string, tokenSent bool) *wire.Problem {
	const remedy = " Send the header Authorization: Bearer <key>."
	if len(headers) > 1 {
		return unauthorized(tokenSent, "The request has more than one Authorization header. Send one.")
	}
	if !tokenSent {
		if len(headers) == 1 && headers[0] != "" {
			return unauthorized(false, "The Authorization header does not begin with Bearer."+remedy)
		}
		return unauthorized(false, "An API key is required."+remedy)
	}
	_, token, _ := strings.Cut(headers[0], " ")
	return unauthorized(true, "The API key is malformed: "+keyFault(strings.Trim(token, " "))+" A key has 64 characters, 0 to 9 and a to f.")
}

// keyFault names the first thing that is wrong with the form of an API key.
func keyFault(token string) string {
	lower := strings.ToLower(token)
	switch {
	case token == "":
		return "it is empty."
	case strings.HasPrefix(lower, "bearer"):
		return "it begins with Bearer a second time."
	case strings.ContainsAny(token, "\"'`“”‘’"):
		return "it contains a quotation mark."
	case strings.ContainsAny(token, "<>{}$"):
		return "it contains the bracket of a placeholder."
	case strings.ContainsAny(token, "\r\n") || strings.Contains(token, `\n`) || strings.Contains(token, `\r`) ||
		strings.Contains(lower, "%0a") || strings.Contains(lower, "%0d"):
		return "it contains a line break."
	case strings.ContainsAny(token, " \t"):
		return "it contains white space."
	case strings.ContainsFunc(lower, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') }):
		return "it contains a character that is not a hexadecimal digit."
	case len(token) != keyLength:
		return fmt.Sprintf("it has %d characters.", len(token))
	case lower != token:
		return "it contains upper-case letters."
	}
	return "it cannot be read."
}
