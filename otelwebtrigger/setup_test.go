package otelwebtrigger_test

import (
	"context"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/otelwebtrigger"
)

// process has providers of its own, as a process of a host has.
type process struct {
	*otelwebtrigger.Telemetry
	tracing *sdktrace.TracerProvider
	spans   *tracetest.InMemoryExporter
	reader  *sdkmetric.ManualReader
}

func newProcess(t *testing.T) *process {
	t.Helper()
	p := &process{spans: tracetest.NewInMemoryExporter(), reader: sdkmetric.NewManualReader()}
	p.tracing = sdktrace.NewTracerProvider(sdktrace.WithSyncer(p.spans))
	metering := sdkmetric.NewMeterProvider(sdkmetric.WithReader(p.reader))
	var err error
	p.Telemetry, err = otelwebtrigger.New(&otelwebtrigger.Options{TracerProvider: p.tracing, MeterProvider: metering})
	require.NoError(t, err)
	return p
}

// service returns a Service of this process with the channel of assistant "1"
// enabled. Options that are not set get the defaults of these tests.
func (p *process) service(t *testing.T, store webtrigger.Store, runner webtrigger.Runner, opts webtrigger.Options) *webtrigger.Service {
	t.Helper()
	opts.Hooks = p.Service()
	opts.BaseURL = "https://app.example.com"
	opts.DrainTimeout = -1
	svc, err := webtrigger.New(store, runner, &opts)
	require.NoError(t, err)
	t.Cleanup(svc.CloseStreams)
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true, AllowCallbackURLs: true}))
	return svc
}

// work runs Service.Work. stop ends it and waits for it.
func work(t *testing.T, svc *webtrigger.Service) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	worked := make(chan error, 1)
	go func() { worked <- svc.Work(ctx) }()
	stop = sync.OnceFunc(func() {
		svc.CloseStreams()
		cancel()
		if err := <-worked; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// span waits for the only span of a name.
func (p *process) span(t *testing.T, name string) tracetest.SpanStub {
	t.Helper()
	var found tracetest.SpanStub
	require.Eventually(t, func() bool {
		n := 0
		for _, s := range p.spans.GetSpans() {
			if s.Name == name {
				found = s
				n++
			}
		}
		return n == 1
	}, 30*time.Second, time.Millisecond, "no span, or several, of the name %q", name)
	return found
}

// attributesOf returns the attributes of a span.
func attributesOf(s tracetest.SpanStub) map[string]any {
	return asMap(attribute.NewSet(s.Attributes...))
}

func asMap(set attribute.Set) map[string]any {
	m := make(map[string]any)
	for _, kv := range set.ToSlice() {
		m[string(kv.Key)] = kv.Value.AsInterface()
	}
	return m
}

// point is one series of a metric.
type point struct {
	attributes map[string]any
	value      float64 // of a histogram: the count
	sum        float64 // of a histogram
}

// metrics collects the metrics, by name.
func (p *process) metrics(t *testing.T) map[string][]point {
	t.Helper()
	var data metricdata.ResourceMetrics
	require.NoError(t, p.reader.Collect(t.Context(), &data))
	all := make(map[string][]point)
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			require.NotEmpty(t, m.Description, m.Name)
			all[m.Name] = points(t, m.Data)
		}
	}
	return all
}

func points(t *testing.T, data metricdata.Aggregation) (list []point) {
	t.Helper()
	switch d := data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range d.DataPoints {
			list = append(list, point{asMap(p.Attributes), float64(p.Value), 0})
		}
	case metricdata.Gauge[int64]:
		for _, p := range d.DataPoints {
			list = append(list, point{asMap(p.Attributes), float64(p.Value), 0})
		}
	case metricdata.Gauge[float64]:
		for _, p := range d.DataPoints {
			list = append(list, point{asMap(p.Attributes), p.Value, 0})
		}
	case metricdata.Histogram[float64]:
		for _, p := range d.DataPoints {
			list = append(list, point{asMap(p.Attributes), float64(p.Count), p.Sum})
		}
	case metricdata.Histogram[int64]:
		for _, p := range d.DataPoints {
			list = append(list, point{asMap(p.Attributes), float64(p.Count), float64(p.Sum)})
		}
	default:
		require.Failf(t, "unknown data", "%T", data)
	}
	return list
}

// receiver receives callbacks and sends their headers to got.
func receiver(t *testing.T, status int) (url string, opts webtrigger.CallbackOptions, got <-chan http.Header) {
	t.Helper()
	headers := make(chan http.Header, 8)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(marker))
		headers <- r.Header
	}))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server.URL, webtrigger.CallbackOptions{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, RootCAs: roots}, headers
}

// ask sends a request with a key to a service and returns the response.
func ask(t *testing.T, svc http.Handler, secret, method, target, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := newRequest(t, method, target, body)
	r.Header.Set("Authorization", "Bearer "+secret)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	svc.ServeHTTP(w, r)
	return w
}
