package admin

import (
	"context"
	"errors"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/bridge"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// Options configures a Handler. Every field has a safe default. The functions must be
// safe for concurrent use. If one returns an error, the response is 503 if the error
// wraps [webtrigger.ErrUnavailable], and 500 otherwise.
type Options struct {
	// Assistants lists the host's assistants, for GET /assistants. ctx is the context
	// of the request. If nil, the list contains the assistants that have channel
	// settings, signing secrets or API keys.
	Assistants func(ctx context.Context) ([]Assistant, error)

	// Tools lists the tools that a task definition may allow, for GET /tools. If nil,
	// there are none.
	Tools func(ctx context.Context) ([]Tool, error)

	// MaxBodyBytes is the maximum size of a request body, in bytes. Test triggers use
	// [webtrigger.Options.MaxBodyBytes] instead. If zero, it is 1 MiB. It must not be
	// negative.
	MaxBodyBytes int64
}

// Assistant is one of the host's assistants, in the form that lists show.
type Assistant struct {
	ID   string
	Name string // "" is null
}

// Tool is a tool that an assistant may call.
type Tool struct {
	Name        string
	Description string // "" is null
}

// callTimeout bounds a call, other than a stream, a test trigger, which may be
// held until its run ends, and a test callback, which has a bound of its own.
const callTimeout = 10 * time.Second

// Handler serves the JSON API. It reads paths relative to its mount point, so you can
// mount it at the root or behind [http.StripPrefix]. It is safe for concurrent use.
type Handler struct {
	svc         *webtrigger.Service
	authorize   webtrigger.Authorizer
	opts        Options
	crossOrigin *http.CrossOriginProtection
	events      http.Handler
	mux         *http.ServeMux
}

// New returns the JSON API of svc. It calls authorize for every request. It copies
// opts; if opts is nil, the defaults apply. It returns an error if svc or authorize is
// nil, or if an option is invalid.
func New(svc *webtrigger.Service, authorize webtrigger.Authorizer, opts *Options) (*Handler, error) {
	if svc == nil || authorize == nil {
		return nil, errors.New("admin: service and authorizer must not be nil")
	}
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.MaxBodyBytes < 0 {
		return nil, errors.New("admin: options: MaxBodyBytes must not be negative")
	}
	if o.MaxBodyBytes == 0 {
		o.MaxBodyBytes = 1 << 20
	}
	h := &Handler{
		svc: svc, authorize: authorize, opts: o,
		crossOrigin: http.NewCrossOriginProtection(),
		events:      svc.EventsHandler(authorize),
		mux:         http.NewServeMux(),
	}
	h.routes()
	return h, nil
}

func (h *Handler) routes() {
	h.handle("/", nil)
	h.handle("/assistants", resource{
		"GET": guard(h, webtrigger.ActionReadAssistants, everything, h.listAssistants, "limit", "cursor")})
	h.handle("/tools", resource{
		"GET": guard(h, webtrigger.ActionReadTaskDefinitions, everything, h.listTools)})
	h.handle("/assistants/{id}/channel", resource{
		"GET": guard(h, webtrigger.ActionReadChannel, h.assistant, h.getChannel),
		"PUT": guard(h, webtrigger.ActionWriteChannel, h.assistant, h.putChannel)})
	h.handle("/assistants/{id}/signing-secrets", resource{
		"GET": guard(h, webtrigger.ActionReadSigningSecrets, h.assistant, h.getSecrets),
		"PUT": guard(h, webtrigger.ActionWriteSigningSecrets, h.assistant, h.putSecrets)})
	h.handle("/assistants/{id}/keys", resource{
		"GET":  guard(h, webtrigger.ActionReadKeys, h.assistant, h.listKeys, "limit", "cursor"),
		"POST": guard(h, webtrigger.ActionWriteKeys, h.assistant, h.createKey)})
	h.handle("/keys", resource{
		"GET": guard(h, webtrigger.ActionReadKeys, assistantAsked, h.listAllKeys, "assistant_id", "prefix", "active", "limit", "cursor")})
	h.handle("/keys/{id}", resource{
		"GET": guard(h, webtrigger.ActionReadKeys, h.key, h.getKey)})
	h.handle("/keys/{id}/rotate", resource{
		"POST": guard(h, webtrigger.ActionWriteKeys, h.key, h.rotateKey)})
	h.handle("/keys/{id}/revoke", resource{
		"POST": guard(h, webtrigger.ActionWriteKeys, h.key, h.revokeKey)})
	h.handle("/assistants/{id}/tasks", resource{
		"GET":  guard(h, webtrigger.ActionReadTaskDefinitions, h.assistant, h.listTasks, "limit", "cursor"),
		"POST": guard(h, webtrigger.ActionWriteTaskDefinitions, h.assistant, h.createTask)})
	h.handle("/tasks", resource{
		"GET": guard(h, webtrigger.ActionReadTaskDefinitions, assistantAsked, h.listAllTasks, "assistant_id", "active", "limit", "cursor")})
	h.handle("/tasks/{id}", resource{
		"GET":    guard(h, webtrigger.ActionReadTaskDefinitions, h.task, h.getTask),
		"PUT":    guard(h, webtrigger.ActionWriteTaskDefinitions, h.task, h.putTask),
		"DELETE": guard(h, webtrigger.ActionWriteTaskDefinitions, h.task, h.deleteTask)})
	h.handle("/assistants/{id}/test-trigger", resource{
		"POST": guardPatiently(h, webtrigger.ActionWriteRuns, h.assistant, h.testTrigger)})
	h.handle("/assistants/{id}/test-callback", resource{
		"POST": guardPatiently(h, webtrigger.ActionWriteDeliveries, h.assistant, h.testCallback)})
	h.handle("/runs", resource{
		"GET": guard(h, webtrigger.ActionReadRuns, assistantAsked, h.listRuns,
			slices.Concat(runFilterParams, []string{"order", "limit", "cursor"})...)})
	h.handle("/runs/counts", resource{
		"GET": guard(h, webtrigger.ActionReadRuns, assistantAsked, h.countRuns, runFilterParams...)})
	h.handle("/runs/cancel", resource{
		"POST": guard(h, webtrigger.ActionWriteRuns, assistantAsked, h.cancelMany, "assistant_id")})
	h.handle("/runs/repeat", resource{
		"POST": guard(h, webtrigger.ActionWriteRuns, assistantAsked, h.repeatMany, "assistant_id")})
	h.handle("/runs/redeliver", resource{
		"POST": guard(h, webtrigger.ActionWriteDeliveries, assistantAsked, h.redeliverRuns, "assistant_id")})
	h.handle("/runs/{id}", resource{
		"GET": guard(h, webtrigger.ActionReadRuns, h.run, h.getRun)})
	h.handle("/runs/{id}/cancel", resource{
		"POST": guard(h, webtrigger.ActionWriteRuns, h.run, h.cancelRun)})
	h.handle("/runs/{id}/input", resource{
		"POST": guard(h, webtrigger.ActionWriteRuns, h.run, h.answerRun)})
	h.handle("/queue", resource{
		"GET": guard(h, webtrigger.ActionReadQueue, everything, h.getQueue)})
	h.handle("/conversations", resource{
		"GET": guard(h, webtrigger.ActionReadConversations, assistantAsked, h.listConversations,
			"assistant_id", "conversation_key", "limit", "cursor")})
	h.handle("/stats", resource{
		"GET": guard(h, webtrigger.ActionReadStats, assistantAsked, h.getStats, "from", "to", "step", "assistant_id")})
	h.handle("/data", resource{
		"GET": guard(h, webtrigger.ActionReadData, everything, h.getData)})
	h.handle("/audit", resource{
		"GET": guard(h, webtrigger.ActionReadAudit, everything, h.listAudit, "actor", "object", "from", "to", "limit", "cursor")})
	h.handle("/conversations/{id}", resource{
		"GET":    guard(h, webtrigger.ActionReadConversations, h.conversation, h.getConversation),
		"DELETE": guard(h, webtrigger.ActionEraseConversations, h.conversation, h.eraseConversation)})
	h.handle("/conversations/{id}/messages", resource{
		"GET": guard(h, webtrigger.ActionReadConversations, h.conversation, h.listMessages, "run_id", "limit", "cursor")})
	h.handle("/runs/{id}/events", resource{
		"GET": h.streamRun})
	h.handle("/runs/{id}/deliveries", resource{
		"GET": guard(h, webtrigger.ActionReadDeliveries, h.run, h.listDeliveries)})
	h.handle("/deliveries", resource{
		"GET": guard(h, webtrigger.ActionReadDeliveries, assistantAsked, h.findDeliveries,
			"assistant_id", "state", "host", "last", "from", "to", "limit", "cursor")})
	h.handle("/deliveries/counts", resource{
		"GET": guard(h, webtrigger.ActionReadDeliveries, assistantAsked, h.countDeliveries,
			"assistant_id", "state", "host", "last", "from", "to")})
	h.handle("/deliveries/redeliver", resource{
		"POST": guard(h, webtrigger.ActionWriteDeliveries, assistantAsked, h.redeliverMany, "assistant_id")})
	h.handle("/deliveries/{id}/redeliver", resource{
		"POST": guard(h, webtrigger.ActionWriteDeliveries, h.delivery, h.redeliver)})
}

// ServeHTTP serves the API.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	wire.SetRequestID(w, r)
	w.Header().Set("Cache-Control", "no-store")
	// The mux would redirect an unclean path, to a place outside of the mount.
	if p := r.URL.EscapedPath(); !strings.HasPrefix(p, "/") || path.Clean(p) != p {
		bridge.WriteError(h.svc, w, r, wire.NotFound())
		return
	}
	h.mux.ServeHTTP(w, r)
}

// endpoint answers one method of one path, or returns what is wrong.
type endpoint func(w http.ResponseWriter, r *http.Request) error

// resource is what a path takes, by method. HEAD works where GET does.
type resource map[string]endpoint

// handle puts a resource at a path; nil is nothing there.
func (h *Handler) handle(pattern string, res resource) {
	var methods []string
	for method := range res {
		methods = append(methods, method)
	}
	if res["GET"] != nil {
		methods = append(methods, "HEAD")
	}
	slices.Sort(methods)
	allow := strings.Join(methods, ", ")
	h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if err := h.serve(w, r, res, allow); err != nil {
			bridge.WriteError(h.svc, w, r, err)
		}
	})
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, res resource, allow string) error {
	if res == nil {
		return wire.NotFound()
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	serve := res[method]
	if serve == nil {
		return wire.MethodNotAllowed(allow)
	}
	if h.crossOrigin.Check(r) != nil {
		return &wire.Problem{Status: http.StatusForbidden, Code: "cross_origin",
			Detail: "Cross-origin writes are not allowed. Send the request from the application's own origin."}
	}
	return serve(w, r)
}
