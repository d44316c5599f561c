package otelwebtrigger

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/webtrigger-go/webtrigger"
)

// queueTimeout limits a read of the state of the queue, so that an unavailable store
// does not delay all other metrics.
const queueTimeout = 5 * time.Second

// Queue registers gauges of the queue of a service: the number of queued and of
// running runs, and the age of the oldest queued run. Each collection reads the
// store once. If the read fails, there is no value. The values are those of the
// store, so all replicas report the same: use the maximum, not the sum.
//
// The caller must unregister the result when the service is no longer used.
func (t *Telemetry) Queue(svc *webtrigger.Service) (metric.Registration, error) {
	queued, err := t.meter.Int64ObservableGauge("webtrigger.queue.queued", metric.WithUnit("{run}"),
		metric.WithDescription("Number of queued runs."))
	if err != nil {
		return nil, fmt.Errorf("otelwebtrigger: %w", err)
	}
	running, err := t.meter.Int64ObservableGauge("webtrigger.queue.running", metric.WithUnit("{run}"),
		metric.WithDescription("Number of running runs."))
	if err != nil {
		return nil, fmt.Errorf("otelwebtrigger: %w", err)
	}
	age, err := t.meter.Float64ObservableGauge("webtrigger.queue.age", metric.WithUnit("s"),
		metric.WithDescription("Age of the oldest queued run."))
	if err != nil {
		return nil, fmt.Errorf("otelwebtrigger: %w", err)
	}
	registration, err := t.meter.RegisterCallback(func(ctx context.Context, observer metric.Observer) error {
		ctx, cancel := context.WithTimeout(ctx, queueTimeout)
		defer cancel()
		state, err := svc.QueueState(ctx)
		if err != nil {
			return fmt.Errorf("otelwebtrigger: read the queue: %w", err)
		}
		observer.ObserveInt64(queued, int64(state.Queued))
		observer.ObserveInt64(running, int64(state.Running))
		observer.ObserveFloat64(age, seconds(state.OldestAge))
		return nil
	}, queued, running, age)
	if err != nil {
		return nil, fmt.Errorf("otelwebtrigger: %w", err)
	}
	return registration, nil
}
