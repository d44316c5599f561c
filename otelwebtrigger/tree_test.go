package otelwebtrigger_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/scripted"
	"github.com/webtrigger-go/webtrigger/otelwebtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newRequest(t *testing.T, method, target, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	return r
}

// One trace leads from the caller over another process, which executes the run, to
// the receiver of the callback.
func TestOneTreeFromCallerToCallback(t *testing.T) {
	t.Parallel()
	caller, front, back := newProcess(t), newProcess(t), newProcess(t)
	url, callbacks, got := receiver(t, http.StatusOK)

	tool, err := llm.NewTool("lookup", "Looks up.", func(ctx context.Context, _ struct{}) (string, error) {
		_, inside := back.tracing.Tracer("tool").Start(ctx, "inside the tool")
		inside.End()
		return "found", nil
	})
	require.NoError(t, err)
	inner, err := llm.NewAgent(scripted.New(), &llm.AgentOptions{
		Tools: []llm.Tool{tool}, Hooks: back.Agent(otelwebtrigger.Model{Provider: "acme", Name: "scripted-1"}),
	})
	require.NoError(t, err)
	store := memstore.New(nil)
	svcFront := front.service(t, store, nil, webtrigger.Options{NoWorkers: true, Callback: callbacks})
	svcBack := back.service(t, store, inner, webtrigger.Options{Callback: callbacks})
	_, secret, err := svcFront.CreateKey(t.Context(), "1", webtrigger.KeySpec{Name: "test"})
	require.NoError(t, err)
	server := httptest.NewServer(svcFront)
	defer server.Close()

	ctx, outer := caller.tracing.Tracer("caller").Start(t.Context(), "nightly job")
	r := newRequest(t, http.MethodPost, server.URL+"/api/v1/assistants/1/web-trigger",
		`{"message":"/tool lookup {}\n/say done","callback_url":"`+url+`/hook?token=t"}`)
	r.Header.Set("Authorization", "Bearer "+secret)
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(r.Header))
	answer, err := server.Client().Do(r)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusAccepted, answer.StatusCode)
	outer.End()

	stop := work(t, svcBack)
	received := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier(<-got)))
	callback := back.span(t, "POST")
	stop()

	request := front.span(t, "POST /api/v1/assistants/{assistant_id}/web-trigger")
	queued, run, lookup := back.span(t, "queued"), back.span(t, "invoke_agent"), back.span(t, "execute_tool lookup")
	var chats []tracetest.SpanStub
	for _, s := range back.spans.GetSpans() {
		if s.Name == "chat scripted-1" {
			chats = append(chats, s)
		}
	}
	require.Len(t, chats, 2)

	below := func(child tracetest.SpanStub, parent trace.SpanContext) {
		t.Helper()
		require.Equal(t, outer.SpanContext().TraceID(), child.SpanContext.TraceID(), child.Name)
		require.Equal(t, parent.SpanID(), child.Parent.SpanID(), child.Name)
	}
	below(request, outer.SpanContext())
	below(queued, request.SpanContext)
	below(run, request.SpanContext)
	below(chats[0], run.SpanContext)
	below(chats[1], run.SpanContext)
	below(lookup, run.SpanContext)
	below(back.span(t, "inside the tool"), lookup.SpanContext)
	below(callback, request.SpanContext)
	require.Equal(t, callback.SpanContext.TraceID(), received.TraceID())
	require.Equal(t, callback.SpanContext.SpanID(), received.SpanID(), "the receiver must get the span of the callback")
	require.Len(t, front.spans.GetSpans(), 1)
	require.Len(t, back.spans.GetSpans(), 7)
	require.False(t, queued.EndTime.After(run.StartTime), "it waited before it ran")

	stored, err := svcFront.RunByID(t.Context(), 1)
	require.NoError(t, err)
	who := map[string]any{
		"gen_ai.agent.id": "1", "gen_ai.conversation.id": "1", "webtrigger.run.id": int64(1), "webtrigger.run.key": stored.Key,
	}
	is := func(s tracetest.SpanStub, kind trace.SpanKind, more ...attribute.KeyValue) {
		t.Helper()
		want := asMap(attribute.NewSet(more...))
		if _, ok := attributesOf(s)["webtrigger.run.id"]; ok {
			for k, v := range who {
				want[k] = v
			}
		}
		require.Equal(t, want, attributesOf(s), s.Name)
		require.Equal(t, kind, s.SpanKind, s.Name)
		require.Equal(t, codes.Unset, s.Status.Code, s.Name)
		require.Empty(t, s.Events, s.Name)
	}
	is(request, trace.SpanKindServer,
		attribute.String("http.request.method", "POST"), attribute.String("url.scheme", "http"),
		attribute.String("http.route", "/api/v1/assistants/{assistant_id}/web-trigger"),
		attribute.Int("http.response.status_code", 202), attribute.Bool("webtrigger.trigger.replayed", false))
	is(queued, trace.SpanKindInternal)
	is(run, trace.SpanKindInternal,
		attribute.String("gen_ai.operation.name", "invoke_agent"), attribute.Int("webtrigger.run.attempt", 1),
		attribute.String("webtrigger.run.status", "completed"),
		attribute.Int64("gen_ai.usage.input_tokens", stored.Usage.InputTokens), attribute.Int64("gen_ai.usage.output_tokens", stored.Usage.OutputTokens))
	usage := attributesOf(chats[0])
	is(chats[0], trace.SpanKindClient,
		attribute.String("gen_ai.operation.name", "chat"), attribute.String("gen_ai.provider.name", "acme"),
		attribute.String("gen_ai.request.model", "scripted-1"), attribute.String("gen_ai.response.model", "scripted"),
		attribute.String("gen_ai.conversation.id", "1"), attribute.StringSlice("gen_ai.response.finish_reasons", []string{"tool_calls"}),
		attribute.Int64("gen_ai.usage.input_tokens", usage["gen_ai.usage.input_tokens"].(int64)),
		attribute.Int64("gen_ai.usage.output_tokens", usage["gen_ai.usage.output_tokens"].(int64)))
	require.Equal(t, stored.Usage.InputTokens, usage["gen_ai.usage.input_tokens"].(int64)+attributesOf(chats[1])["gen_ai.usage.input_tokens"].(int64))
	is(lookup, trace.SpanKindInternal,
		attribute.String("gen_ai.operation.name", "execute_tool"), attribute.String("gen_ai.tool.name", "lookup"), attribute.String("gen_ai.tool.type", "function"))
	host, port, _ := strings.Cut(strings.TrimPrefix(url, "https://"), ":")
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	is(callback, trace.SpanKindClient,
		attribute.String("http.request.method", "POST"), attribute.String("server.address", host), attribute.Int("server.port", number),
		attribute.Int("http.response.status_code", 200), attribute.String("webtrigger.callback.state", "delivered"),
		attribute.Int("webtrigger.callback.delivery_id", 1))
}
