package otelwebtrigger

import (
	"context"
	"net"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.39.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/webtrigger-go/webtrigger"
)

// callback creates the span of one attempt to send a delivery, as a child of the span
// that triggered the run. The POST carries the traceparent of this span. Of the URL,
// only host and port are recorded: path and query contain the secrets of many
// receivers.
func (t *Telemetry) callback(ctx context.Context, info webtrigger.CallbackInfo) (context.Context, func(webtrigger.DeliveryOutcome)) {
	delivery, run := info.Delivery, info.Run
	attributes := append(identity(run), semconv.HTTPRequestMethodPost, deliveryIDKey.Int64(delivery.ID))
	if host, port, err := net.SplitHostPort(delivery.Host); err == nil {
		attributes = append(attributes, semconv.ServerAddress(host))
		if n, err := strconv.Atoi(port); err == nil {
			attributes = append(attributes, semconv.ServerPort(n))
		}
	}
	if delivery.Retry > 0 {
		attributes = append(attributes, semconv.HTTPRequestResendCount(delivery.Retry))
	}
	began := time.Now()
	ctx, span := t.tracer.Start(continued(ctx, run.TraceParent), "POST", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...))
	return ctx, func(o webtrigger.DeliveryOutcome) {
		how := deliveryOutcome(o)
		span.SetAttributes(how...)
		if o.FailureClass != "" {
			span.SetStatus(codes.Error, "")
		}
		span.End()
		t.made.callbacks.Record(ctx, seconds(time.Since(began)), metric.WithAttributes(how...))
	}
}

// deliveryOutcome returns the attributes of an attempt's outcome.
func deliveryOutcome(o webtrigger.DeliveryOutcome) []attribute.KeyValue {
	state := string(o.State)
	if state == "" {
		state = "unclaimed" // another process may have claimed it, or the store was unavailable
	}
	how := []attribute.KeyValue{callbackStateKey.String(state)}
	if o.HTTPStatus != 0 {
		how = append(how, semconv.HTTPResponseStatusCode(o.HTTPStatus))
	}
	if o.FailureClass != "" {
		how = append(how, semconv.ErrorTypeKey.String(string(o.FailureClass)))
	}
	return how
}
