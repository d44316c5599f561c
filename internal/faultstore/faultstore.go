// Package faultstore puts faults between a test and a store.
package faultstore

import (
	"context"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Store is the way to another store. The methods that this type has go through Call.
// The others, such as those of settings and keys, go directly to the store.
type Store struct {
	webtrigger.Store

	// Call decides what becomes of a call: do makes it. The caller gets the error of
	// Call, and the result only if the error is nil. Call may be called concurrently.
	// do may be called after Call has returned, as a commit that stalls becomes visible
	// later. It then needs a context that has not ended.
	Call func(ctx context.Context, method string, do func(ctx context.Context) error) error
}

// Writes are the methods with faults that change the store.
var Writes = []string{
	"RegisterProcess", "RenewProcess", "RemoveProcess", "ClaimRuns", "CreateTrigger", "AppendEvents", "FinishRun", "RequeueRun", "AwaitInput", "AnswerInput", "RequestStop",
	"SweepRuns", "LeaseDeliveries", "ClaimDelivery", "ReturnDelivery", "FinishDelivery", "SweepDeliveries",
}

// get is Call for a method with a result.
func get[T any](ctx context.Context, s *Store, method string, do func(ctx context.Context) (T, error)) (T, error) {
	var mu sync.Mutex
	var result, none T
	err := s.Call(ctx, method, func(ctx context.Context) error {
		v, err := do(ctx)
		mu.Lock()
		defer mu.Unlock()
		result = v
		return err
	})
	if err != nil {
		return none, err
	}
	mu.Lock()
	defer mu.Unlock()
	return result, nil
}

func (s *Store) RegisterProcess(ctx context.Context, p webtrigger.Process) error {
	return s.Call(ctx, "RegisterProcess", func(ctx context.Context) error { return s.Store.RegisterProcess(ctx, p) })
}

func (s *Store) RenewProcess(ctx context.Context, p webtrigger.Process) (webtrigger.Renewed, error) {
	return get(ctx, s, "RenewProcess", func(ctx context.Context) (webtrigger.Renewed, error) { return s.Store.RenewProcess(ctx, p) })
}

func (s *Store) RemoveProcess(ctx context.Context, id string) error {
	return s.Call(ctx, "RemoveProcess", func(ctx context.Context) error { return s.Store.RemoveProcess(ctx, id) })
}

func (s *Store) ClaimRuns(ctx context.Context, c webtrigger.Claim) ([]webtrigger.ClaimedRun, error) {
	return get(ctx, s, "ClaimRuns", func(ctx context.Context) ([]webtrigger.ClaimedRun, error) { return s.Store.ClaimRuns(ctx, c) })
}

func (s *Store) CreateTrigger(ctx context.Context, t webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	return get(ctx, s, "CreateTrigger", func(ctx context.Context) (webtrigger.CreatedTrigger, error) { return s.Store.CreateTrigger(ctx, t) })
}

func (s *Store) AppendEvents(ctx context.Context, l webtrigger.Lease, b webtrigger.EventBatch) error {
	return s.Call(ctx, "AppendEvents", func(ctx context.Context) error { return s.Store.AppendEvents(ctx, l, b) })
}

func (s *Store) FinishRun(ctx context.Context, l webtrigger.Lease, f webtrigger.Finish) (webtrigger.Run, error) {
	return get(ctx, s, "FinishRun", func(ctx context.Context) (webtrigger.Run, error) { return s.Store.FinishRun(ctx, l, f) })
}

func (s *Store) RequeueRun(ctx context.Context, l webtrigger.Lease, r webtrigger.Requeue) (webtrigger.Run, error) {
	return get(ctx, s, "RequeueRun", func(ctx context.Context) (webtrigger.Run, error) { return s.Store.RequeueRun(ctx, l, r) })
}

func (s *Store) Steps(ctx context.Context, id int64) ([]webtrigger.StepRecord, error) {
	return get(ctx, s, "Steps", func(ctx context.Context) ([]webtrigger.StepRecord, error) { return s.Store.Steps(ctx, id) })
}

func (s *Store) AwaitInput(ctx context.Context, l webtrigger.Lease, a webtrigger.Await) (webtrigger.Run, error) {
	return get(ctx, s, "AwaitInput", func(ctx context.Context) (webtrigger.Run, error) { return s.Store.AwaitInput(ctx, l, a) })
}

func (s *Store) AnswerInput(ctx context.Context, a webtrigger.NewAnswer) (webtrigger.Run, error) {
	return get(ctx, s, "AnswerInput", func(ctx context.Context) (webtrigger.Run, error) { return s.Store.AnswerInput(ctx, a) })
}

func (s *Store) Inputs(ctx context.Context, id int64) ([]webtrigger.Input, error) {
	return get(ctx, s, "Inputs", func(ctx context.Context) ([]webtrigger.Input, error) { return s.Store.Inputs(ctx, id) })
}

func (s *Store) RequestStop(ctx context.Context, id int64, stop webtrigger.Stop, l *webtrigger.Lease) (webtrigger.Run, error) {
	return get(ctx, s, "RequestStop", func(ctx context.Context) (webtrigger.Run, error) { return s.Store.RequestStop(ctx, id, stop, l) })
}

func (s *Store) SweepRuns(ctx context.Context, sweep webtrigger.Sweep) ([]webtrigger.Run, error) {
	return get(ctx, s, "SweepRuns", func(ctx context.Context) ([]webtrigger.Run, error) { return s.Store.SweepRuns(ctx, sweep) })
}

func (s *Store) Events(ctx context.Context, q webtrigger.EventQuery) (webtrigger.EventPage, error) {
	return get(ctx, s, "Events", func(ctx context.Context) (webtrigger.EventPage, error) { return s.Store.Events(ctx, q) })
}

func (s *Store) LastEventIDs(ctx context.Context, ids []int64) (map[int64]int64, error) {
	return get(ctx, s, "LastEventIDs", func(ctx context.Context) (map[int64]int64, error) { return s.Store.LastEventIDs(ctx, ids) })
}

func (s *Store) LeaseDeliveries(ctx context.Context, q webtrigger.DeliveryQuery) ([]webtrigger.LeasedDelivery, error) {
	return get(ctx, s, "LeaseDeliveries", func(ctx context.Context) ([]webtrigger.LeasedDelivery, error) { return s.Store.LeaseDeliveries(ctx, q) })
}

func (s *Store) ClaimDelivery(ctx context.Context, l webtrigger.DeliveryLease) error {
	return s.Call(ctx, "ClaimDelivery", func(ctx context.Context) error { return s.Store.ClaimDelivery(ctx, l) })
}

func (s *Store) ReturnDelivery(ctx context.Context, l webtrigger.DeliveryLease) error {
	return s.Call(ctx, "ReturnDelivery", func(ctx context.Context) error { return s.Store.ReturnDelivery(ctx, l) })
}

func (s *Store) FinishDelivery(ctx context.Context, l webtrigger.DeliveryLease, o webtrigger.DeliveryOutcome) error {
	return s.Call(ctx, "FinishDelivery", func(ctx context.Context) error { return s.Store.FinishDelivery(ctx, l, o) })
}

func (s *Store) SweepDeliveries(ctx context.Context, after time.Duration, limit int) ([]webtrigger.Delivery, error) {
	return get(ctx, s, "SweepDeliveries", func(ctx context.Context) ([]webtrigger.Delivery, error) {
		return s.Store.SweepDeliveries(ctx, after, limit)
	})
}
