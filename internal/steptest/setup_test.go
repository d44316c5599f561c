package steptest_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/faultstore"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// rig executes attempts of one run, in memory.
type rig struct {
	*require.Assertions
	t     *testing.T
	store *faultstore.Store
	svc   *webtrigger.Service
	run   webtrigger.Run

	mu    sync.Mutex
	fault func(method string, do func() error) error // of the next calls; nil: none
	calls map[string]int                             // by method
	stop  context.CancelFunc                         // of the attempt

	claims *claims
}

// claims is a store that keeps the lease of the last claim.
type claims struct {
	webtrigger.Store
	mu   sync.Mutex
	last webtrigger.Lease
}

func (c *claims) ClaimRuns(ctx context.Context, claim webtrigger.Claim) ([]webtrigger.ClaimedRun, error) {
	claimed, err := c.Store.ClaimRuns(ctx, claim)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, run := range claimed {
		c.last = run.Lease
	}
	return claimed, err
}

// AppendEvents holds the service to one of its duties: no step is in a batch twice.
func (c *claims) AppendEvents(ctx context.Context, lease webtrigger.Lease, batch webtrigger.EventBatch) error {
	seen := make(map[string]bool)
	for _, s := range batch.Steps {
		key := fmt.Sprintf("%s %d", s.Name, s.Nth)
		if seen[key] {
			return fmt.Errorf("the step %s is in the batch twice", key)
		}
		seen[key] = true
	}
	return c.Store.AppendEvents(ctx, lease, batch)
}

// held is the lease of the attempt.
func (r *rig) held() webtrigger.Lease {
	r.claims.mu.Lock()
	defer r.claims.mu.Unlock()
	return r.claims.last
}

// attempt is the Runner of one attempt.
type attempt func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (string, error)

// newRig returns a rig whose run has these attempts, one after the other.
func newRig(t *testing.T, attempts ...attempt) *rig {
	t.Helper()
	r := &rig{Assertions: require.New(t), t: t, calls: make(map[string]int)}
	r.claims = &claims{Store: memstore.New(nil)}
	r.store = &faultstore.Store{Store: r.claims, Call: func(ctx context.Context, method string, do func(context.Context) error) error {
		r.mu.Lock()
		r.calls[method]++
		fault := r.fault
		r.mu.Unlock()
		if fault != nil {
			return fault(method, func() error { return do(ctx) })
		}
		return do(ctx)
	}}
	var mu sync.Mutex
	runner := webtrigger.RunnerFunc(func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
		mu.Lock()
		next := attempts[0]
		attempts = attempts[1:]
		mu.Unlock()
		text, err := next(ctx, task, emit)
		return &webtrigger.Result{Text: text}, err
	})
	r.svc = r.service(runner)
	r.NoError(r.svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
	var err error
	r.run, err = r.svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "go"})
	r.NoError(err)
	return r
}

func (r *rig) service(runner webtrigger.Runner) *webtrigger.Service {
	r.t.Helper()
	svc, err := webtrigger.New(r.store, runner, &webtrigger.Options{BaseURL: "https://app.example.com", MaxAttempts: 3, DeltaInterval: -1})
	r.NoError(err)
	return svc
}

// execute executes one attempt and returns the run after it.
func (r *rig) execute() webtrigger.Run {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	r.mu.Lock()
	r.stop = cancel
	r.mu.Unlock()
	r.NoError(r.svc.Execute(ctx, r.run.ID))
	run, err := r.svc.RunByID(r.t.Context(), r.run.ID)
	r.NoError(err)
	return run
}

// interrupt ends the context of the attempt as a drain does. The run is requeued when
// the Runner returns.
func (r *rig) interrupt(ctx context.Context) error {
	r.mu.Lock()
	r.stop()
	r.mu.Unlock()
	<-ctx.Done()
	return context.Cause(ctx)
}

// setFault sets what becomes of the next calls of the store; nil: they succeed.
func (r *rig) setFault(fault func(method string, do func() error) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = fault
}

func (r *rig) count(method string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls[method]
}

// steps returns the recorded steps, by name and number, with their records. A start mark
// has the record "".
func (r *rig) steps() map[string]string {
	r.t.Helper()
	stored, err := r.store.Store.Steps(r.t.Context(), r.run.ID)
	r.NoError(err)
	steps := make(map[string]string)
	for _, s := range stored {
		steps[fmt.Sprintf("%s %d", s.Name, s.Nth)] = string(s.Record)
	}
	return steps
}

// events returns the types of the run's events, without the first one.
func (r *rig) events() (types []string) {
	r.t.Helper()
	page, err := r.store.Store.Events(r.t.Context(), webtrigger.EventQuery{ConversationID: r.run.ConversationID, Limit: 10_000})
	r.NoError(err)
	for _, e := range page.Events[1:] {
		types = append(types, string(e.Type))
	}
	return types
}

// counting counts the calls of a step's function, which returns its number.
func counting(calls *int) func(context.Context) (int, error) {
	return func(context.Context) (int, error) {
		*calls++
		return *calls, nil
	}
}
