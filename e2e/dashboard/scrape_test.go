package dashboard_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/scripted"
	"github.com/webtrigger-go/webtrigger/otelwebtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// family is a metric as Prometheus has it.
type family struct {
	histogram bool
	labels    []string
}

// scrape executes everything that metrics count, successes and failures, with a service
// and an agent. It returns what Prometheus would read then, by name.
func scrape(t *testing.T) map[string]family {
	t.Helper()
	registry := client.NewRegistry()
	exporter, err := prometheus.New(prometheus.WithRegisterer(registry))
	require.NoError(t, err)
	telemetry, err := otelwebtrigger.New(&otelwebtrigger.Options{MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))})
	require.NoError(t, err)
	perform(t, telemetry)

	gathered, err := registry.Gather()
	require.NoError(t, err)
	families := make(map[string]family)
	for _, f := range gathered {
		if f.GetName() == "target_info" {
			continue // the resource's
		}
		var labels []string
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName())
			}
		}
		families[f.GetName()] = family{f.GetMetric()[0].GetHistogram() != nil, labels}
	}
	return families
}

func perform(t *testing.T, telemetry *otelwebtrigger.Telemetry) {
	t.Helper()
	agent, err := llm.NewAgent(scripted.New(), &llm.AgentOptions{
		Hooks: telemetry.Agent(otelwebtrigger.Model{Provider: "acme", Name: "scripted"}),
		Tools: []llm.Tool{{Name: "breaks", Call: func(context.Context, json.RawMessage) (string, error) { return "", errors.New("broken") }}},
	})
	require.NoError(t, err)
	svc, err := webtrigger.New(memstore.New(nil), agent, &webtrigger.Options{
		BaseURL: "https://app.example.com", Hooks: telemetry.Service(), DrainTimeout: -1,
	})
	require.NoError(t, err)
	registration, err := telemetry.Queue(svc)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, registration.Unregister()) })
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
	_, secret, err := svc.CreateKey(t.Context(), "1", webtrigger.KeySpec{Name: "test"})
	require.NoError(t, err)
	for i, message := range []string{"/tool breaks {}", "/fail no"} {
		r := httptest.NewRequest("POST", "/api/v1/assistants/1/web-trigger", strings.NewReader(`{"message":"`+message+`"}`))
		r.Header.Set("Authorization", "Bearer "+secret)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		svc.ServeHTTP(w, r)
		require.Equal(t, 202, w.Code)
		require.NoError(t, svc.Execute(t.Context(), int64(i+1)))
	}
	// The test calls the hooks itself for events that would need a receiver, a reader or
	// a Runner that does not return.
	hooks := telemetry.Service()
	_, ended := hooks.Callback(t.Context(), webtrigger.CallbackInfo{})
	ended(webtrigger.DeliveryOutcome{State: webtrigger.DeliveryFailed, HTTPStatus: 500, FailureClass: webtrigger.FailureStatus})
	hooks.Stream(t.Context(), webtrigger.StreamInfo{ConversationID: 1})
	hooks.Abandoned(t.Context(), webtrigger.AbandonedInfo{})
}
