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

// request makes the span of a request, and its metric. Below a span of this
// process, such as that of a middleware of the host, the request is told by that
// one: ours is INTERNAL then, and nothing is counted twice.
//
// Path, query and headers are the caller's words and stay out: a caller who does
// it wrong puts a key there.
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

// methodOf is the method of a request as an attribute, and as the beginning of a
// span's name. One that is not known is the caller's word.
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
