package otelwebtrigger

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.39.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
)

// Model names the model that an agent calls, in the terms of the semantic
// conventions. An empty field is not recorded.
type Model struct {
	Provider string // gen_ai.provider.name, such as "openai" or "anthropic"
	Name     string // gen_ai.request.model
}

// Agent returns hooks for llm.AgentOptions. They create spans and metrics of
// model calls and tool calls. Spans of a model's client or of a tool are children of
// these spans.
func (t *Telemetry) Agent(model Model) llm.Hooks {
	a := &agent{t: t, chat: "chat", model: []attribute.KeyValue{semconv.GenAIOperationNameChat}}
	if model.Provider != "" {
		a.model = append(a.model, semconv.GenAIProviderNameKey.String(model.Provider))
	}
	if model.Name != "" {
		a.chat += " " + model.Name
		a.model = append(a.model, semconv.GenAIRequestModel(model.Name))
	}
	return llm.Hooks{Model: a.called, Tool: a.executed}
}

type agent struct {
	t     *Telemetry
	chat  string               // the name of the span of a model call
	model []attribute.KeyValue // of every model call
}

// called creates the span of a model call.
func (a *agent) called(ctx context.Context, info llm.ModelInfo) (context.Context, func(llm.ModelOutcome)) {
	req := info.Request
	began := time.Now()
	ctx, span := a.t.tracer.Start(ctx, a.chat, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(a.model...))
	if req.Task != nil {
		span.SetAttributes(conversation(req.Task.Run))
	}
	if req.Output.Type == webtrigger.OutputJSON {
		span.SetAttributes(semconv.GenAIOutputTypeJSON)
	}
	return ctx, func(o llm.ModelOutcome) {
		response, err := o.Response, o.Err
		took := time.Since(began)
		how := append([]attribute.KeyValue(nil), a.model...)
		if response != nil {
			if response.Model != "" {
				how = append(how, semconv.GenAIResponseModel(response.Model))
			}
			span.SetAttributes(semconv.GenAIUsageInputTokens(int(response.Usage.InputTokens)), semconv.GenAIUsageOutputTokens(int(response.Usage.OutputTokens)))
			if response.Finish != "" {
				span.SetAttributes(semconv.GenAIResponseFinishReasons(string(response.Finish)))
			}
			a.consumed(ctx, response.Usage, how)
		}
		if err != nil {
			how = append(how, errorType(ctx, err))
			span.SetStatus(codes.Error, "")
		}
		span.SetAttributes(how...)
		span.End()
		a.t.made.models.Record(ctx, seconds(took), metric.WithAttributes(how...))
	}
}

func (a *agent) consumed(ctx context.Context, usage webtrigger.Usage, how []attribute.KeyValue) {
	a.t.made.tokens.Record(ctx, usage.InputTokens, metric.WithAttributes(how...), metric.WithAttributes(semconv.GenAITokenTypeInput))
	a.t.made.tokens.Record(ctx, usage.OutputTokens, metric.WithAttributes(how...), metric.WithAttributes(semconv.GenAITokenTypeOutput))
}

// executed creates the span of a tool call. The model may make up the name of a
// tool. Such a name is not recorded.
func (a *agent) executed(ctx context.Context, info llm.ToolInfo) (context.Context, func(llm.ToolOutcome)) {
	call, offered := info.Call, info.Offered
	name := "execute_tool"
	var attributes []attribute.KeyValue
	if offered {
		name += " " + call.Name
		attributes = append(attributes, semconv.GenAIToolName(call.Name))
	}
	began := time.Now()
	ctx, span := a.t.tracer.Start(ctx, name, trace.WithAttributes(attributes...),
		trace.WithAttributes(semconv.GenAIOperationNameExecuteTool, semconv.GenAIToolType("function")))
	return ctx, func(o llm.ToolOutcome) {
		err := o.Err
		if err != nil && !offered {
			attributes = append(attributes, semconv.ErrorTypeKey.String("not_offered"))
		} else if err != nil {
			attributes = append(attributes, errorType(ctx, err))
		}
		if err != nil {
			span.SetStatus(codes.Error, "")
		}
		span.SetAttributes(attributes...)
		span.End()
		a.t.made.tools.Record(ctx, seconds(time.Since(began)), metric.WithAttributes(attributes...))
	}
}

// errorType returns the error.type of a failed call. It contains no part of the
// error's text.
func errorType(ctx context.Context, err error) attribute.KeyValue {
	word := errorOther
	var refused *llm.Error
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, webtrigger.ErrDeadline):
		word = "deadline"
	case cause != nil:
		word = "cancelled"
	case errors.Is(err, context.DeadlineExceeded):
		word = "timeout"
	case errors.As(err, &refused) && refused.Retryable:
		word = "unavailable"
	}
	return semconv.ErrorTypeKey.String(word)
}
