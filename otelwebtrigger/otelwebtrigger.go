// Package otelwebtrigger instruments a [webtrigger.Service] and an [llm.Agent] with
// OpenTelemetry spans and metrics. It implements their hooks:
//
//	telemetry, err := otelwebtrigger.New(nil)
//	agent, err := llm.NewAgent(model, &llm.AgentOptions{Hooks: telemetry.Agent(otelwebtrigger.Model{Provider: "openai", Name: "gpt-5"})})
//	svc, err := webtrigger.New(store, agent, &webtrigger.Options{Hooks: telemetry.Service()})
//	registration, err := telemetry.Queue(svc)
//
// One trace continues the traceparent of the caller's request. It covers the queue,
// the run, its model and tool calls and the callback, in all processes:
//
//	POST …/web-trigger            SERVER
//	├── queued                    INTERNAL, from trigger creation to the start
//	├── invoke_agent              INTERNAL, one for each attempt of the run
//	│   ├── chat gpt-5            CLIENT
//	│   └── execute_tool search   INTERNAL
//	└── POST                      CLIENT, the callback, which carries its traceparent
//
// Names follow the semantic conventions of HTTP and of generative AI, where they
// exist. Messages, prompts, arguments, results, error texts, URLs and keys are never
// recorded. docs/observability.md lists all spans, attributes and metrics.
package otelwebtrigger

import (
	"fmt"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.39.0"
	"go.opentelemetry.io/otel/trace"
)

// scope is the instrumentation scope of this package.
const scope = "github.com/webtrigger-go/webtrigger/otelwebtrigger"

// Options are the settings of Telemetry that have a default.
type Options struct {
	// TracerProvider creates the spans. If nil, it is the global one.
	TracerProvider trace.TracerProvider

	// MeterProvider creates the metrics. If nil, it is the global one.
	MeterProvider metric.MeterProvider
}

// Telemetry creates the hooks of services and agents. One Telemetry is enough for
// any number of them. It starts no goroutine. The providers must export the data,
// and flush it at the end of the process.
type Telemetry struct {
	tracer trace.Tracer
	meter  metric.Meter
	made   instruments
}

// New returns Telemetry that uses the providers of the options, which may be nil. It
// returns an error if the MeterProvider rejects an instrument.
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
		return nil, fmt.Errorf("otelwebtrigger: %w", err)
	}
	return t, nil
}
