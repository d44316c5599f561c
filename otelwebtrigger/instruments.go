package otelwebtrigger

import (
	"errors"

	"go.opentelemetry.io/otel/metric"
)

// The bounds of histograms, in seconds or tokens. They are those of the conventions.
// Where there is no convention, they cover the possible values.
var (
	httpSeconds  = []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 30, 60}
	waitSeconds  = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600}
	runSeconds   = []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600}
	modelSeconds = []float64{.01, .02, .04, .08, .16, .32, .64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92}
	tokens       = []float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864}
)

// instruments are the metrics that the hooks record.
type instruments struct {
	requests  metric.Float64Histogram
	accepted  metric.Int64Counter
	pickup    metric.Float64Histogram
	attempts  metric.Float64Histogram
	ended     metric.Int64Counter
	abandoned metric.Int64Counter
	stuck     metric.Int64UpDownCounter
	callbacks metric.Float64Histogram
	streams   metric.Int64UpDownCounter
	models    metric.Float64Histogram
	tokens    metric.Int64Histogram
	tools     metric.Float64Histogram
}

func (i *instruments) init(meter metric.Meter) error {
	var all []error
	duration := func(name, description string, bounds []float64) metric.Float64Histogram {
		h, err := meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description),
			metric.WithExplicitBucketBoundaries(bounds...))
		all = append(all, err)
		return h
	}
	count := func(name, unit, description string) metric.Int64Counter {
		c, err := meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
		all = append(all, err)
		return c
	}
	level := func(name, unit, description string) metric.Int64UpDownCounter {
		c, err := meter.Int64UpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(description))
		all = append(all, err)
		return c
	}
	i.requests = duration("http.server.request.duration", "Duration of HTTP server requests.", httpSeconds)
	i.accepted = count("webtrigger.trigger.accepted", "{trigger}", "Number of triggers answered successfully.")
	i.pickup = duration("webtrigger.run.pickup.duration", "Time from trigger creation to the first start of the run.", waitSeconds)
	i.attempts = duration("webtrigger.run.duration", "Duration of one attempt of a run.", runSeconds)
	i.ended = count("webtrigger.run.ended", "{run}", "Number of runs ended by this process, by final status.")
	i.abandoned = count("webtrigger.runner.abandoned", "{runner}", "Number of abandoned Runners.")
	i.stuck = level("webtrigger.runner.stuck", "{runner}", "Number of abandoned Runners that still occupy a slot.")
	i.callbacks = duration("webtrigger.callback.duration", "Duration of one attempt to send a delivery, including name resolution.", httpSeconds)
	i.streams = level("webtrigger.stream.active", "{stream}", "Number of open event streams.")
	i.models = duration("gen_ai.client.operation.duration", "Duration of GenAI operations.", modelSeconds)
	i.tools = duration("webtrigger.tool.duration", "Duration of one tool call.", modelSeconds)
	var err error
	i.tokens, err = meter.Int64Histogram("gen_ai.client.token.usage", metric.WithUnit("{token}"),
		metric.WithDescription("Number of input and output tokens used."), metric.WithExplicitBucketBoundaries(tokens...))
	return errors.Join(append(all, err)...)
}
