package serve

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/bench/internal/child"
)

const assistant = "1"

// newService returns the product over a store, with a channel that is open and a
// key, and starts Work if there are workers.
func newService(ctx context.Context, store webtrigger.Store, runner webtrigger.Runner, c Config) (*webtrigger.Service, error) {
	opts := &webtrigger.Options{BaseURL: "http://bench.example", Workers: c.Workers, NoWorkers: c.Workers == 0}
	svc, err := webtrigger.New(store, runner, opts)
	if err != nil {
		return nil, err
	}
	if err := svc.SetChannel(ctx, webtrigger.Channel{AssistantID: assistant, Enabled: true, AllowCallbackURLs: true}); err != nil {
		return nil, err
	}
	_, err = svc.ImportKey(ctx, assistant, webtrigger.KeySpec{Name: "bench"}, Key)
	if err != nil && !errors.Is(err, webtrigger.ErrConflict) { // another process of the same database has it
		return nil, err
	}
	if c.Workers > 0 {
		go func() { _ = svc.Work(ctx) }()
	}
	return svc, nil
}

// noop is a Runner that is done at once, with a result of about 400 bytes.
func noop(context.Context, *webtrigger.Task, webtrigger.Emit) (*webtrigger.Result, error) {
	return &webtrigger.Result{Text: summary}, nil
}

var summary = strings.Repeat("Here is the summary of the report. ", 12)

// ends is a store that counts the runs which have ended.
type ends struct {
	webtrigger.Store
	count atomic.Int64
}

func (e *ends) FinishRun(ctx context.Context, lease webtrigger.Lease, end webtrigger.Finish) (webtrigger.Run, error) {
	run, err := e.Store.FinishRun(ctx, lease, end)
	if err == nil {
		e.count.Add(1)
	}
	return run, err
}

// await returns when so many runs have ended.
func (e *ends) await(ctx context.Context, n int64) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for e.count.Load() < n {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// serveProduct is the product as a host mounts it. Its counters are the number
// of ended runs. Do triggers n runs and returns the first and the last trigger.
func serveProduct(ctx context.Context, c Config) (*child.Server, error) {
	store, err := openStore(ctx, c)
	if err != nil {
		return nil, err
	}
	counted := &ends{Store: store}
	svc, err := newService(ctx, counted, webtrigger.RunnerFunc(noop), c)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/api/v1/assistants/{assistant_id}/web-trigger", svc)
	mux.Handle("/api/v1/web-triggers/", svc)
	return &child.Server{
		Measured: mux,
		Counters: func() child.Counters { return child.Counters{"completed": float64(counted.count.Load())} },
		Do: func(ctx context.Context, n int) (child.Counters, error) {
			ids := make([]int64, n)
			err := inParallel(256, n, func(i int) error {
				run, err := svc.Trigger(ctx, assistant, webtrigger.TriggerRequest{Message: "Summarise the report."})
				ids[i] = run.ConversationID
				return err
			})
			if err == nil && c.Workers > 0 {
				err = counted.await(ctx, int64(n))
			}
			if err != nil {
				return nil, err
			}
			first, last := ids[0], ids[0]
			for _, id := range ids {
				first, last = min(first, id), max(last, id)
			}
			return child.Counters{"first": float64(first), "last": float64(last)}, nil
		},
	}, nil
}

// serveProductDrain has runs that wait, and executes them on Do.
func serveProductDrain(ctx context.Context, c Config) (*child.Server, error) {
	store, err := openStore(ctx, c)
	if err != nil {
		return nil, err
	}
	counted := &ends{Store: store}
	idle := c
	idle.Workers = 0
	svc, err := newService(ctx, counted, nil, idle)
	if err != nil {
		return nil, err
	}
	err = inParallel(256, c.Rows, func(int) error {
		_, err := svc.Trigger(ctx, assistant, webtrigger.TriggerRequest{Message: "Summarise the report."})
		return err
	})
	if err != nil {
		return nil, err
	}
	return &child.Server{Do: func(_ context.Context, n int) (child.Counters, error) {
		began := time.Now()
		if _, err := newService(ctx, counted, webtrigger.RunnerFunc(noop), c); err != nil {
			return nil, err
		}
		err := counted.await(ctx, int64(n))
		return child.Counters{"seconds": time.Since(began).Seconds()}, err
	}}, nil
}

// serveProductPickup triggers runs on Do, or with workers executes them, or
// both.
func serveProductPickup(ctx context.Context, c Config) (*child.Server, error) {
	store, err := openStore(ctx, c)
	if err != nil {
		return nil, err
	}
	var seen instants
	stamped := &commits{Store: store}
	svc, err := newService(ctx, stamped, webtrigger.RunnerFunc(
		func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
			seen.mark(task.Run.Key)
			return noop(ctx, task, emit)
		}), c)
	if err != nil {
		return nil, err
	}
	return arrivals(&seen, func(ctx context.Context, name string) (string, time.Time, error) {
		run, err := svc.Trigger(ctx, assistant, webtrigger.TriggerRequest{Message: name})
		at, _ := stamped.at.LoadAndDelete(run.Key)
		committed, _ := at.(time.Time)
		return run.Key, committed, err
	}), nil
}

// commits is a store that remembers when each trigger was committed.
type commits struct {
	webtrigger.Store
	at sync.Map // of run_key: time.Time
}

func (c *commits) CreateTrigger(ctx context.Context, t webtrigger.NewTrigger) (webtrigger.CreatedTrigger, error) {
	accepted, err := c.Store.CreateTrigger(ctx, t)
	c.at.Store(t.RunKey, time.Now())
	return accepted, err
}
