package otelwebtrigger_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// obedient executes the command in its prompt.
func obedient(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
	switch task.Prompt {
	case "fail":
		return nil, errors.New("no such report")
	case "hang":
		<-ctx.Done()
	case "ignore":
		time.Sleep(time.Hour) // of a bubble
	case "work":
		time.Sleep(3 * time.Second)
	}
	return &webtrigger.Result{Text: "done", Usage: &webtrigger.Usage{InputTokens: 7, OutputTokens: 3}}, nil
}

// Each end of an attempt has its status and error.type.
func TestRunOutcomes(t *testing.T) {
	t.Parallel()
	for prompt, c := range map[string]struct {
		cancel  bool
		status  string
		problem string // error.type
		took    float64
	}{
		"work":   {false, "completed", "", 3},
		"fail":   {false, "failed", "_OTHER", 0},
		"hang":   {false, "timed_out", "deadline exceeded", 60},
		"ignore": {false, "timed_out", "deadline exceeded", 65},
		"hang ":  {true, "cancelled", "", 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newProcess(t)
			svc := p.service(t, memstore.New(nil), webtrigger.RunnerFunc(func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
				if c.cancel {
					task.Prompt = "hang"
				}
				return obedient(ctx, task, emit)
			}), webtrigger.Options{RunTimeout: time.Minute})
			run, err := svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: prompt})
			require.NoError(t, err)
			time.Sleep(10 * time.Second)
			stop := work(t, svc)
			if c.cancel {
				time.Sleep(time.Second)
				_, err := svc.CancelRun(t.Context(), run.ID, "a secret reason")
				require.NoError(t, err)
			}
			time.Sleep(2 * time.Minute)
			metrics := p.metrics(t)
			time.Sleep(time.Hour) // and the last Runner has returned
			later := p.metrics(t)
			stop()

			span, queued := p.span(t, "invoke_agent"), p.span(t, "queued")
			require.Equal(t, 10*time.Second, queued.EndTime.Sub(queued.StartTime), prompt)
			require.Equal(t, c.status, attributesOf(span)["webtrigger.run.status"], prompt)
			how := map[string]any{"webtrigger.run.status": c.status}
			if c.problem == "" {
				require.Equal(t, codes.Unset, span.Status.Code, prompt)
				require.NotContains(t, attributesOf(span), "error.type", prompt)
			} else {
				require.Equal(t, codes.Error, span.Status.Code, prompt)
				require.Empty(t, span.Status.Description)
				require.Equal(t, c.problem, attributesOf(span)["error.type"], prompt)
				how["error.type"] = c.problem
			}
			require.Equal(t, []point{{how, 1, c.took}}, metrics["webtrigger.run.duration"], prompt)
			require.Equal(t, []point{{how, 1, 0}}, metrics["webtrigger.run.ended"], prompt)
			require.Equal(t, []point{{map[string]any{}, 1, 10}}, metrics["webtrigger.run.pickup.duration"], prompt)
			if prompt == "ignore" {
				require.Equal(t, 1.0, metrics["webtrigger.runner.abandoned"][0].value)
				require.Equal(t, 1.0, metrics["webtrigger.runner.stuck"][0].value)
				require.Equal(t, 1.0, later["webtrigger.runner.abandoned"][0].value)
				require.Zero(t, later["webtrigger.runner.stuck"][0].value)
			} else {
				require.Empty(t, metrics["webtrigger.runner.abandoned"])
			}
		})
	}
}

// A run that is requeued at a shutdown has not ended. Its next attempt has a span of
// its own.
func TestRunSpan_requeued_endsAndStartsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		svc := p.service(t, memstore.New(nil), webtrigger.RunnerFunc(obedient), webtrigger.Options{MaxAttempts: 2})
		run, err := svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "hang"})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.NoError(t, svc.Execute(ctx, run.ID))
		span := attributesOf(p.span(t, "invoke_agent"))
		require.Equal(t, "queued", span["webtrigger.run.status"])
		require.NotContains(t, span, "error.type")
		require.Empty(t, p.metrics(t)["webtrigger.run.ended"])
		p.spans.Reset()
		stop := work(t, svc)
		time.Sleep(time.Hour)
		stop()
		require.Equal(t, "timed_out", attributesOf(p.span(t, "invoke_agent"))["webtrigger.run.status"])
		require.Equal(t, 1.0, p.metrics(t)["webtrigger.run.ended"][0].value)
	})
}

// deaf is a store that does not renew a process while it is set.
type deaf struct {
	webtrigger.Store
	set atomic.Bool
}

func (d *deaf) RenewProcess(ctx context.Context, p webtrigger.Process) (webtrigger.Renewed, error) {
	if d.set.Load() {
		return webtrigger.Renewed{}, webtrigger.ErrUnavailable
	}
	return d.Store.RenewProcess(ctx, p)
}

// If a lease is lost, the process that sweeps the run counts its end.
func TestRunLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stalled, other := newProcess(t), newProcess(t)
		store := &deaf{Store: memstore.New(nil)}
		svc := stalled.service(t, store, webtrigger.RunnerFunc(obedient), webtrigger.Options{Lease: 10 * time.Second})
		sweeper := other.service(t, store.Store, nil, webtrigger.Options{NoWorkers: true})
		run, err := svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "hang"})
		require.NoError(t, err)
		executed := make(chan error, 1)
		go func() { executed <- svc.Execute(t.Context(), run.ID) }()
		synctest.Wait()
		store.set.Store(true)
		work(t, sweeper)
		time.Sleep(time.Minute)
		store.set.Store(false)
		require.NoError(t, <-executed)
		span := stalled.span(t, "invoke_agent")
		require.Equal(t, "running", attributesOf(span)["webtrigger.run.status"])
		require.Equal(t, "lease_lost", attributesOf(span)["error.type"])
		require.Equal(t, codes.Error, span.Status.Code)
		require.Empty(t, stalled.metrics(t)["webtrigger.run.ended"])
		require.Equal(t, []point{{map[string]any{"webtrigger.run.status": "timed_out", "error.type": "heartbeat timeout"}, 1, 0}},
			other.metrics(t)["webtrigger.run.ended"])
	})
}

func TestQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		store := memstore.New(nil)
		svc := p.service(t, store, webtrigger.RunnerFunc(obedient), webtrigger.Options{Workers: 1})
		registration, err := p.Queue(svc)
		require.NoError(t, err)
		level := func(want map[string]float64) {
			t.Helper()
			metrics := p.metrics(t)
			for name, value := range want {
				require.Equal(t, []point{{map[string]any{}, value, 0}}, metrics[name], name)
			}
		}
		level(map[string]float64{"webtrigger.queue.queued": 0, "webtrigger.queue.running": 0, "webtrigger.queue.age": 0})
		for range 3 {
			_, err := svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "hang"})
			require.NoError(t, err)
			time.Sleep(time.Second)
		}
		level(map[string]float64{"webtrigger.queue.queued": 3, "webtrigger.queue.running": 0, "webtrigger.queue.age": 3})
		stop := work(t, svc)
		time.Sleep(time.Second)
		level(map[string]float64{"webtrigger.queue.queued": 2, "webtrigger.queue.running": 1, "webtrigger.queue.age": 3})
		stop()
		require.NoError(t, registration.Unregister())
		require.NotContains(t, p.metrics(t), "webtrigger.queue.queued")
	})
}

// silent is a store whose QueueState waits until its context ends.
type silent struct{ webtrigger.Store }

func (silent) QueueState(ctx context.Context) (webtrigger.QueueState, error) {
	<-ctx.Done()
	return webtrigger.QueueState{}, ctx.Err()
}

// If the store is unavailable, a collection takes a few seconds more and lacks the
// gauges of the queue. All other metrics are there.
func TestQueueThatCannotBeRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		svc := p.service(t, silent{memstore.New(nil)}, nil, webtrigger.Options{NoWorkers: true})
		_, err := p.Queue(svc)
		require.NoError(t, err)
		_, err = svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "go"})
		require.NoError(t, err)
		began := time.Now()
		var data metricdata.ResourceMetrics
		require.ErrorContains(t, p.reader.Collect(t.Context(), &data), "read the queue")
		require.Equal(t, 5*time.Second, time.Since(began))
		require.Len(t, data.ScopeMetrics, 1)
		require.Len(t, data.ScopeMetrics[0].Metrics, 1)
		require.Equal(t, "webtrigger.trigger.accepted", data.ScopeMetrics[0].Metrics[0].Name)
	})
}
