package otelwebtrigger

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.39.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/webtrigger-go/webtrigger"
)

// request creates the span of a request, and records its metric. If the request
// already has a span of this process, such as that of a middleware of the host, the
// kind of the new span is INTERNAL, and the metric is not recorded again.
//
// Path, query and headers are not recorded, because a caller may put a key there by
// mistake.
func (t *Telemetry) request(ctx context.Context, info webtrigger.RequestInfo) (context.Context, func(webtrigger.RequestOutcome)) {
	r, route, kind := info.Request, info.Route, trace.SpanKindServer
	local := trace.SpanContextFromContext(ctx)
	within := local.IsValid() && !local.IsRemote()
	switch {
	case within:
		kind = trace.SpanKindInternal
	case len(r.Header.Values("Traceparent")) == 1:
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(r.Header))
	}
	method, name := methodOf(r)
	attributes := []attribute.KeyValue{method, schemeOf(r)}
	if route != "" {
		name += " " + route
		attributes = append(attributes, semconv.HTTPRoute(route))
	}
	began := time.Now()
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(attributes...))
	return ctx, func(o webtrigger.RequestOutcome) {
		status := o.Status
		if status != 0 {
			attributes = append(attributes, semconv.HTTPResponseStatusCode(status))
		}
		if status >= 500 {
			attributes = append(attributes, semconv.ErrorTypeKey.String(strconv.Itoa(status)))
			span.SetStatus(codes.Error, "")
		}
		span.SetAttributes(attributes...)
		span.End()
		if !within {
			t.made.requests.Record(ctx, seconds(time.Since(began)), metric.WithAttributes(attributes...))
		}
	}
}

// methodOf returns the method of a request as an attribute, and as the beginning of
// a span's name. An unknown method is not recorded.
func methodOf(r *http.Request) (attribute.KeyValue, string) {
	known := []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"}
	if !slices.Contains(known, r.Method) {
		return semconv.HTTPRequestMethodOther, "HTTP"
	}
	return semconv.HTTPRequestMethodKey.String(r.Method), r.Method
}

func schemeOf(r *http.Request) attribute.KeyValue {
	if r.TLS != nil {
		return semconv.URLScheme("https")
	}
	return semconv.URLScheme("http")
}
