package otelwebtrigger_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/otelwebtrigger"
)

// replies is a model that gives its replies in order.
type replies []func() (*llm.Response, error)

func (r *replies) Generate(context.Context, *llm.Request, func(llm.Chunk) error) (*llm.Response, error) {
	reply := (*r)[0]
	*r = (*r)[1:]
	return reply()
}

func says(r llm.Response) func() (*llm.Response, error) {
	return func() (*llm.Response, error) { return &r, nil }
}

func wants(tool string) func() (*llm.Response, error) {
	return says(llm.Response{
		Finish: llm.FinishToolCalls, Model: "m-2026", Usage: webtrigger.Usage{InputTokens: 10, OutputTokens: 1},
		ToolCalls: []llm.ToolCall{{Name: tool, Arguments: json.RawMessage(`{}`)}},
	})
}

func fails(err error) func() (*llm.Response, error) {
	return func() (*llm.Response, error) { return nil, err }
}

// runAgent executes one run of an agent with hooks of p.
func runAgent(t *testing.T, ctx context.Context, p *process, model otelwebtrigger.Model, task *webtrigger.Task, r replies) {
	t.Helper()
	tool := func(name string, call func(context.Context) (string, error)) llm.Tool {
		return llm.Tool{Name: name, Description: "Tests.", Call: func(ctx context.Context, _ json.RawMessage) (string, error) { return call(ctx) }}
	}
	hangs := tool("hangs", func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() })
	hangs.Timeout = time.Millisecond
	agent, err := llm.NewAgent(&r, &llm.AgentOptions{
		Hooks: p.Agent(model),
		Tools: []llm.Tool{
			tool("works", func(context.Context) (string, error) { return "fine", nil }),
			tool("breaks", func(context.Context) (string, error) { return "", errors.New("broken") }),
			hangs,
		},
	})
	require.NoError(t, err)
	_, _ = agent.Run(ctx, task, func(webtrigger.EventType, any) error { return nil })
}

func TestModelCalls(t *testing.T) {
	t.Parallel()
	deadline, cancel := context.WithDeadlineCause(t.Context(), time.Now().Add(-time.Second), webtrigger.ErrDeadline)
	defer cancel()
	stopped, stop := context.WithCancelCause(t.Context())
	stop(webtrigger.ErrCancelled)
	base := func(more map[string]any) map[string]any {
		m := map[string]any{"gen_ai.operation.name": "chat", "gen_ai.provider.name": "acme", "gen_ai.request.model": "m"}
		for k, v := range more {
			m[k] = v
		}
		return m
	}
	for name, c := range map[string]struct {
		ctx   context.Context
		reply func() (*llm.Response, error)
		want  map[string]any // of the metric of the duration
	}{
		"an answer": {t.Context(), says(llm.Response{Text: "x", Finish: llm.FinishStop, Model: "m-2026", Usage: webtrigger.Usage{InputTokens: 10, OutputTokens: 5}}),
			base(map[string]any{"gen_ai.response.model": "m-2026"})},
		"an overload":      {t.Context(), fails(&llm.Error{Err: errors.New("secret"), Retryable: true}), base(map[string]any{"error.type": "unavailable"})},
		"a rejection":      {t.Context(), fails(&llm.Error{Err: errors.New("secret")}), base(map[string]any{"error.type": "_OTHER"})},
		"another error":    {t.Context(), fails(errors.New("secret")), base(map[string]any{"error.type": "_OTHER"})},
		"a timeout":        {t.Context(), fails(context.DeadlineExceeded), base(map[string]any{"error.type": "timeout"})},
		"the run's time":   {deadline, fails(context.DeadlineExceeded), base(map[string]any{"error.type": "deadline"})},
		"the run's cancel": {stopped, fails(context.Canceled), base(map[string]any{"error.type": "cancelled"})},
	} {
		p := newProcess(t)
		task := &webtrigger.Task{Run: webtrigger.Run{ConversationID: 42}, Definition: &webtrigger.TaskDefinition{OutputType: webtrigger.OutputText}}
		runAgent(t, c.ctx, p, otelwebtrigger.Model{Provider: "acme", Name: "m"}, task, replies{c.reply})
		span, metrics := p.span(t, "chat m"), p.metrics(t)
		require.Equal(t, "42", attributesOf(span)["gen_ai.conversation.id"], name)
		require.Equal(t, c.want["error.type"], attributesOf(span)["error.type"], name)
		require.Equal(t, c.want["error.type"] != nil, span.Status.Code == codes.Error, name)
		require.Empty(t, span.Status.Description, name)
		require.Len(t, metrics["gen_ai.client.operation.duration"], 1, name)
		require.Equal(t, c.want, metrics["gen_ai.client.operation.duration"][0].attributes, name)
		if name != "an answer" {
			require.Empty(t, metrics["gen_ai.client.token.usage"], name)
			continue
		}
		sums := map[any]float64{}
		for _, point := range metrics["gen_ai.client.token.usage"] {
			sums[point.attributes["gen_ai.token.type"]] = point.sum
			delete(point.attributes, "gen_ai.token.type")
			require.Equal(t, c.want, point.attributes)
		}
		require.Equal(t, map[any]float64{"input": 10, "output": 5}, sums)
	}
}

// Without words for the model, and without a task, there are fewer attributes.
func TestModelCallOfANamelessModel(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	task := &webtrigger.Task{Definition: &webtrigger.TaskDefinition{OutputType: webtrigger.OutputJSON}}
	runAgent(t, t.Context(), p, otelwebtrigger.Model{}, task, replies{says(llm.Response{Text: "1", Finish: llm.FinishStop})})
	span := attributesOf(p.span(t, "chat"))
	require.Equal(t, map[string]any{
		"gen_ai.operation.name": "chat", "gen_ai.conversation.id": "0", "gen_ai.output.type": "json",
		"gen_ai.response.finish_reasons": []string{"stop"}, "gen_ai.usage.input_tokens": int64(0), "gen_ai.usage.output_tokens": int64(0),
	}, span)
}

func TestToolCalls(t *testing.T) {
	t.Parallel()
	done := says(llm.Response{Text: "x", Finish: llm.FinishStop})
	for tool, c := range map[string]struct {
		span    string
		problem string
	}{
		"works":                   {"execute_tool works", ""},
		"breaks":                  {"execute_tool breaks", "_OTHER"},
		"hangs":                   {"execute_tool hangs", "timeout"},
		"what the model made up!": {"execute_tool", "not_offered"},
	} {
		p := newProcess(t)
		runAgent(t, t.Context(), p, otelwebtrigger.Model{}, &webtrigger.Task{}, replies{wants(tool), done})
		span := p.span(t, c.span)
		want := map[string]any{}
		if c.problem != "not_offered" {
			want["gen_ai.tool.name"] = tool
		}
		if c.problem != "" {
			want["error.type"] = c.problem
		}
		points := p.metrics(t)["webtrigger.tool.duration"]
		require.Len(t, points, 1, tool)
		require.Equal(t, want, points[0].attributes, tool)
		want["gen_ai.operation.name"], want["gen_ai.tool.type"] = "execute_tool", "function"
		require.Equal(t, want, attributesOf(span), tool)
		require.Equal(t, c.problem != "", span.Status.Code == codes.Error, tool)
		require.Empty(t, span.Status.Description, tool)
	}
}
