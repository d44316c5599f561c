// Package otel makes OpenTelemetry spans and metrics of what a
// [webtrigger.Service] and an [llm.Agent] do. It fills their hooks:
//
//	telemetry, err := otel.New(nil)
//	agent, err := llm.NewAgent(model, &llm.AgentOptions{Hooks: telemetry.Agent(otel.Model{Provider: "openai", Name: "gpt-5"})})
//	svc, err := webtrigger.New(store, agent, &webtrigger.Options{Hooks: telemetry.Service()})
//	registration, err := telemetry.Queue(svc)
//
// One trace goes from the caller's request, whose traceparent is continued, over
// the queue, the run, its model and tool calls to the callback, in whichever
// processes they happen:
//
//	POST …/web-trigger            SERVER
//	├── queued                    INTERNAL, from the accept to the start
//	├── invoke_agent              INTERNAL, one for each attempt of the run
//	│   ├── chat gpt-5            CLIENT
//	│   └── execute_tool search   INTERNAL
//	└── POST                      CLIENT, the callback, whose traceparent it is
//
// Names follow the semantic conventions of HTTP and of generative AI, where there
// are any. No message, prompt, argument, result, error text, URL or key becomes an
// attribute. docs/observability.md lists all spans, attributes and metrics.
package otel

import (
	"fmt"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.39.0"
	"go.opentelemetry.io/otel/trace"
)

// scope is the instrumentation scope of all that this package makes.
const scope = "github.com/webtrigger-go/webtrigger/otel"

// Options is everything about Telemetry that has a default.
type Options struct {
	// TracerProvider makes the spans. nil: the global one.
	TracerProvider trace.TracerProvider

	// MeterProvider makes the metrics. nil: the global one.
	MeterProvider metric.MeterProvider
}

// Telemetry is what hooks make spans and metrics with. One is enough for any
// number of services and agents. It holds no goroutine; exporting, and flushing at
// the end, are the providers' business.
type Telemetry struct {
	tracer trace.Tracer
	meter  metric.Meter
	made   instruments
}

// New returns Telemetry on the providers of the options, which may be nil. The
// error is that of a MeterProvider that refuses an instrument.
func New(opts *Options) (*Telemetry, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.TracerProvider == nil {
		o.TracerProvider = otel.GetTracerProvider()
	}
	if o.MeterProvider == nil {
		o.MeterProvider = otel.GetMeterProvider()
	}
	t := &Telemetry{
		tracer: o.TracerProvider.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL)),
		meter:  o.MeterProvider.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL)),
	}
	if err := t.made.init(t.meter); err != nil {
		return nil, fmt.Errorf("webtrigger/otel: %w", err)
	}
	return t, nil
}
