package webtrigger

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
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
//	POST …/web-triggers/{trigger_id}/input
//
// It reads the end of the path itself. It therefore works with any router, below any
// prefix and behind [http.StripPrefix]. It checks a request in this order: 404 for
// the route, 405, 401, 403, 415, 413, the idempotent replay, 429 for the rate, 400,
// 422, and 429 for a full queue.
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
		s.writeError(w, r, err)
	}
}

// The patterns of the paths, as [Hooks.Request] reports them.
const (
	routeTrigger       = "/api/v1/assistants/{assistant_id}/web-trigger"
	routeStatus        = "/api/v1/web-triggers/{trigger_id}/status"
	routeKeyEvents     = "/api/v1/web-triggers/{trigger_id}/events"
	routeCancel        = "/api/v1/web-triggers/{trigger_id}/cancel"
	routeInput         = "/api/v1/web-triggers/{trigger_id}/input"
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
	case collection == "web-triggers" && leaf == "input":
		return routeInput, s.serveInput, id
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

// admitTrigger authenticates a request for a trigger, whose key must have the scope. It
// returns the run that run_id names, or else the first one.
func (s *Service) admitTrigger(r *http.Request, segment string, scope Scope) (Grant, error) {
	triggerID, ok := parseID(segment)
	runID, named, invalid := requestedRun(r)
	grant, err := s.authenticate(r, triggerID, runID)
	if err == nil && !grant.Key.May(scope) {
		err = missingScope(scope)
	}
	if err == nil {
		err = invalid
	}
	if err == nil && (!ok || !named || grant.Run == nil) {
		err = wire.NotFound()
	}
	return grant, err
}

// requestedRun reads the run_id of a request; 0 without one. named is false if run_id
// cannot be an id.
func requestedRun(r *http.Request) (runID int64, named bool, err error) {
	if r.URL.RawQuery == "" {
		return 0, true, nil
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return 0, false, wire.BadRequest("invalid_query", "The query is malformed.")
	}
	switch given := values["run_id"]; len(given) {
	case 0:
		return 0, true, nil
	case 1:
		runID, named = parseID(given[0])
		return runID, named, nil
	}
	return 0, false, wire.BadRequest("invalid_query", "run_id must be given once.")
}

// authenticate resolves the request's API key, and with triggerID the run that
// it may read, in one read of the store. runID 0 is the first run.
func (s *Service) authenticate(r *http.Request, triggerID, runID int64) (Grant, error) {
	hash, err := requestKey(r)
	if err != nil {
		return Grant{}, err
	}
	return s.authenticateKey(r, hash, triggerID, runID)
}

// requestKey returns the hash of the request's API key.
func requestKey(r *http.Request) (KeyHash, error) {
	hash, sent, ok := bearerKey(r.Header["Authorization"])
	if !ok {
		return KeyHash{}, malformedKey(r.Header["Authorization"], sent)
	}
	return hash, nil
}

func (s *Service) authenticateKey(r *http.Request, hash KeyHash, triggerID, runID int64) (Grant, error) {
	ctx, cancel := context.WithTimeout(r.Context(), statementTimeout)
	defer cancel()
	grant, err := s.store.Authenticate(ctx, hash, triggerID, runID)
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

// keyFault returns the first fault in the form of an API key.
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

// Authorizer reports whether the session of a request may perform an action. The
// event stream and the admin handler use the same function. It returns nil to allow
// access, [ErrUnauthenticated] if the request has no signed-in user (the client gets
// a 401), or any other error to deny access (the client gets the 404 of a resource
// that does not exist). It must not write to the client.
//
// While an event stream is open, the service calls the Authorizer again. There, an
// error that wraps [ErrUnavailable] means that it cannot answer now, and the stream
// waits. It must be safe for concurrent use.
//
// An Authorizer should name the user of an administrative write for the audit log, with
// [SetActor].
type Authorizer func(r *http.Request, access Access) error

// Access describes the access that an Authorizer allows or denies.
type Access struct {
	Action Action

	// AssistantID is the assistant whose data the request accesses. It is empty for a
	// list over all assistants and for a resource that does not exist. You may deny
	// those to everyone except administrators.
	AssistantID string

	// ConversationID is the conversation that the request accesses. If zero, it does
	// not access a single conversation.
	ConversationID int64
}

// Action is the action that a request performs.
type Action string

// Actions that an Authorizer receives. The event stream uses ActionReadEvents. The
// admin handler uses all of them.
const (
	ActionReadEvents           Action = "events.read"
	ActionReadChannel          Action = "channel.read"
	ActionWriteChannel         Action = "channel.write"
	ActionReadKeys             Action = "keys.read"
	ActionWriteKeys            Action = "keys.write"
	ActionReadTaskDefinitions  Action = "tasks.read"
	ActionWriteTaskDefinitions Action = "tasks.write"
	ActionReadRuns             Action = "runs.read"
	ActionWriteRuns            Action = "runs.write" // cancel, answers, test triggers
	ActionReadDeliveries       Action = "deliveries.read"
	ActionWriteDeliveries      Action = "deliveries.write" // redeliver, test callbacks
	ActionReadAssistants       Action = "assistants.read"
	ActionReadConversations    Action = "conversations.read"
	ActionEraseConversations   Action = "conversations.erase"
	ActionReadSigningSecrets   Action = "secrets.read" // how many there are, never their text
	ActionWriteSigningSecrets  Action = "secrets.write"
	ActionReadQueue            Action = "queue.read"
	ActionReadAudit            Action = "audit.read"
	ActionReadStats            Action = "stats.read"
	ActionReadData             Action = "data.read" // retention, and how much is stored
)

// The URLs of responses and callbacks are built on two public bases: that of the
// Bearer API, and that of the event stream behind the host's session.
//
//	Options.APIBase      https://host/api/v1   /web-triggers/42/status, /web-triggers/42/events
//	Options.SessionBase  https://host          /conversations/42/agent-events
//
// Without options, they come from the trigger request, so that the URLs lead to
// the handler that answered it. They are stored with the trigger: later responses
// and the callback repeat them, whichever process writes them.

// apiPath is the path of the Bearer API below Options.BaseURL.
const apiPath = "/api/v1"

// bases are the public bases of one trigger, without a slash at the end.
type bases struct{ api, session string }

// stored is the text that the store keeps as the base URL of a trigger: one URL
// if the API is at its default place below the session base, else both, separated
// by a space. Neither contains a space.
func (b bases) stored() string {
	if b.api == b.session+apiPath {
		return b.session
	}
	return b.api + " " + b.session
}

// storedBases reads what stored returned.
func storedBases(text string) bases {
	if api, session, both := strings.Cut(text, " "); both {
		return bases{api, session}
	}
	return bases{text + apiPath, text}
}

// StatusURL returns the URL that returns the status of the run. It has a run_id if the
// conversation has a key or the run is not its first one.
func (r *Run) StatusURL() string {
	status := storedBases(r.BaseURL).api + "/web-triggers/" + strconv.FormatInt(r.ConversationID, 10) + "/status"
	if r.Continues || r.ConversationKey != "" {
		status += "?run_id=" + strconv.FormatInt(r.ID, 10)
	}
	return status
}

// StreamURL returns the URL of the run's event stream for the API key.
func (r *Run) StreamURL() string {
	return storedBases(r.BaseURL).api + "/web-triggers/" + strconv.FormatInt(r.ConversationID, 10) +
		"/events?run_id=" + strconv.FormatInt(r.ID, 10)
}

// EventsURL returns the URL of the run's event stream for the host's session.
func (r *Run) EventsURL() string {
	return storedBases(r.BaseURL).session + "/conversations/" + strconv.FormatInt(r.ConversationID, 10) +
		"/agent-events?run_id=" + strconv.FormatInt(r.ID, 10)
}

// completeBases checks the options of the public bases and fills in defaults. All
// three stay empty if the bases come from the request.
func (o *Options) completeBases() error {
	for _, u := range []struct {
		name  string
		value *string
	}{{"BaseURL", &o.BaseURL}, {"APIBase", &o.APIBase}, {"SessionBase", &o.SessionBase}} {
		if *u.value == "" {
			continue
		}
		base, err := url.Parse(*u.value)
		if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" || strings.Contains(*u.value, " ") ||
			base.RawQuery != "" || base.Fragment != "" || base.User != nil {
			return errors.New(u.name + " must be an absolute http or https URL without query, fragment and user")
		}
		*u.value = strings.TrimRight(*u.value, "/")
	}
	if o.BaseURL == "" && (o.APIBase == "") != (o.SessionBase == "") {
		return errors.New("APIBase and SessionBase must be set together, or BaseURL must be set")
	}
	if o.BaseURL != "" && o.APIBase == "" {
		o.APIBase = o.BaseURL + apiPath
	}
	if o.BaseURL != "" && o.SessionBase == "" {
		o.SessionBase = o.BaseURL
	}
	return nil
}

// configuredBases returns the bases that the options set; ok is false if they come
// from requests.
func (s *Service) configuredBases() (b bases, ok bool) {
	return bases{s.opts.APIBase, s.opts.SessionBase}, s.opts.APIBase != ""
}

// requestBases returns the bases for a trigger that r requests.
func (s *Service) requestBases(r *http.Request) (bases, error) {
	if b, ok := s.configuredBases(); ok {
		s.checkMount(r, b.api)
		return b, nil
	}
	origin, err := originOf(r)
	if err != nil {
		return bases{}, err
	}
	api, ok := apiMount(r)
	if !ok { // ServeTrigger, on a path of the host's own
		api = s.lastMount()
	}
	if len(origin)+len(api) > maxBase {
		return bases{}, wire.BadRequest("url_too_long", fmt.Sprintf("The URL in front of /assistants/ must have at most %d characters.", maxBase))
	}
	session, below := strings.CutSuffix(api, apiPath)
	if !below && !servesAll(r) {
		session = "" // the event stream is mounted apart from the API, at its default place
	}
	return bases{origin + api, origin + session}, nil
}

const (
	maxBase = 2048 // bound of a base that comes from a request, in bytes
	maxHost = 260  // of its host: a DNS name of 254 bytes with its last dot, and a port
)

// originOf returns the scheme and host of a request. Forwarding headers are not
// trusted.
func originOf(r *http.Request) (string, error) {
	if r.Host == "" {
		return "", wire.BadRequest("missing_host", "The request has no Host header. Send one.")
	}
	if len(r.Host) > maxHost {
		return "", wire.BadRequest("url_too_long", fmt.Sprintf("The Host header must have at most %d characters.", maxHost))
	}
	if strings.ContainsFunc(r.Host, notInHost) { // HTTP/2 has any text in :authority
		return "", wire.BadRequest("missing_host", "The Host header is not a host with an optional port. Send one.")
	}
	if r.TLS != nil {
		return "https://" + r.Host, nil
	}
	return "http://" + r.Host, nil
}

// notInHost reports the characters that end the host of a URL, or cannot be in one.
func notInHost(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune("\"/<>?#@\\^`{|}", c) }

// apiMount returns the path in front of /assistants/… as the client sent it, which
// http.StripPrefix and routers may have cut from the URL.
func apiMount(r *http.Request) (string, bool) {
	for _, path := range []string{requestPath(r), r.URL.EscapedPath()} {
		path = strings.TrimSuffix(path, "/")
		if collection, id, leaf := splitRoute(path); collection == "assistants" && leaf == "web-trigger" {
			return path[:max(len(path)-len("/assistants/"+id+"/web-trigger"), 0)], true
		}
	}
	return "", false
}

// requestPath returns the escaped path of the request line; "" if there is none.
func requestPath(r *http.Request) string {
	target, err := url.ParseRequestURI(r.RequestURI) // which may have the absolute form of RFC 9112 §3.2.2
	if err != nil {
		return ""
	}
	return target.EscapedPath()
}

// checkMount logs once if the configured API base cannot lead to the handler that
// serves r. A proxy in front may add or remove a prefix, so one path must be the
// end of the other.
func (s *Service) checkMount(r *http.Request, apiBase string) {
	mount, ok := apiMount(r)
	if !ok {
		return
	}
	_, base, _ := strings.Cut(apiBase, "://")
	base = base[strings.IndexByte(base+"/", '/'):] // the path
	if strings.HasSuffix(mount, base) || strings.HasSuffix(base, mount) {
		return
	}
	s.mountWarning.Do(func() {
		s.log.WarnContext(r.Context(), "trigger URLs do not lead to the handler", "api_base", apiBase, "request_path", mount,
			"remedy", "set Options.APIBase to the public URL in front of /assistants/")
	})
}

// TriggerURL returns the URL at which callers trigger an assistant, for consoles and
// settings pages. It is built on [Options.APIBase] or [Options.BaseURL]. Without
// these, it is built on the scheme and host of r, and on the path at which the last
// authenticated trigger reached the handler (/api/v1 before the first).
func (s *Service) TriggerURL(r *http.Request, assistantID string) string {
	leaf := "/assistants/" + url.PathEscape(assistantID) + "/web-trigger"
	if b, ok := s.configuredBases(); ok {
		return b.api + leaf
	}
	origin, err := originOf(r)
	if err != nil {
		origin = "" // the path is what is left
	}
	return origin + s.lastMount() + leaf
}

// lastMount returns the path at which the last trigger reached the handler.
func (s *Service) lastMount() string {
	if seen := s.mount.Load(); seen != nil {
		return *seen
	}
	return apiPath
}

// rememberMount keeps the path at which triggers reach the handler.
func (s *Service) rememberMount(r *http.Request) {
	if s.opts.APIBase != "" {
		return
	}
	if mount, ok := apiMount(r); ok {
		if seen := s.mount.Load(); seen == nil || *seen != mount {
			s.mount.Store(&mount)
		}
	}
}
