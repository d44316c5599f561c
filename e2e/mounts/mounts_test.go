package mounts_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/gorilla/mux"
	"github.com/labstack/echo/v4"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// A router mounts a handler for every path below a prefix, which is "" for the root.
type router struct {
	name string
	new  func() (root http.Handler, mount func(prefix string, h http.Handler))
}

// The mode of gin is a variable of its package, which parallel tests read.
func init() { gin.SetMode(gin.ReleaseMode) }

func routers() []router {
	return []router{
		{"net/http", func() (http.Handler, func(string, http.Handler)) {
			r := http.NewServeMux()
			return r, func(prefix string, h http.Handler) { r.Handle(prefix+"/", h) }
		}},
		{"chi", func() (http.Handler, func(string, http.Handler)) {
			r := chi.NewRouter()
			return r, func(prefix string, h http.Handler) { r.Mount(prefix+"/", h) }
		}},
		{"gin", func() (http.Handler, func(string, http.Handler)) {
			r := gin.New()
			return r, func(prefix string, h http.Handler) { r.Any(prefix+"/*path", gin.WrapH(h)) }
		}},
		{"echo", func() (http.Handler, func(string, http.Handler)) {
			r := echo.New()
			return r, func(prefix string, h http.Handler) { r.Any(prefix+"/*", echo.WrapHandler(h)) }
		}},
		{"gorilla", func() (http.Handler, func(string, http.Handler)) {
			r := mux.NewRouter()
			return r, func(prefix string, h http.Handler) { r.PathPrefix(prefix + "/").Handler(h) }
		}},
	}
}

// A place is a way to mount the service. trigger is the path at which its trigger
// endpoint is reached.
type place struct {
	name    string
	options func(origin string) webtrigger.Options
	mount   func(mount func(string, http.Handler), svc *webtrigger.Service)
	trigger string
}

func places() []place {
	none := func(string) webtrigger.Options { return webtrigger.Options{} }
	return []place{
		{"root", none,
			func(mount func(string, http.Handler), svc *webtrigger.Service) { mount("", svc.Handler(anyone)) },
			"/api/v1/assistants/1/web-trigger"},
		{"prefix", none,
			func(mount func(string, http.Handler), svc *webtrigger.Service) {
				mount("/hooks/v2", svc.Handler(anyone))
			},
			"/hooks/v2/assistants/1/web-trigger"},
		{"StripPrefix", none,
			func(mount func(string, http.Handler), svc *webtrigger.Service) {
				mount("/wt", http.StripPrefix("/wt", svc.Handler(anyone)))
			},
			"/wt/api/v1/assistants/1/web-trigger"},
		{"two prefixes",
			func(origin string) webtrigger.Options {
				return webtrigger.Options{APIBase: origin + "/hooks/v2", SessionBase: origin + "/app/live"}
			},
			func(mount func(string, http.Handler), svc *webtrigger.Service) {
				mount("/hooks/v2", svc)
				mount("/app/live", svc.EventsHandler(anyone))
			},
			"/hooks/v2/assistants/1/web-trigger"},
		{"BaseURL with a path",
			func(origin string) webtrigger.Options { return webtrigger.Options{BaseURL: origin + "/channel"} },
			func(mount func(string, http.Handler), svc *webtrigger.Service) {
				mount("/channel", svc.Handler(anyone))
			},
			"/channel/api/v1/assistants/1/web-trigger"},
	}
}

func anyone(*http.Request, webtrigger.Access) error { return nil }

func TestMounts_everyURL_leadsToItsHandler(t *testing.T) {
	t.Parallel()
	for _, r := range routers() {
		for _, p := range places() {
			t.Run(r.name+"/"+p.name, func(t *testing.T) {
				t.Parallel()
				newHost(t, r, p).follow()
			})
		}
	}
}

// host is a service under one router and one mount, with a receiver of its callbacks.
type host struct {
	t        *testing.T
	place    place
	origin   string
	svc      *webtrigger.Service
	key      string
	receiver *httptest.Server
	events   chan string // the events_url of each callback
}

func newHost(t *testing.T, r router, p place) *host {
	t.Helper()
	root, mount := r.new()
	server := httptest.NewServer(root)
	t.Cleanup(server.Close)
	h := &host{t: t, place: p, origin: server.URL, events: make(chan string, 10)}
	h.receiver = httptest.NewTLSServer(http.HandlerFunc(h.receive))
	t.Cleanup(h.receiver.Close)
	options := p.options(server.URL)
	options.Callback.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	options.Callback.RootCAs = x509.NewCertPool()
	options.Callback.RootCAs.AddCert(h.receiver.Certificate())
	var err error
	h.svc, err = webtrigger.New(memstore.New(nil), webtrigger.RunnerFunc(done), &options)
	require.NoError(t, err)
	p.mount(mount, h.svc)
	require.NoError(t, h.svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true, AllowCallbackURLs: true}))
	_, h.key, err = h.svc.CreateKey(t.Context(), "1", webtrigger.KeySpec{Name: "test"})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	worked := make(chan error, 1)
	go func() { worked <- h.svc.Work(ctx) }()
	t.Cleanup(func() { stop(); require.NoError(t, <-worked) })
	return h
}

// receive records the events_url of a callback.
func (h *host) receive(_ http.ResponseWriter, r *http.Request) {
	var body struct {
		EventsURL string `json:"events_url"`
	}
	if json.NewDecoder(r.Body).Decode(&body) == nil {
		h.events <- body.EventsURL
	}
}

func done(context.Context, *webtrigger.Task, webtrigger.Emit) (*webtrigger.Result, error) {
	return &webtrigger.Result{Text: "done"}, nil
}

// follow requests every URL that a trigger, its replay, its status, its cancellation
// and its callback name.
func (h *host) follow() {
	body := `{"message":"x","callback_url":"` + h.receiver.URL + `"}`
	trigger := h.origin + h.place.trigger
	for range 2 { // the second is a replay
		header, response := h.request(http.MethodPost, trigger, body)
		require.Equal(h.t, header.Get("Location"), response["status_url"])
		h.read(response)
	}
	_, first := h.request(http.MethodPost, trigger, body)
	_, status := h.request(http.MethodGet, first["status_url"].(string), "")
	h.read(status)
	cancel := strings.TrimSuffix(first["status_url"].(string), "/status") + "/cancel"
	_, cancelled := h.request(http.MethodPost, cancel, "")
	h.read(cancelled)
	h.lead(<-h.events)
	require.Equal(h.t, trigger, h.svc.TriggerURL(h.consoleRequest(), "1"), "the console must show the URL of the mounted trigger endpoint")
}

// consoleRequest is a request for a page of the console.
func (h *host) consoleRequest() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/admin/assistants/1", nil)
	origin, err := url.Parse(h.origin)
	require.NoError(h.t, err)
	r.Host = origin.Host
	return r
}

// read requests every URL of a response.
func (h *host) read(response map[string]any) {
	urls := 0
	for field, value := range response {
		if strings.HasSuffix(field, "_url") {
			urls++
			h.lead(value.(string))
		}
	}
	require.NotZero(h.t, urls)
}

// lead requires that the response of a URL has the type that the URL stands for.
func (h *host) lead(target string) {
	header, _ := h.request(http.MethodGet, target, "")
	if strings.Contains(target, "run_id=") && header.Get("Content-Type") != "" {
		require.Equal(h.t, "text/event-stream", header.Get("Content-Type"), target)
	}
}

func (h *host) request(method, target, body string) (http.Header, map[string]any) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	require.NoError(h.t, err)
	r.Header.Set("Authorization", "Bearer "+h.key)
	if method == http.MethodPost && body != "" {
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", "mounts")
	}
	response, err := http.DefaultClient.Do(r)
	require.NoError(h.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(h.t, err)
	require.Less(h.t, response.StatusCode, 300, "%s %s must lead to its handler: %s", method, target, text)
	var fields map[string]any
	if strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") {
		require.NoError(h.t, json.Unmarshal(text, &fields))
	}
	return response.Header, fields
}
