package otelwebtrigger_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

const outside = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// unavailable is a store that is unavailable.
type unavailable struct{ webtrigger.Store }

func (unavailable) Authenticate(context.Context, webtrigger.KeyHash, int64, int64) (webtrigger.Grant, error) {
	return webtrigger.Grant{}, webtrigger.ErrUnavailable
}

func TestRequests(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	svc := p.service(t, memstore.New(nil), nil, webtrigger.Options{NoWorkers: true})
	broken := p.service(t, unavailable{memstore.New(nil)}, nil, webtrigger.Options{NoWorkers: true})
	const status = "/api/v1/web-triggers/{trigger_id}/status"
	for _, c := range []struct {
		svc                         *webtrigger.Service
		method, path                string
		name, saidMethod, saidRoute string
		status                      int
		header                      []string
		parent                      string
	}{
		{svc, "GET", "/api/v1/web-triggers/7/status?key=k", "GET " + status, "GET", status, 401, nil, ""},
		{svc, "GET", "/api/v1/web-triggers/7/status", "GET " + status, "GET", status, 401, []string{"traceparent", outside}, "00f067aa0ba902b7"},
		{svc, "GET", "/api/v1/web-triggers/7/status", "GET " + status, "GET", status, 401, []string{"traceparent", outside, "traceparent", outside}, ""},
		{svc, "GET", "/api/v1/web-triggers/7/status", "GET " + status, "GET", status, 401, []string{"traceparent", "00-0-0-01"}, ""},
		{svc, "GET", "/secret", "GET", "GET", "", 404, nil, ""},
		{svc, "BREW", "/api/v1/web-triggers/7/status", "HTTP " + status, "_OTHER", status, 405, nil, ""},
		{broken, "GET", "/api/v1/web-triggers/7/status", "GET " + status, "GET", status, 503, nil, ""},
	} {
		p.spans.Reset()
		before := requests(t, p)
		require.Equal(t, c.status, ask(t, c.svc, unknownKey, c.method, "http://app.example.com"+c.path, "", c.header...).Code, c.path)
		span := p.span(t, c.name)
		require.Equal(t, trace.SpanKindServer, span.SpanKind)
		want := map[string]any{"http.request.method": c.saidMethod, "url.scheme": "http", "http.response.status_code": int64(c.status)}
		if c.saidRoute != "" {
			want["http.route"] = c.saidRoute
		}
		code := codes.Unset
		if c.status >= 500 {
			want["error.type"] = "503"
			code = codes.Error
		}
		require.Equal(t, want, attributesOf(span), c.path)
		require.Equal(t, code, span.Status.Code)
		require.Empty(t, span.Status.Description)
		if c.parent == "" {
			require.False(t, span.Parent.IsValid(), c.path)
		} else {
			require.Equal(t, c.parent, span.Parent.SpanID().String())
			require.True(t, span.Parent.IsRemote())
		}
		require.Equal(t, before+1, requests(t, p))
	}
}

// unknownKey is a key that no assistant has.
const unknownKey = "abababababababababababababababababababababababababababababababab"

func requests(t *testing.T, p *process) (n float64) {
	for _, point := range p.metrics(t)["http.server.request.duration"] {
		n += point.value
	}
	return n
}

// Under a span of the host's middleware, the request's span is INTERNAL. Only the
// middleware counts the request.
func TestRequestBelowAMiddleware(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	svc := p.service(t, memstore.New(nil), nil, webtrigger.Options{NoWorkers: true})
	host := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, span := p.tracing.Tracer("host").Start(r.Context(), "middleware")
		defer span.End()
		svc.ServeHTTP(w, r.WithContext(ctx))
	})
	require.Equal(t, 404, ask(t, host, unknownKey, "GET", "http://app.example.com/nowhere", "", "traceparent", outside).Code)
	middleware, inner := p.span(t, "middleware"), p.span(t, "GET")
	require.Equal(t, middleware.SpanContext.SpanID(), inner.Parent.SpanID())
	require.Equal(t, trace.SpanKindInternal, inner.SpanKind)
	require.Zero(t, requests(t, p))
}

// A trigger from Go continues the trace of the host's span. Without a span it starts
// a trace of its own.
func TestTriggerFromGo(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	svc := p.service(t, memstore.New(nil), webtrigger.RunnerFunc(
		func(context.Context, *webtrigger.Task, webtrigger.Emit) (*webtrigger.Result, error) {
			return &webtrigger.Result{Text: "done"}, nil
		}), webtrigger.Options{})
	ctx, span := p.tracing.Tracer("host").Start(t.Context(), "host")
	run, err := svc.Trigger(ctx, "1", webtrigger.TriggerRequest{Message: "go"})
	require.NoError(t, err)
	span.End()
	require.NoError(t, svc.Execute(t.Context(), run.ID))
	require.Equal(t, span.SpanContext().SpanID(), p.span(t, "invoke_agent").Parent.SpanID())
	require.Equal(t, run.Key, attributesOf(p.span(t, "host"))["webtrigger.run.key"])

	p.spans.Reset()
	run, err = svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "go"})
	require.NoError(t, err)
	require.Empty(t, run.TraceParent)
	require.NoError(t, svc.Execute(t.Context(), run.ID))
	require.False(t, p.span(t, "invoke_agent").Parent.IsValid())
}

// If the caller does not sample a trace, no process samples it.
func TestUnsampled(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	svc := p.service(t, memstore.New(nil), webtrigger.RunnerFunc(
		func(context.Context, *webtrigger.Task, webtrigger.Emit) (*webtrigger.Result, error) {
			return &webtrigger.Result{Text: "done"}, nil
		}), webtrigger.Options{})
	_, secret, err := svc.CreateKey(t.Context(), "1", webtrigger.KeySpec{Name: "test"})
	require.NoError(t, err)
	w := ask(t, svc, secret, "POST", "http://app.example.com/api/v1/assistants/1/web-trigger", `{"message":"go"}`,
		"traceparent", outside[:len(outside)-1]+"0")
	require.Equal(t, 202, w.Code)
	require.NoError(t, svc.Execute(t.Context(), 1))
	run, err := svc.RunByID(t.Context(), 1)
	require.NoError(t, err)
	require.Contains(t, run.TraceParent, "4bf92f3577b34da6a3ce929d0e0e4736")
	require.Equal(t, "-00", run.TraceParent[52:])
	require.Empty(t, p.spans.GetSpans())
	require.Len(t, p.metrics(t)["webtrigger.run.duration"], 1, "metrics do not depend on that")
}

// The span of a stream ends with the stream, and a gauge counts the open streams.
func TestStreams(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	svc := p.service(t, memstore.New(nil), nil, webtrigger.Options{NoWorkers: true})
	_, secret, err := svc.CreateKey(t.Context(), "1", webtrigger.KeySpec{Name: "test"})
	require.NoError(t, err)
	_, err = svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "go"})
	require.NoError(t, err)
	server := httptest.NewServer(svc)
	defer server.Close()
	r := newRequest(t, "GET", server.URL+"/api/v1/web-triggers/1/events", "")
	r.Header.Set("Authorization", "Bearer "+secret)
	answer, err := server.Client().Do(r)
	require.NoError(t, err)
	require.Equal(t, 1.0, p.metrics(t)["webtrigger.stream.active"][0].value)
	require.Empty(t, p.spans.GetSpans())
	require.NoError(t, answer.Body.Close())
	span := p.span(t, "GET /api/v1/web-triggers/{trigger_id}/events")
	require.Equal(t, int64(200), attributesOf(span)["http.response.status_code"])
	require.Zero(t, p.metrics(t)["webtrigger.stream.active"][0].value)
}
