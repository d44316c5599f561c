package otelwebtrigger

import (
	"context"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.39.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/webtrigger-go/webtrigger"
)

// run creates the span of one attempt, as a child of the span that triggered the run.
// Before the first attempt it also creates the span of the time in the queue, which
// is measured by the store's clock.
func (t *Telemetry) run(ctx context.Context, info webtrigger.RunInfo) (context.Context, func(webtrigger.RunOutcome)) {
	run := info.Run
	ctx = continued(ctx, run.TraceParent)
	who := identity(run)
	if run.Attempts == 1 {
		_, queued := t.tracer.Start(ctx, "queued", trace.WithTimestamp(run.CreatedAt), trace.WithAttributes(who...))
		queued.End(trace.WithTimestamp(run.StartedAt))
		t.made.pickup.Record(ctx, seconds(run.StartedAt.Sub(run.CreatedAt)))
	}
	began := time.Now()
	ctx, span := t.tracer.Start(ctx, "invoke_agent", trace.WithAttributes(who...),
		trace.WithAttributes(semconv.GenAIOperationNameInvokeAgent, attemptKey.Int(run.Attempts)))
	return ctx, func(o webtrigger.RunOutcome) {
		run := o.Run
		how := outcomeOf(run)
		span.SetAttributes(how...)
		if run.Usage != nil {
			span.SetAttributes(semconv.GenAIUsageInputTokens(int(run.Usage.InputTokens)), semconv.GenAIUsageOutputTokens(int(run.Usage.OutputTokens)))
		}
		if len(how) > 1 {
			span.SetStatus(codes.Error, "")
		}
		span.End()
		t.made.attempts.Record(ctx, seconds(time.Since(began)), metric.WithAttributes(how...))
	}
}

// outcomeOf returns the status in which an attempt leaves its run, and an error.type
// if that is an error.
func outcomeOf(run webtrigger.Run) []attribute.KeyValue {
	how := []attribute.KeyValue{runStatusKey.String(string(run.Status))}
	switch {
	case run.Status == webtrigger.RunRunning:
		how = append(how, semconv.ErrorTypeKey.String("lease_lost"))
	case run.Status == webtrigger.RunFailed && run.StatusDetail == "":
		how = append(how, semconv.ErrorTypeKey.String(errorOther))
	case run.Status == webtrigger.RunFailed, run.Status == webtrigger.RunTimedOut:
		// These details are texts of the library.
		how = append(how, semconv.ErrorTypeKey.String(run.StatusDetail))
	}
	return how
}

// ended counts a run that has ended. Its callback may still be pending.
func (t *Telemetry) ended(ctx context.Context, info webtrigger.EndedInfo) {
	t.made.ended.Add(ctx, 1, metric.WithAttributes(outcomeOf(info.Run)...))
}

func conversation(run webtrigger.Run) attribute.KeyValue {
	return semconv.GenAIConversationID(strconv.FormatInt(run.ConversationID, 10))
}
