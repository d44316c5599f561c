package webtrigger

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/webtrigger-go/webtrigger/internal/wire"
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
// if the API is at its default place below the session base, else both.
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

// StatusURL returns the URL at which the trigger of this run is polled.
func (r *Run) StatusURL() string {
	return storedBases(r.BaseURL).api + "/web-triggers/" + strconv.FormatInt(r.ConversationID, 10) + "/status"
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

// maxBase bounds a base that comes from a request, in bytes.
const maxBase = 2048

// originOf returns the scheme and host of a request. Forwarding headers are not
// trusted.
func originOf(r *http.Request) (string, error) {
	if r.Host == "" {
		return "", wire.BadRequest("missing_host", "The request has no Host header. Send one.")
	}
	if r.TLS != nil {
		return "https://" + r.Host, nil
	}
	return "http://" + r.Host, nil
}

// apiMount returns the path in front of /assistants/… as the client sent it, which
// http.StripPrefix and routers may have cut from the URL.
func apiMount(r *http.Request) (string, bool) {
	for _, path := range []string{requestPath(r), r.URL.Path} {
		path = strings.TrimSuffix(path, "/")
		if collection, _, leaf := splitRoute(path); collection == "assistants" && leaf == "web-trigger" {
			return path[:strings.LastIndex(path, "assistants/")-1], true
		}
	}
	return "", false
}

// requestPath returns the escaped path of the request line; "" if there is none.
func requestPath(r *http.Request) string {
	target, err := url.ParseRequestURI(r.RequestURI)
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
	base, err := url.Parse(apiBase)
	if err != nil || strings.HasSuffix(mount, base.Path) || strings.HasSuffix(base.Path, mount) {
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
