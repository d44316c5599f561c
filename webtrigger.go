// Package webtrigger lets any outside service start an assistant conversation
// in your backend with one HTTPS POST, and get the result by polling, by
// callback or from a live event stream.
//
// You bring the assistant, as a [Runner]; a [Store] keeps what happens; a
// [Service] joins the two and speaks HTTP:
//
//	svc, err := webtrigger.New(memstore.New(nil), runner, &webtrigger.Options{BaseURL: "https://app.example.com"})
//	mux.Handle("/api/v1/assistants/{assistant_id}/web-trigger", svc) // Bearer API
//	mux.Handle("/api/v1/web-triggers/", svc)
//	mux.Handle("/conversations/{conversation_id}/agent-events", svc.EventsHandler(authorize)) // behind your session
//	err = svc.Work(ctx) // executes runs until ctx ends, then drains
//
// # The life of a trigger
//
// A POST is judged (key, channel, body), then stored: a conversation, its
// message, a run and the run's first event, in one transaction. Only then is it
// answered with 202. A process in which [Service.Work] runs takes the run under
// a lease, calls the Runner, renews the lease while it works, stores what it
// emits as events, and ends the run with exactly one terminal transition, which
// also owes the callback. Another process may do any of these steps: the store
// is the queue, the clock and the truth.
//
//	POST ─► queued ─► running ─► completed | failed | cancelled | timed_out
//	                                 │
//	            GET …/status ◄───────┼───► callback (once)
//	                                 └───► event stream (resumable)
//
// # What is yours and what is ours
//
// The host owns assistants, users, sessions, routes and logging. The library
// owns API keys, channel settings, task definitions, triggers, runs, events and
// callback deliveries; each is administered by a method of Service. A channel
// is off until [Service.SetChannel] turns it on.
package webtrigger

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/webtrigger-go/webtrigger/internal/egress"
	"github.com/webtrigger-go/webtrigger/internal/inflight"
	"github.com/webtrigger-go/webtrigger/internal/ratelimit"
	"github.com/webtrigger-go/webtrigger/internal/stream"
)

// Runner executes an assistant over one task. It is the host's agent, or the
// one of package llm.
type Runner interface {
	// Run works until the task is done and returns its result; a non-nil error
	// fails the run and its text becomes the run's error_message.
	//
	// ctx ends when the run is to stop: [context.Cause] is ErrCancelled,
	// ErrDeadline, ErrShutdown or ErrLeaseLost. That cause then decides the run's
	// outcome, whatever Run returns; a Run that has not returned
	// [Options.CancelGrace] later is abandoned.
	//
	// Runs of different tasks are called concurrently. A panic fails the run and
	// nothing else. emit may be called from several goroutines until Run returns.
	Run(ctx context.Context, task *Task, emit Emit) (*Result, error)
}

// RunnerFunc is a function that is a Runner.
type RunnerFunc func(ctx context.Context, task *Task, emit Emit) (*Result, error)

// Run calls f.
func (f RunnerFunc) Run(ctx context.Context, task *Task, emit Emit) (*Result, error) {
	return f(ctx, task, emit)
}

// Task is what a Runner works on. It is the Runner's own copy.
type Task struct {
	Run        Run
	Input      RunInput        // what the caller sent
	Prompt     string          // the message and, where there is context, its lines: what the assistant sees
	Definition *TaskDefinition // the task definition as it was at accept; nil: none
}

// Emit records one event of the run. The payload is anything that marshals to a
// JSON object; text that is not valid Unicode is made so. The event is stored
// soon after, in order and always before the run ends; readers see it then.
// message_delta events that follow one another may become one, with their texts
// put together (see [Options.DeltaInterval]), unless their payloads hold more
// than a text.
//
// It returns an error, and records nothing, when the type is one that only the
// library writes or is unknown, when the payload is not an object or larger
// than [MaxEventPayloadBytes], and when the run's context has ended. It blocks while
// too many events wait to be stored.
type Emit func(typ EventType, payload any) error

// Result is what a Runner made.
type Result struct {
	Text     string       // at most MaxResultBytes bytes, else the run fails; where the task asks for JSON, the JSON text
	Usage    *Usage       // nil: not reported
	Messages []NewMessage // the transcript between the prompt and Text, stored on the conversation
}

// MaxResultBytes bounds a run's result, in bytes of UTF-8.
const MaxResultBytes = 1 << 20

// Clock is the time of a store that has no clock of its own. Stores on a
// database server use the server's.
type Clock interface {
	Now() time.Time
}

// Options is everything about a Service that has a safe default. The zero value
// is ready for production, except that BaseURL should be set wherever the
// service is reached through a proxy.
type Options struct {
	// BaseURL is the public URL on which the URLs of responses and callbacks are
	// built. It may have a path. If empty, they are built on the scheme, Host and
	// path of each trigger request; forwarding headers are not trusted.
	// [Service.Trigger] requires it, or APIBase and SessionBase.
	BaseURL string

	// APIBase is the public URL in front of /assistants/… and /web-triggers/…, for
	// hosts that mount the Bearer API at another path than /api/v1. If empty, it is
	// BaseURL followed by /api/v1.
	APIBase string

	// SessionBase is the public URL in front of /conversations/…, for hosts that
	// mount the event stream apart. If empty, it is BaseURL.
	SessionBase string

	// Logger receives operational log records. If nil, they are discarded.
	Logger *slog.Logger

	// MaxBodyBytes bounds a request body. 0: 1 MiB.
	MaxBodyBytes int64

	// Limits bounds what callers may ask of the trigger endpoint. Zero: nothing.
	Limits Limits

	// AcceptedWhileProcessing makes the status endpoint answer 202 with Location, instead of
	// 200, until the run has ended, for clients that poll by that themselves: Azure
	// Logic Apps, Power Automate. These answers have no ETag.
	AcceptedWhileProcessing bool

	// Workers is the maximum number of runs that Work executes at a time. If zero,
	// it is 16.
	Workers int

	// NoWorkers lets Work execute no runs: it only sweeps and sends callbacks.
	// Workers is then ignored, and the Runner may be nil.
	NoWorkers bool

	// Lease is how long a run stays with a worker that has stopped sending
	// heartbeats. 0: 30 s; at least 1 s. It is renewed every third of it, and at
	// least every 2 s.
	Lease time.Duration

	// RunTimeout bounds one attempt of a run. 0: 15 min.
	RunTimeout time.Duration

	// MaxQueueTime ends a run that has waited so long in the queue. 0: never.
	MaxQueueTime time.Duration

	// MaxAttempts is how often a run is begun when its workers vanish. 0: 1, an
	// agent's side effects are not repeated unless the host says so.
	MaxAttempts int

	// CancelGrace is how long a Runner may take to return after its context has
	// ended. 0: 5 s.
	CancelGrace time.Duration

	// DrainTimeout is how long Work lets running runs go on after its context
	// has ended. 0: 20 s. Negative: not at all.
	DrainTimeout time.Duration

	// Retention says how long what has ended is kept. Zero: forever.
	Retention Retention

	// CompileSchema compiles the output_schema of a task definition into a check
	// of results. nil: definitions with a schema are refused. Package llm has
	// one (llm.CompileSchema).
	CompileSchema func(schema json.RawMessage) (check func(result json.RawMessage) error, err error)

	// DeltaInterval is how long the text of message_delta events may wait to be
	// put together with what follows it, into one event. The first piece after a
	// pause does not wait. 0: 50 ms. Negative: each piece is an event of its own.
	DeltaInterval time.Duration

	// Callback says how callbacks are sent.
	Callback CallbackOptions

	// Streams bounds what event streams take.
	Streams StreamOptions

	// Hooks are called as the service works, for tracing and metrics.
	Hooks Hooks
}

// CallbackOptions says where callbacks may go besides the public internet and
// how they are sent. There is no switch that turns the guard off.
type CallbackOptions struct {
	// Allow lists address ranges that may be reached besides the public
	// internet, for receivers on a private network. With any, single-label,
	// .internal, .local and .localhost names may be used too.
	Allow []netip.Prefix

	// RootCAs verifies receivers' certificates. nil: the system's roots.
	RootCAs *x509.CertPool

	// Resolver looks receivers' names up. nil: Go's own resolver.
	Resolver *net.Resolver

	// Workers is how many callbacks are under way at a time. 0: 32.
	Workers int

	// PerHost is how many of them go to one host (host:port) at a time, so that a
	// slow receiver holds up no other. 0: 8, or all of Workers if these are fewer.
	PerHost int

	// Secrets sign the callbacks of assistants that have no secrets of their own
	// ([Service.SetSigningSecrets]): one, or two while receivers change over.
	// Empty: these callbacks are not signed.
	Secrets []SigningSecret

	// Retry sends a callback that failed again. nil: every callback is sent once,
	// whatever becomes of it. See [RetryPolicy].
	Retry *RetryPolicy
}

const (
	minLease         = time.Second
	pollInterval     = 2 * time.Second // the net under every wake-up
	statementTimeout = 10 * time.Second
)

// Service is the Web Trigger channel: a portable type over a [Store]. Its
// methods are safe for concurrent use.
type Service struct {
	store     Store
	runner    Runner
	opts      Options
	log       *slog.Logger
	id        string // names this process to the store
	guard     *egress.Guard
	connect   connector
	worker    worker
	rate      *ratelimit.Buckets
	creations *inflight.Calls
	owed      chan struct{} // the dispatcher should look
	streams   *stream.Hub
	watcher   watcher
	keyUses   keyUses

	advice       advice
	mount        atomic.Pointer[string] // see TriggerURL
	mountWarning sync.Once
}

// New returns a Service over store that executes runs with runner. The options
// may be nil and are copied. It starts nothing: see [Service.Work].
func New(store Store, runner Runner, opts *Options) (*Service, error) {
	if isNil(store) {
		return nil, errors.New("webtrigger: store must not be nil")
	}
	if isNil(runner) {
		runner = nil
	}
	var o Options
	if opts != nil {
		o = *opts
	}
	if err := o.complete(runner); err != nil {
		return nil, fmt.Errorf("webtrigger: options: %w", err)
	}
	guard, err := egress.New(egress.Policy{Allow: o.Callback.Allow, RootCAs: o.Callback.RootCAs, Resolver: o.Callback.Resolver})
	if err != nil {
		return nil, fmt.Errorf("webtrigger: options: Callback: %w", err)
	}
	s := &Service{
		store: store, runner: runner, opts: o, log: o.Logger, id: uuid.NewString(),
		guard: guard, connect: guardedConnector{guard}, owed: make(chan struct{}, 1),
		rate: ratelimit.New(o.Limits.TriggersPerKey, o.Limits.Window), creations: inflight.New(maxCreations),
	}
	s.advice.log = s.log
	s.worker.init(o.Workers)
	s.watcher = watcher{store: store, log: s.log, wake: s.hint}
	s.streams = stream.New(streamSource{store, &s.watcher}, stream.Options{
		Log: s.log, MemoryBytes: o.Streams.MemoryBytes, PerKey: o.Streams.PerKey, MaxWaits: maxWaits, WriteTimeout: o.Streams.WriteTimeout,
		NotFound:    func(err error) bool { return errors.Is(err, ErrNotFound) },
		Unavailable: func(err error) bool { return errors.Is(err, ErrUnavailable) },
	})
	return s, nil
}

// isNil also finds the nil pointer or function inside an interface.
func isNil(v any) bool {
	switch of := reflect.ValueOf(v); of.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Pointer, reflect.Func, reflect.Map:
		return of.IsNil()
	}
	return false
}

// complete checks o and puts the defaults where it is zero.
func (o *Options) complete(runner Runner) error {
	if err := o.completeBases(); err != nil {
		return err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if runner == nil && !o.NoWorkers {
		return errors.New("runner must not be nil unless NoWorkers is set")
	}
	for _, d := range []struct {
		name string
		v    *time.Duration
		def  time.Duration
	}{
		{"Lease", &o.Lease, 30 * time.Second},
		{"RunTimeout", &o.RunTimeout, 15 * time.Minute},
		{"MaxQueueTime", &o.MaxQueueTime, 0},
		{"CancelGrace", &o.CancelGrace, 5 * time.Second},
	} {
		if *d.v < 0 {
			return errors.New(d.name + " must not be negative")
		}
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if err := o.Retention.check(); err != nil {
		return err
	}
	if err := o.Limits.complete(); err != nil {
		return fmt.Errorf("in Limits: %w", err)
	}
	if o.Lease < minLease {
		return fmt.Errorf("Lease must be at least %v", minLease)
	}
	if o.DeltaInterval == 0 {
		o.DeltaInterval = 50 * time.Millisecond
	}
	if err := o.Streams.complete(); err != nil {
		return err
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = 20 * time.Second
	}
	if o.MaxBodyBytes < 0 || o.MaxAttempts < 0 || o.Workers < 0 {
		return errors.New("MaxBodyBytes, MaxAttempts and Workers must not be negative")
	}
	if o.MaxBodyBytes == 0 {
		o.MaxBodyBytes = 1 << 20
	}
	if o.MaxAttempts == 0 {
		o.MaxAttempts = 1
	}
	switch {
	case o.NoWorkers:
		o.Workers = 0
	case o.Workers == 0:
		o.Workers = 16
	}
	if err := o.Callback.complete(); err != nil {
		return fmt.Errorf("in Callback: %w", err)
	}
	return nil
}

func (o *CallbackOptions) complete() error {
	if o.Workers < 0 || o.PerHost < 0 {
		return errors.New("Workers and PerHost must not be negative")
	}
	if o.Workers == 0 {
		o.Workers = 32
	}
	if o.PerHost == 0 {
		o.PerHost = min(8, o.Workers)
	}
	if err := checkSecrets(o.Secrets); err != nil {
		return fmt.Errorf("the Secrets %w", err)
	}
	o.Secrets = slices.Clone(o.Secrets)
	if o.Retry != nil {
		policy, err := o.Retry.complete()
		if err != nil {
			return fmt.Errorf("in Retry: %w", err)
		}
		o.Retry = policy
	}
	return nil
}

// Ping reports whether the store answers.
func (s *Service) Ping(ctx context.Context) error { return s.store.Ping(ctx) }
