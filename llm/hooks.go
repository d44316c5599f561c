package llm

import "context"

// Hooks are functions that an [Agent] calls for tracing and metrics. The module
// otelwebtrigger provides them for OpenTelemetry. Each may be nil. A hook must be safe
// for concurrent use, return quickly, and not panic: the operation waits for it.
//
// The agent calls a hook when an operation begins. The operation uses the context that
// the hook returns; if nil, it uses the one that the hook received. The agent calls the
// returned function once when the operation ends. It may be nil.
type Hooks struct {
	// Model is called for each model call. The call includes the retries of a [Retrier].
	// ended receives the results of LLM.Generate and must not change them.
	Model func(ctx context.Context, req *Request) (call context.Context, ended func(*Response, error))

	// Tool is called for each tool call that the model requests. offered reports whether
	// the run may use the tool. If not, the name may be any text of the model, and the
	// call fails. ended receives the error that is returned to the model, or nil.
	Tool func(ctx context.Context, call ToolCall, offered bool) (under context.Context, ended func(error))
}

func (h *Hooks) model(ctx context.Context, req *Request) (context.Context, func(*Response, error)) {
	if h.Model != nil {
		call, ended := h.Model(ctx, req)
		if call != nil {
			ctx = call
		}
		if ended != nil {
			return ctx, ended
		}
	}
	return ctx, func(*Response, error) {}
}

func (h *Hooks) tool(ctx context.Context, call ToolCall, offered bool) (context.Context, func(error)) {
	if h.Tool != nil {
		under, ended := h.Tool(ctx, call, offered)
		if under != nil {
			ctx = under
		}
		if ended != nil {
			return ctx, ended
		}
	}
	return ctx, func(error) {}
}
