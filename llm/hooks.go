package llm

import "context"

// Hooks are called as an [Agent] works, for tracing and metrics; the module
// webtrigger/otel fills them with OpenTelemetry. Each may be nil. They are called
// on the path of what they tell of, from many goroutines at once: they return
// quickly and do not panic. What a hook returns may be nil.
//
// A hook is the beginning of something: the context, nil for the one given, goes
// on with it, and the function is called once at its end.
type Hooks struct {
	// Model is one model call, the repetitions of a [Retrier] included. ended gets
	// what LLM.Generate returned, and changes neither.
	Model func(ctx context.Context, req *Request) (call context.Context, ended func(*Response, error))

	// Tool is one tool call that the model asks for. offered says whether the run
	// may use the tool; where it may not, the name is just something that the model
	// said, and the call fails. ended gets the error that the model is told, nil for
	// a result.
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
