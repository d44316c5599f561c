// Package webtrigger lets an outside service start an assistant conversation in your
// backend with one HTTPS POST. The service gets the result by polling, by a callback
// or from a live event stream.
//
// You provide the assistant as a [Runner]. A [Store] stores triggers, runs and
// events. A [Service] connects the two and serves HTTP:
//
//	svc, err := webtrigger.New(memstore.New(nil), runner, &webtrigger.Options{BaseURL: "https://app.example.com"})
//	err = svc.Serve(ctx, &http.Server{Addr: ":8080", Handler: svc.Handler(authorize)})
//
// Hosts with a server of their own mount the parts: the Bearer API, the event stream
// behind their session, and the workers.
//
//	mux.Handle("/api/v1/", svc)
//	mux.Handle("/conversations/", svc.EventsHandler(authorize))
//	err = svc.Work(ctx) // executes runs until ctx ends, then drains
//
// # The life of a trigger
//
// The service validates a POST (key, channel, body) and stores a conversation, its
// message, a run and the run's first event in one transaction. It returns 202 only
// after the commit.
//
// A process in which [Service.Work] is active claims the run and calls the Runner.
// While the Runner works, the process renews its lease and stores the emitted events. It ends the run with exactly one terminal transition, which also
// creates the pending callback. Any process can perform any of these steps. The store
// is the queue, the clock and the source of truth.
//
// A Runner may ask a person ([AskInput]). The run is then waiting until the answer, and
// occupies no worker.
//
//	POST ─► queued ─► running ─► completed | failed | cancelled | timed_out
//	                                 │
//	            GET …/status ◄───────┼───► callback (once)
//	                                 └───► event stream (resumable)
//
// # Responsibilities
//
// The host owns assistants, users, sessions, routes and logging. The library owns API
// keys, channel settings, task definitions, triggers, runs, events and callback
// deliveries. You administer each of them with methods of Service. A channel is
// disabled until [Service.SetChannel] enables it.
package webtrigger

import (
	"cmp"
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

	"github.com/webtrigger-go/webtrigger/internal/egress"
	"github.com/webtrigger-go/webtrigger/internal/inflight"
	"github.com/webtrigger-go/webtrigger/internal/ratelimit"
	"github.com/webtrigger-go/webtrigger/internal/recent"
	"github.com/webtrigger-go/webtrigger/internal/stream"
)

// Runner executes an assistant for one run. It is the host's agent or the agent of
// package llm. It must be safe for concurrent use.
type Runner interface {
	// Run executes the task and returns its result. A non-nil error fails the run,
	// and the error text becomes the run's error_message. A panic fails only this
	// run.
	//
	// ctx ends when the run must stop. [context.Cause] is then ErrCancelled,
	// ErrDeadline, ErrShutdown or ErrLeaseLost. That cause decides the outcome of the
	// run, regardless of what Run returns. Run must return within
	// [Options.CancelGrace]; otherwise the service abandons it.
	//
	// The service calls Run concurrently for different runs. Run may call emit from
	// several goroutines until it returns.
	Run(ctx context.Context, task *Task, emit Emit) (*Result, error)
}

// RunnerFunc adapts a function to the [Runner] interface.
type RunnerFunc func(ctx context.Context, task *Task, emit Emit) (*Result, error)

// Run calls f.
func (f RunnerFunc) Run(ctx context.Context, task *Task, emit Emit) (*Result, error) {
	return f(ctx, task, emit)
}

// Task is the input of a Runner. It is the Runner's own copy.
type Task struct {
	Run        Run
	Input      RunInput        // the caller's input
	Prompt     string          // what the assistant sees: the message, followed by the lines of the context if there is one
	Definition *TaskDefinition // the task definition as of the trigger; nil if the trigger named none

	// History is the earlier messages of the conversation, without those of this run
	// and of later runs. They are ordered by run, then by message. The newest are kept
	// within [Options.History]. The first one is not a tool message. If the run started
	// its conversation, History is nil.
	History []Message

	journal   *journal   // see [Step]; nil: the Task was not made by a Service
	execution *execution // the attempt; nil if the host made the Task
}

// Emit records one event of the run. The payload must marshal to a JSON object.
// Invalid UTF-8 and NUL in its texts are sanitized.
//
// The service stores events in order, shortly after the call and always before the
// run ends. Readers see an event once it is stored. Consecutive message_delta events
// may be merged into one event with the concatenated text (see
// [Options.DeltaInterval]). Payloads with fields other than text are not merged.
//
// Emit blocks while too many events wait to be stored. It returns an error and
// records nothing in these cases:
//
//   - The type is unknown, or only the library may write it.
//   - The payload is not an object or is larger than [MaxEventPayloadBytes].
//   - The run's context has ended.
//
// It is safe for concurrent use until Run returns.
type Emit func(typ EventType, payload any) error

// Result is the result that a Runner returns.
type Result struct {
	Text  string // Maximum: MaxResultBytes bytes; a longer text fails the run. If the task requires JSON, Text is the JSON text.
	Usage *Usage // token usage; nil if not reported

	// Messages is the transcript between the prompt and Text, which is stored in the
	// conversation. Maximum: MaxResultMessages messages with MaxResultMessagesBytes
	// bytes in total. A longer transcript fails the run and is not stored.
	Messages []NewMessage
}

// MaxResultBytes is the maximum size of a run's result, in bytes of UTF-8.
const MaxResultBytes = 1 << 20

// Limits of the transcript of a run.
const (
	MaxResultMessages      = 1000
	MaxResultMessagesBytes = 4 << 20 // of all contents and tool calls together, in bytes of UTF-8
)

// Clock provides the time for a store that has no clock of its own. Stores on a
// database server use the clock of that server.
//
// Leases count in monotonic time: the store measures it with package time. If the
// Clock has a method Elapsed() time.Duration, the store uses that instead: the time
// since any fixed instant, unaffected by steps of the wall clock.
type Clock interface {
	Now() time.Time
}

// Options configures a Service. Every field has a safe default, and the zero value is
// ready for production. If the service is behind a proxy, you should set BaseURL.
type Options struct {
	// BaseURL is the public base of the URLs in responses and callbacks. It may have
	// a path. If empty, the URLs use the scheme, Host and path of each trigger
	// request; forwarding headers are not trusted. [Service.Trigger] requires
	// BaseURL, or APIBase and SessionBase.
	BaseURL string

	// APIBase is the public URL in front of /assistants/… and /web-triggers/…. Set it
	// if you mount the Bearer API at a path other than /api/v1. If empty, it is
	// BaseURL followed by /api/v1.
	APIBase string

	// SessionBase is the public URL in front of /conversations/…. Set it if you mount
	// the event stream at another base. If empty, it is BaseURL.
	SessionBase string

	// Logger receives operational log records. If nil, they are discarded.
	Logger *slog.Logger

	// MaxBodyBytes is the maximum size of a request body, in bytes. If zero, it is 1
	// MiB. It must not be negative.
	MaxBodyBytes int64

	// Limits sets rate and queue limits for the trigger endpoint. If zero, there are
	// no limits.
	Limits Limits

	// AcceptedWhileProcessing makes the status endpoint return 202 with Location,
	// instead of 200, until the run has ended. It is for clients that poll on their
	// own, such as Azure Logic Apps and Power Automate. These responses have no ETag.
	AcceptedWhileProcessing bool

	// Workers is the maximum number of Runners that Work has executing at a time. If
	// zero, it is 16. It must not be negative. A run also counts while its end is being
	// stored. If that takes longer than 0.1 s, another run may start instead, up to as
	// many as Workers.
	Workers int

	// NoWorkers makes Work execute no runs. Work then only sweeps, purges and sends
	// callbacks. Workers is ignored, and the Runner may be nil.
	NoWorkers bool

	// Lease is how long this process keeps its runs after its last heartbeat. Then other
	// processes may requeue or end them, after they have been in contact with the store
	// for that long themselves. So a pause of the store ends no run. If zero, it is 30
	// s. Minimum: 1 s. A process sends a heartbeat after a third of this time, and at
	// least every 2 s.
	Lease time.Duration

	// RunTimeout is the maximum duration of one attempt of a run. A run that exceeds
	// it ends as timed_out. If zero, it is 15 min. It must not be negative.
	RunTimeout time.Duration

	// MaxQueueTime is the maximum time that a run may stay queued. A run that exceeds
	// it ends as timed_out. If zero, there is no limit. It must not be negative.
	MaxQueueTime time.Duration

	// MaxAttempts is the maximum number of attempts of a run whose processes fail. If
	// zero, it is 1: an agent's side effects are not repeated unless the host opts in.
	// It must not be negative. It also decides what this process does while it cannot
	// reach the store: with 1, its Runners continue, even if other processes have ended
	// their runs meanwhile. With more, they stop when the lease ends, so that attempts
	// do not overlap. Attempts that end by that or by a shutdown do not count.
	MaxAttempts int

	// CancelGrace is how long a Runner may take to return after its context ends. A
	// Runner that takes longer is abandoned. If zero, it is 5 s. It must not be
	// negative.
	CancelGrace time.Duration

	// DrainTimeout is how long Work lets running runs continue after its context
	// ends. If zero, it is 20 s. If negative, Work interrupts them immediately.
	DrainTimeout time.Duration

	// History limits the messages of [Task.History].
	History HistoryOptions

	// Retention sets how long ended runs are kept. If zero, they are kept forever.
	Retention Retention

	// SearchTexts makes [Service.SearchRuns], and with it the administration, search
	// messages, results and metadata too. Without it, only subjects, request ids and errors
	// are searched. It changes nothing that is stored: runs from before are searched too.
	SearchTexts bool

	// CompileSchema compiles the output_schema of a task definition into a function
	// that checks results. Package llm provides an implementation
	// (llm.CompileSchema). Both functions must be safe for concurrent use. If nil, task
	// definitions with a schema are rejected.
	CompileSchema func(schema json.RawMessage) (check func(result json.RawMessage) error, err error)

	// DeltaInterval is how long the text of message_delta events may wait to be
	// merged with the text that follows, into one event. The first text after a pause
	// does not wait. If zero, it is 50 ms. If negative, events are not merged.
	DeltaInterval time.Duration

	// Callback configures how callbacks are sent.
	Callback CallbackOptions

	// Streams limits the resources of event streams.
	Streams StreamOptions

	// Hooks are functions that the service calls for tracing and metrics.
	Hooks Hooks
}

// HistoryOptions limits the earlier messages that a Runner gets. The newest messages
// are kept. A message that does not fit is omitted, with all earlier ones.
type HistoryOptions struct {
	// MaxMessages is the maximum number of messages. If zero, it is 100. It must not be
	// negative.
	MaxMessages int

	// MaxBytes is the maximum size of their contents and tool calls together, in bytes
	// of UTF-8. If zero, it is 256 KiB. It must not be negative.
	MaxBytes int
}

// complete checks o and sets the defaults of zero fields.
func (o *HistoryOptions) complete() error {
	if o.MaxMessages < 0 || o.MaxBytes < 0 {
		return errors.New("History.MaxMessages and History.MaxBytes must not be negative")
	}
	o.MaxMessages, o.MaxBytes = cmp.Or(o.MaxMessages, 100), cmp.Or(o.MaxBytes, 256<<10)
	return nil
}

// CallbackOptions configures how callbacks are sent, and which addresses they may
// reach besides the public internet. You cannot turn off the egress guard.
type CallbackOptions struct {
	// Allow lists address ranges that callbacks may reach besides the public
	// internet, for receivers on a private network. If it has an entry, single-label,
	// .internal, .local and .localhost host names are allowed too.
	Allow []netip.Prefix

	// RootCAs verifies the certificates of receivers. If nil, the roots of the system
	// are used.
	RootCAs *x509.CertPool

	// Resolver resolves the host names of receivers. If nil, the default resolver of
	// Go is used.
	Resolver *net.Resolver

	// Workers is the maximum number of callbacks that this process sends at a time.
	// If zero, it is 32. It must not be negative.
	//
	// Callbacks are sent in turns by assistant, then by host. While callbacks of several
	// assistants wait, each is given at most a quarter of the senders. One eighth is
	// kept for assistants that have no sender, so that slow receivers of one assistant
	// do not delay the callbacks of another. Each part is at least one sender; a single
	// sender is not divided.
	Workers int

	// PerHost is the maximum number of callbacks to one host (host:port) at a time,
	// so that a slow receiver does not delay others. If zero, it is 8, or Workers if
	// that is lower. It must not be negative.
	PerHost int

	// Secrets sign the callbacks of assistants that have no secrets of their own
	// ([Service.SetSigningSecrets]). Set one secret, or two while receivers change to
	// a new one. If empty, these callbacks are not signed.
	Secrets []SigningSecret

	// Retry configures retries of failed callbacks; see [RetryPolicy]. If nil, each
	// callback is sent once, regardless of its outcome.
	Retry *RetryPolicy
}

const (
	minLease         = time.Second
	pollInterval     = 2 * time.Second // finds work whose wake-up was lost
	statementTimeout = 10 * time.Second
)

// Service serves the Web Trigger channel over a [Store]. Create it with [New]. Its
// methods are safe for concurrent use.
type Service struct {
	store     Store
	runner    Runner
	opts      Options
	log       *slog.Logger
	guard     *egress.Guard
	connect   connector
	worker    worker
	process   process
	rate      *ratelimit.Buckets
	creations *inflight.Calls
	known     *recent.Map[KeyHash, Grant] // of keys that may trigger, as they were read last
	pending   chan struct{}               // signals the dispatcher that a delivery is pending
	streams   *stream.Hub
	watcher   watcher
	keyUses   keyUses

	advice       advice
	mount        atomic.Pointer[string] // see TriggerURL
	mountWarning sync.Once
}

// New returns a Service that stores its data in store and executes runs with runner.
// It copies opts; if opts is nil, the defaults apply. It returns an error if store is
// nil, if an option is invalid, or if runner is nil and [Options.NoWorkers] is not
// set. New starts no goroutine; see [Service.Work].
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
		store: store, runner: runner, opts: o, log: o.Logger,
		guard: guard, connect: guardedConnector{guard}, pending: make(chan struct{}, 1),
		rate: ratelimit.New(o.Limits.TriggersPerKey, o.Limits.Window), creations: inflight.New(maxCreations), known: recent.New[KeyHash, Grant](maxKnownKeys),
	}
	s.advice.log = s.log
	s.worker.init(o.Workers)
	s.process.init(s)
	s.watcher = watcher{store: store, log: s.log, wake: s.hint}
	s.streams = stream.New(streamSource{store, &s.watcher}, stream.Options{
		Log: s.log, MemoryBytes: o.Streams.MemoryBytes, PerKey: o.Streams.PerKey, MaxWaits: maxWaits, WriteTimeout: o.Streams.WriteTimeout,
		NotFound:    func(err error) bool { return errors.Is(err, ErrNotFound) },
		Unavailable: func(err error) bool { return errors.Is(err, ErrUnavailable) },
	})
	return s, nil
}

// isNil also reports a nil pointer, function or map inside an interface.
func isNil(v any) bool {
	switch of := reflect.ValueOf(v); of.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Pointer, reflect.Func, reflect.Map:
		return of.IsNil()
	}
	return false
}

// complete checks o and sets the defaults of zero fields.
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
		*d.v = min(cmp.Or(*d.v, d.def), longest)
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
	if err := o.History.complete(); err != nil {
		return err
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = 20 * time.Second
	}
	if o.MaxBodyBytes < 0 || o.MaxAttempts < 0 || o.Workers < 0 {
		return errors.New("MaxBodyBytes, MaxAttempts and Workers must not be negative")
	}
	o.MaxBodyBytes, o.MaxAttempts = cmp.Or(o.MaxBodyBytes, 1<<20), cmp.Or(o.MaxAttempts, 1)
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
		return errors.New("PerHost and Workers must not be negative")
	}
	if o.Workers == 0 {
		o.Workers = 32
	}
	if o.PerHost == 0 {
		o.PerHost = min(8, o.Workers)
	}
	if err := checkSecrets(o.Secrets); err != nil {
		return fmt.Errorf("field Secrets %w", err)
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

// Ping returns nil if the store responds and can serve requests. Otherwise it returns the
// store's error, which names the cause.
func (s *Service) Ping(ctx context.Context) error { return s.store.Ping(ctx) }
