package otelwebtrigger

import (
	"context"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/webtrigger-go/webtrigger"
)

// Service returns hooks for webtrigger.Options. They create spans of
// requests, the time in the queue, runs and callbacks. They record metrics of these,
// of streams and of abandoned Runners.
func (t *Telemetry) Service() webtrigger.Hooks {
	return webtrigger.Hooks{
		Request:     t.request,
		TraceParent: traceParent,
		Triggered:   t.triggered,
		Run:         t.run,
		Ended:       t.ended,
		Abandoned:   t.abandoned,
		Callback:    t.callback,
		Stream:      t.stream,
	}
}

// triggered counts a trigger and adds the ids of its run to the span of ctx, which
// is that of the request or of the host's own call.
func (t *Telemetry) triggered(ctx context.Context, info webtrigger.TriggerInfo) {
	t.made.accepted.Add(ctx, 1, metric.WithAttributes(replayedKey.Bool(info.Replayed)))
	span := trace.SpanFromContext(ctx)
	span.SetAttributes(identity(info.Run)...)
	span.SetAttributes(replayedKey.Bool(info.Replayed))
}

func (t *Telemetry) abandoned(ctx context.Context, _ webtrigger.AbandonedInfo) (context.Context, func(webtrigger.AbandonedOutcome)) {
	t.made.abandoned.Add(ctx, 1)
	t.made.stuck.Add(ctx, 1)
	return ctx, func(webtrigger.AbandonedOutcome) { t.made.stuck.Add(ctx, -1) }
}

func (t *Telemetry) stream(ctx context.Context, _ webtrigger.StreamInfo) (context.Context, func(webtrigger.StreamOutcome)) {
	ctx = context.WithoutCancel(ctx)
	t.made.streams.Add(ctx, 1)
	return ctx, func(webtrigger.StreamOutcome) { t.made.streams.Add(ctx, -1) }
}
