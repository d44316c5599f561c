package webtrigger_test

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// fault is what happens to a call of the store: do makes the call.
type fault func(ctx context.Context, do func() error) error

// away makes no call.
func away(context.Context, func() error) error { return webtrigger.ErrUnavailable }

// unanswered makes the call and loses its answer.
func unanswered(_ context.Context, do func() error) error {
	_ = do()
	return webtrigger.ErrUnavailable
}

// refused is an error that is not the store's unavailability.
func refused(err error) fault { return func(context.Context, func() error) error { return err } }

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

// faultyStore is a way to a store with faults, by the name of the method.
type faultyStore struct {
	webtrigger.Store

	mu      sync.Mutex
	faults  map[string]fault
	calls   map[string]int
	process []string               // the ids of RegisterProcess
	claims  []webtrigger.HeldClaim // of the last RenewProcess
}

func faulty(s webtrigger.Store) *faultyStore {
	return &faultyStore{Store: s, faults: make(map[string]fault), calls: make(map[string]int)}
}

var workMethods = []string{
	"RegisterProcess", "RenewProcess", "RemoveProcess", "ClaimRuns", "CreateTrigger", "AppendEvents", "FinishRun", "RequeueRun", "SweepRuns",
	"LeaseDeliveries", "ClaimDelivery", "ReturnDelivery", "FinishDelivery", "SweepDeliveries",
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

func (s *faultyStore) call(ctx context.Context, method string, do func() error) error {
	s.mu.Lock()
	f := s.faults[method]
	s.calls[method]++
	s.mu.Unlock()
	if f == nil {
		return do()
	}
	return f(ctx, do)
}

// get is call for a method with a result, which is lost with an error.
func get[T any](ctx context.Context, s *faultyStore, method string, do func(context.Context) (T, error)) (T, error) {
	var result T
	var mu sync.Mutex
	err := s.call(ctx, method, func() error {
		v, err := do(context.WithoutCancel(ctx))
		mu.Lock()
		defer mu.Unlock()
		result = v
		return err
	})
	mu.Lock()
	defer mu.Unlock()
	if err != nil {
		var none T
		return none, err
	}
	return result, nil
}

// ids returns the ids under which a process was registered.
func (s *faultyStore) ids() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.process)
}

// held returns the claims that the last heartbeat has read.
func (s *faultyStore) held() []webtrigger.HeldClaim {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claims
}

func (s *faultyStore) RegisterProcess(ctx context.Context, p webtrigger.Process) error {
	s.mu.Lock()
	if !slices.Contains(s.process, p.ID) {
		s.process = append(s.process, p.ID)
	}
	s.mu.Unlock()
	return s.call(ctx, "RegisterProcess", func() error { return s.Store.RegisterProcess(context.WithoutCancel(ctx), p) })
}

func (s *faultyStore) RenewProcess(ctx context.Context, p webtrigger.Process) (webtrigger.Renewed, error) {
	return get(ctx, s, "RenewProcess", func(ctx context.Context) (webtrigger.Renewed, error) {
		renewed, err := s.Store.RenewProcess(ctx, p)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.claims = renewed.Claims
		return renewed, err
	})
}

func (s *faultyStore) RemoveProcess(ctx context.Context, id string) error {
	return s.call(ctx, "RemoveProcess", func() error { return s.Store.RemoveProcess(context.WithoutCancel(ctx), id) })
}

func (s *faultyStore) ClaimRuns(ctx context.Context, c webtrigger.Claim) ([]webtrigger.ClaimedRun, error) {
	return get(ctx, s, "ClaimRuns", func(ctx context.Context) ([]webtrigger.ClaimedRun, error) { return s.Store.ClaimRuns(ctx, c) })
}

func (s *faultyStore) CreateTrigger(ctx context.Context, t webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	return get(ctx, s, "CreateTrigger", func(ctx context.Context) (webtrigger.CreatedTrigger, error) { return s.Store.CreateTrigger(ctx, t) })
}

func (s *faultyStore) AppendEvents(ctx context.Context, l webtrigger.Lease, b webtrigger.EventBatch) error {
	return s.call(ctx, "AppendEvents", func() error { return s.Store.AppendEvents(context.WithoutCancel(ctx), l, b) })
}

func (s *faultyStore) FinishRun(ctx context.Context, l webtrigger.Lease, f webtrigger.Finish) (webtrigger.Run, error) {
	return get(ctx, s, "FinishRun", func(ctx context.Context) (webtrigger.Run, error) { return s.Store.FinishRun(ctx, l, f) })
}

func (s *faultyStore) RequeueRun(ctx context.Context, l webtrigger.Lease, r webtrigger.Requeue) (webtrigger.Run, error) {
	return get(ctx, s, "RequeueRun", func(ctx context.Context) (webtrigger.Run, error) { return s.Store.RequeueRun(ctx, l, r) })
}

func (s *faultyStore) SweepRuns(ctx context.Context, sweep webtrigger.Sweep) ([]webtrigger.Run, error) {
	return get(ctx, s, "SweepRuns", func(ctx context.Context) ([]webtrigger.Run, error) { return s.Store.SweepRuns(ctx, sweep) })
}

func (s *faultyStore) LeaseDeliveries(ctx context.Context, q webtrigger.DeliveryQuery) ([]webtrigger.LeasedDelivery, error) {
	return get(ctx, s, "LeaseDeliveries", func(ctx context.Context) ([]webtrigger.LeasedDelivery, error) { return s.Store.LeaseDeliveries(ctx, q) })
}

func (s *faultyStore) ClaimDelivery(ctx context.Context, l webtrigger.DeliveryLease) error {
	return s.call(ctx, "ClaimDelivery", func() error { return s.Store.ClaimDelivery(context.WithoutCancel(ctx), l) })
}

func (s *faultyStore) ReturnDelivery(ctx context.Context, l webtrigger.DeliveryLease) error {
	return s.call(ctx, "ReturnDelivery", func() error { return s.Store.ReturnDelivery(context.WithoutCancel(ctx), l) })
}

func (s *faultyStore) FinishDelivery(ctx context.Context, l webtrigger.DeliveryLease, o webtrigger.DeliveryOutcome) error {
	return s.call(ctx, "FinishDelivery", func() error { return s.Store.FinishDelivery(context.WithoutCancel(ctx), l, o) })
}

func (s *faultyStore) SweepDeliveries(ctx context.Context, after time.Duration, limit int) ([]webtrigger.Delivery, error) {
	return get(ctx, s, "SweepDeliveries", func(ctx context.Context) ([]webtrigger.Delivery, error) {
		return s.Store.SweepDeliveries(ctx, after, limit)
	})
}
