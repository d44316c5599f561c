package llm

import "context"

// Hooks are functions that an [Agent] calls for tracing and metrics. The module
// otelwebtrigger provides them for OpenTelemetry. Each may be nil. A hook must be safe
// for concurrent use, return quickly, and not panic: the operation waits for it.
//
// The agent calls a hook when an operation begins. The operation uses the context that
// the hook returns; if nil, it uses the one that the hook received. The agent calls the
// returned function once when the operation ends. It may be nil. Fields may be added to
// the structs in minor versions.
type Hooks struct {
	// Model is called for each model call. The call includes the retries of a [Retrier].
	Model func(ctx context.Context, info ModelInfo) (context.Context, func(ModelOutcome))

	// Tool is called for each tool call that the model requests.
	Tool func(ctx context.Context, info ToolInfo) (context.Context, func(ToolOutcome))
}

// ModelInfo describes a model call that begins.
type ModelInfo struct {
	Request *Request // must not be changed
}

// ModelOutcome contains the results of LLM.Generate.
type ModelOutcome struct {
	Response *Response // must not be changed; may be nil
	Err      error
}

// ToolInfo describes a tool call that begins.
type ToolInfo struct {
	Call ToolCall

	// Offered reports whether the run may use the tool. If not, the name may be any
	// text of the model, and the call fails.
	Offered bool
}

// ToolOutcome describes a tool call that has ended.
type ToolOutcome struct {
	Err error // the error that is returned to the model, or nil
}
