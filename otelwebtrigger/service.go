package otelwebtrigger

import (
	"context"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/webtrigger-go/webtrigger"
)

// Service returns hooks for webtrigger.Options. They make spans of requests,
// waiting, runs and callbacks, and metrics of these, of streams and of abandoned
// Runners.
func (t *Telemetry) Service() webtrigger.Hooks {
	return webtrigger.Hooks{
		Request:     t.request,
		TraceParent: traceParent,
		Accepted:    t.accepted,
		Run:         t.run,
		Ended:       t.ended,
		Abandoned:   t.abandoned,
		Callback:    t.callback,
		Stream:      t.stream,
	}
}

// accepted counts a trigger, and says on the span of ctx, that of the request or
// of the host's own call, which run it is.
func (t *Telemetry) accepted(ctx context.Context, run webtrigger.Run, replayed bool) {
	t.made.accepted.Add(ctx, 1, metric.WithAttributes(replayedKey.Bool(replayed)))
	span := trace.SpanFromContext(ctx)
	span.SetAttributes(identity(run)...)
	span.SetAttributes(replayedKey.Bool(replayed))
}

func (t *Telemetry) abandoned(webtrigger.Run) (returned func()) {
	ctx := context.Background()
	t.made.abandoned.Add(ctx, 1)
	t.made.stuck.Add(ctx, 1)
	return func() { t.made.stuck.Add(ctx, -1) }
}

func (t *Telemetry) stream(ctx context.Context, _ int64) (closed func()) {
	ctx = context.WithoutCancel(ctx)
	t.made.streams.Add(ctx, 1)
	return func() { t.made.streams.Add(ctx, -1) }
}
