package serve

import (
	"context"
	"encoding/json"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/bench/internal/child"
)

const benchEvent webtrigger.EventType = "x_bench"

// serveProductAppend appends events to as many runs as there are clients, each
// waiting for its commit. Do lasts n milliseconds.
func serveProductAppend(ctx context.Context, c Config) (*child.Server, error) {
	return serveBatches(ctx, c, func(int64) webtrigger.EventBatch {
		return webtrigger.EventBatch{Events: []webtrigger.NewEvent{{Type: benchEvent, Payload: json.RawMessage(stamped(c.Size))}}}
	})
}

// serveProductSteps is serveProductAppend with a recorded step of the same size instead of
// each event.
func serveProductSteps(ctx context.Context, c Config) (*child.Server, error) {
	return serveBatches(ctx, c, func(number int64) webtrigger.EventBatch {
		return webtrigger.EventBatch{Steps: []webtrigger.StepRecord{{Name: "bench", Nth: int(number), Record: json.RawMessage(stamped(c.Size))}}}
	})
}

// serveBatches appends batches to as many runs as there are clients.
func serveBatches(ctx context.Context, c Config, batchOf func(number int64) webtrigger.EventBatch) (*child.Server, error) {
	store, err := openStore(ctx, c)
	if err != nil {
		return nil, err
	}
	var leases []webtrigger.Lease
	for range c.Clients {
		lease, err := take(ctx, store, "")
		if err != nil {
			return nil, err
		}
		leases = append(leases, lease)
	}
	numbers := make([]int64, c.Clients)
	return &child.Server{Do: closedLoop(c.Clients, func(ctx context.Context, run int) error {
		numbers[run]++
		batch := batchOf(numbers[run])
		batch.Number = numbers[run]
		return store.AppendEvents(ctx, leases[run], batch)
	})}, nil
}

// serveProductEmit appends as Runners do: each emits as fast as it may, and does
// not wait for the commit. Do lasts n milliseconds and counts what was committed
// in that time.
func serveProductEmit(ctx context.Context, c Config) (*child.Server, error) {
	store, err := openStore(ctx, c)
	if err != nil {
		return nil, err
	}
	appended := &appends{Store: store}
	emits := make(chan webtrigger.Emit, c.Clients)
	if _, err := newRelay(ctx, appended, c, emits); err != nil {
		return nil, err
	}
	all := make([]webtrigger.Emit, c.Clients)
	for i := range all {
		all[i] = <-emits
	}
	emit := closedLoop(c.Clients, func(_ context.Context, run int) error {
		return all[run](benchEvent, json.RawMessage(stamped(c.Size)))
	})
	return &child.Server{Do: func(ctx context.Context, n int) (child.Counters, error) {
		before := appended.count.Load()
		done, err := emit(ctx, n)
		if err != nil {
			return nil, err
		}
		return child.Counters{"count": float64(appended.count.Load() - before), "seconds": done["seconds"]}, nil
	}}, nil
}

// appends is a store that counts the events which have been appended.
type appends struct {
	webtrigger.Store
	count atomic.Int64
}

func (a *appends) AppendEvents(ctx context.Context, lease webtrigger.Lease, batch webtrigger.EventBatch) error {
	err := a.Store.AppendEvents(ctx, lease, batch)
	if err == nil {
		a.count.Add(int64(len(batch.Events)))
	}
	return err
}

// serveProductEvents is the product's event stream. With workers it has a run
// whose Runner emits what Do publishes, and its counters name the conversation;
// without it only reads.
func serveProductEvents(ctx context.Context, c Config) (*child.Server, error) {
	store, err := openStore(ctx, c)
	if err != nil {
		return nil, err
	}
	emits := make(chan webtrigger.Emit, 1)
	one := c
	one.Clients = min(1, c.Workers)
	svc, err := newRelay(ctx, store, one, emits)
	if err != nil {
		return nil, err
	}
	conversation := child.Counters{}
	server := &child.Server{
		Measured: svc.EventsHandler(func(*http.Request, webtrigger.Access) error { return nil }),
		Counters: func() child.Counters { return conversation },
	}
	if c.Workers == 0 {
		return server, nil
	}
	runs, err := svc.Runs(ctx, webtrigger.RunQuery{})
	if err != nil {
		return nil, err
	}
	conversation["conversation"] = float64(runs[0].ConversationID)
	emit := <-emits
	server.Do = publishing(c, func(data string) error { return emit(benchEvent, json.RawMessage(data)) })
	return server, nil
}

// newRelay is a service with as many runs as there are clients. Each of their
// Runners hands out its Emit and then waits.
func newRelay(ctx context.Context, store webtrigger.Store, c Config, emits chan<- webtrigger.Emit) (*webtrigger.Service, error) {
	svc, err := newService(ctx, store, webtrigger.RunnerFunc(
		func(ctx context.Context, _ *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
			emits <- emit
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}), c)
	if err != nil {
		return nil, err
	}
	for range c.Clients {
		if _, err := svc.Trigger(ctx, assistant, webtrigger.TriggerRequest{Message: "Describe your work."}); err != nil {
			return nil, err
		}
	}
	return svc, nil
}

// take stores a trigger whose run is taken at once, for an hour.
func take(ctx context.Context, store webtrigger.Store, callbackURL string) (webtrigger.Lease, error) {
	worker := webtrigger.Process{ID: "bench", Lease: time.Hour, MaxAttempts: 1}
	if err := store.RegisterProcess(ctx, worker); err != nil {
		return webtrigger.Lease{}, err
	}
	accepted, err := store.CreateTrigger(ctx, webtrigger.NewTrigger{
		RunKey: uuid.NewString(), AssistantID: assistant, BaseURL: "http://bench.example", CallbackURL: callbackURL,
		Input: webtrigger.RunInput{Subject: "Weekly Report", Message: "Summarise the report."},
		Claim: &webtrigger.Claimant{ProcessID: worker.ID, Token: webtrigger.NewToken()},
	})
	if err != nil {
		return webtrigger.Lease{}, err
	}
	return *accepted.Lease, nil
}
