package otel

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/webtrigger-go/webtrigger"
)

// queueTimeout bounds a read of the queue's state, so that a store that is away
// does not hold back all other metrics.
const queueTimeout = 5 * time.Second

// Queue registers gauges of the queue of a service: how many runs wait, how many
// are taken, and for how long the first one has waited. Each collection reads the
// store once; while that fails there is no value. They are those of the store, so
// that all processes on it say the same: look at the highest, not at the sum.
//
// Unregister the result when the service is no longer used.
func (t *Telemetry) Queue(svc *webtrigger.Service) (metric.Registration, error) {
	queued, err := t.meter.Int64ObservableGauge("webtrigger.queue.queued", metric.WithUnit("{run}"),
		metric.WithDescription("Runs that wait to be taken."))
	if err != nil {
		return nil, fmt.Errorf("webtrigger/otel: %w", err)
	}
	running, err := t.meter.Int64ObservableGauge("webtrigger.queue.running", metric.WithUnit("{run}"),
		metric.WithDescription("Runs that are taken by a worker."))
	if err != nil {
		return nil, fmt.Errorf("webtrigger/otel: %w", err)
	}
	age, err := t.meter.Float64ObservableGauge("webtrigger.queue.age", metric.WithUnit("s"),
		metric.WithDescription("How long the run has waited that was queued first."))
	if err != nil {
		return nil, fmt.Errorf("webtrigger/otel: %w", err)
	}
	registration, err := t.meter.RegisterCallback(func(ctx context.Context, observer metric.Observer) error {
		ctx, cancel := context.WithTimeout(ctx, queueTimeout)
		defer cancel()
		state, err := svc.QueueState(ctx)
		if err != nil {
			return fmt.Errorf("webtrigger/otel: read the queue: %w", err)
		}
		observer.ObserveInt64(queued, int64(state.Queued))
		observer.ObserveInt64(running, int64(state.Running))
		observer.ObserveFloat64(age, seconds(state.OldestAge))
		return nil
	}, queued, running, age)
	if err != nil {
		return nil, fmt.Errorf("webtrigger/otel: %w", err)
	}
	return registration, nil
}
