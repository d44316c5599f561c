package otelwebtrigger_test

import (
	"context"
	"fmt"
	"log"
	"sort"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/scripted"
	"github.com/webtrigger-go/webtrigger/otelwebtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// A host with an agent, and the spans of one run. Production uses exporters of OTLP
// or Prometheus. This exporter keeps the spans in memory.
func Example() {
	spans := tracetest.NewInMemoryExporter()
	tracing := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	metering := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	telemetry, err := otelwebtrigger.New(&otelwebtrigger.Options{TracerProvider: tracing, MeterProvider: metering})
	if err != nil {
		log.Fatal(err)
	}

	agent, err := llm.NewAgent(scripted.New(), &llm.AgentOptions{
		Hooks: telemetry.Agent(otelwebtrigger.Model{Provider: "acme", Name: "scripted"}),
	})
	if err != nil {
		log.Fatal(err)
	}
	svc, err := webtrigger.New(memstore.New(nil), agent, &webtrigger.Options{
		BaseURL: "https://app.example.com", Hooks: telemetry.Service(),
	})
	if err != nil {
		log.Fatal(err)
	}
	registration, err := telemetry.Queue(svc)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = registration.Unregister() }()

	ctx := context.Background()
	if err := svc.SetChannel(ctx, webtrigger.Channel{AssistantID: "1", Enabled: true}); err != nil {
		log.Fatal(err)
	}
	run, err := svc.Trigger(ctx, "1", webtrigger.TriggerRequest{Message: "/say hello"})
	if err != nil {
		log.Fatal(err)
	}
	if err := svc.Execute(ctx, run.ID); err != nil { // what Work does for every queued run
		log.Fatal(err)
	}
	var names []string
	for _, span := range spans.GetSpans() {
		names = append(names, span.Name)
	}
	sort.Strings(names)
	fmt.Println(names)
	// Output: [chat scripted invoke_agent queued]
}
