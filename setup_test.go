package webtrigger_test

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/faultstore"
	"github.com/webtrigger-go/webtrigger/internal/racing"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// bundle is a service over a fresh memory store with the channel of assistant 1
// open.
type bundle struct {
	t     *testing.T
	ctx   context.Context
	store webtrigger.Store
	svc   *webtrigger.Service
	fake  bool // in a bubble of fake time
}

// setup makes a bundle; the options may be nil. Without a BaseURL in them it is
// https://app.example.com.
func setup(t *testing.T, runner webtrigger.Runner, opts *webtrigger.Options) *bundle {
	t.Helper()
	return setupOn(t, memstore.New(nil), runner, opts)
}

func setupOn(t *testing.T, store webtrigger.Store, runner webtrigger.Runner, opts *webtrigger.Options) *bundle {
	t.Helper()
	if opts == nil {
		opts = &webtrigger.Options{BaseURL: "https://app.example.com"}
	}
	if runner == nil {
		runner = webtrigger.RunnerFunc(obey)
	}
	svc, err := webtrigger.New(store, runner, opts)
	require.NoError(t, err)
	t.Cleanup(svc.CloseStreams) // which ends its watch of the store
	b := &bundle{t: t, ctx: t.Context(), store: store, svc: svc}
	b.setChannel(webtrigger.Channel{AssistantID: "1", Enabled: true, AllowCallbackURLs: true})
	return b
}

func (b *bundle) setChannel(c webtrigger.Channel) {
	b.t.Helper()
	require.NoError(b.t, b.svc.SetChannel(b.ctx, c))
}

// trigger triggers assistant 1 from Go.
func (b *bundle) trigger(message string) webtrigger.Run {
	b.t.Helper()
	run, err := b.svc.Trigger(b.ctx, "1", webtrigger.TriggerRequest{Message: message})
	require.NoError(b.t, err)
	return run
}

func (b *bundle) run(id int64) webtrigger.Run {
	b.t.Helper()
	run, err := b.store.RunByID(b.ctx, id)
	require.NoError(b.t, err)
	return run
}

// events returns the types of a run's events in order, after checking that the
// sequences have no gap.
func (b *bundle) events(run webtrigger.Run) []string {
	b.t.Helper()
	page, err := b.store.Events(b.ctx, webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID, Limit: 10_000})
	require.NoError(b.t, err)
	types := make([]string, len(page.Events))
	for i, e := range page.Events {
		require.EqualValues(b.t, i+1, e.Sequence)
		types[i] = string(e.Type)
	}
	return types
}

// deadProcess registers a process that never renews its lease, and returns its id.
func deadProcess(t *testing.T, store webtrigger.ProcessStore, lease time.Duration, maxAttempts int) (id string) {
	t.Helper()
	id = uuid.NewString()
	require.NoError(t, store.RegisterProcess(t.Context(), webtrigger.Process{ID: id, Lease: lease, MaxAttempts: maxAttempts}))
	return id
}

// work runs Work until the returned function is called, which waits for its end.
func (b *bundle) work() (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.ctx))
	done := make(chan error, 1)
	go func() { done <- b.svc.Work(ctx) }()
	if b.fake {
		synctest.Wait() // it has looked at the queue
	}
	stop = func() {
		b.t.Helper()
		cancel()
		require.NoError(b.t, <-done)
	}
	return stop
}

// obey is a Runner that executes the command in the message: "fail TEXT", "panic",
// "exit", "hang" (until its context ends), "ignore" (hangs, and ignores its
// context for a minute), "say TEXT", "emit N"; anything else is echoed.
func obey(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
	word, rest, _ := strings.Cut(task.Input.Message, " ")
	switch word {
	case "fail":
		return nil, errors.New(rest)
	case "panic":
		panic(rest)
	case "exit":
		runtime.Goexit()
	case "hang":
		<-ctx.Done()
		return nil, context.Cause(ctx)
	case "shrug": // hangs, then claims success
		<-ctx.Done()
		return &webtrigger.Result{Text: "done after all"}, nil
	case "ignore":
		time.Sleep(time.Minute)
		return &webtrigger.Result{Text: "too late"}, nil
	case "say":
		return &webtrigger.Result{Text: rest}, nil
	case "emit":
		for range len(rest) {
			if err := emit("x_step", map[string]string{"of": rest}); err != nil {
				return nil, err
			}
		}
	}
	return &webtrigger.Result{Text: "echo: " + task.Prompt}, nil
}

// objectsOnly compiles any schema to a check for objects.
func objectsOnly(json.RawMessage) (func(json.RawMessage) error, error) {
	return func(result json.RawMessage) error {
		if result[0] != '{' {
			return errors.New("not an object")
		}
		return nil
	}, nil
}

func TestMain(m *testing.M) {
	racing.OneProcessor()
	goleak.VerifyTestMain(m)
}

// fault is what happens to a call of the store: do makes the call.
type fault func(ctx context.Context, do func() error) error

// unavailable makes no call.
func unavailable(context.Context, func() error) error { return webtrigger.ErrUnavailable }

// unanswered makes the call and loses its answer.
func unanswered(_ context.Context, do func() error) error {
	_ = do()
	return webtrigger.ErrUnavailable
}

// failing returns a fault with an error that is not the store's unavailability.
func failing(err error) fault { return func(context.Context, func() error) error { return err } }

// stalled returns a fault that waits until the caller gives up. The calls are made
// later, by commit, as a commit that stalls becomes visible later.
func stalled() (f fault, commit func()) {
	var mu sync.Mutex
	var calls []func() error
	f = func(ctx context.Context, do func() error) error {
		mu.Lock()
		calls = append(calls, do)
		mu.Unlock()
		<-ctx.Done()
		return ctx.Err()
	}
	commit = func() {
		mu.Lock()
		defer mu.Unlock()
		for _, do := range calls {
			_ = do()
		}
		calls = nil
	}
	return f, commit
}

// unknownOutcomes are the ways in which a caller has no answer about its write. The
// second function makes late writes.
var unknownOutcomes = map[string]func() (fault, func()){
	"the answer is lost": func() (fault, func()) { return unanswered, func() {} },
	"the commit stalls":  stalled,
}

// faultyStore is a way to a store with faults, by the name of the method.
type faultyStore struct {
	*faultstore.Store
	behind webtrigger.Store // without the faults

	mu      sync.Mutex
	faults  map[string]fault
	calls   map[string]int
	process []string               // the ids of RegisterProcess
	claims  []webtrigger.HeldClaim // of the last RenewProcess
}

func faulty(s webtrigger.Store) *faultyStore {
	f := &faultyStore{behind: s, faults: make(map[string]fault), calls: make(map[string]int)}
	f.Store = &faultstore.Store{Store: renewals{s, f}, Call: f.call}
	return f
}

// set gives the methods a fault; nil ends it.
func (s *faultyStore) set(f fault, methods ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range methods {
		s.faults[m] = f
	}
}

// count returns how often a method was called.
func (s *faultyStore) count(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

func (s *faultyStore) call(ctx context.Context, method string, do func(ctx context.Context) error) error {
	s.mu.Lock()
	f := s.faults[method]
	s.calls[method]++
	s.mu.Unlock()
	made := func() error { return do(context.WithoutCancel(ctx)) }
	if f == nil {
		return made()
	}
	return f(ctx, made)
}

// ids returns the ids under which a process was registered.
func (s *faultyStore) ids() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.process)
}

func (s *faultyStore) RegisterProcess(ctx context.Context, p webtrigger.Process) error {
	s.mu.Lock()
	if !slices.Contains(s.process, p.ID) {
		s.process = append(s.process, p.ID)
	}
	s.mu.Unlock()
	return s.Store.RegisterProcess(ctx, p)
}

// held returns the claims that the last heartbeat has read.
func (s *faultyStore) held() []webtrigger.HeldClaim {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claims
}

// renewals records what the store answers to heartbeats, behind the faults.
type renewals struct {
	webtrigger.Store
	of *faultyStore
}

func (r renewals) RenewProcess(ctx context.Context, p webtrigger.Process) (webtrigger.Renewed, error) {
	renewed, err := r.Store.RenewProcess(ctx, p)
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	r.of.claims = renewed.Claims
	return renewed, err
}
