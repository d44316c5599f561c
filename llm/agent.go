package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Defaults of AgentOptions.
const (
	DefaultMaxSteps      = 20
	DefaultMaxTokens     = 1_000_000
	DefaultToolTimeout   = time.Minute
	DefaultParallelTools = 8
	DefaultMaxToolResult = 128 << 10
)

// AgentOptions is everything about an Agent that has a default.
type AgentOptions struct {
	// Instructions are the host's for an assistant: who it is, how it talks. They
	// are asked for once a run. nil: none. An error fails the run.
	Instructions func(ctx context.Context, assistantID string) (string, error)

	// Tools are all tools that there are; names are unique.
	Tools []Tool

	// AllowTools lists the tools that an assistant may use. nil: all of them. An
	// empty list is none, so that a lookup that finds nothing opens nothing; an
	// error fails the run. A task definition narrows this further, and never widens
	// it.
	AllowTools func(ctx context.Context, assistantID string) ([]string, error)

	// MaxSteps bounds the model calls of a run. 0: DefaultMaxSteps. Tools that
	// the last of them asks for are not called, and the run fails. The repair of a
	// JSON answer may use one call more.
	MaxSteps int

	// MaxTokens bounds what a run consumes, input and output together, as the model
	// reports it: once it is reached there is no further model call, and a run that
	// needs one fails. The answer that a call gave stands, whatever it took. 0:
	// DefaultMaxTokens. Negative: no bound.
	MaxTokens int64

	// ToolTimeout bounds one call of a tool that has no Timeout of its own. 0:
	// DefaultToolTimeout.
	ToolTimeout time.Duration

	// ParallelTools is how many of the calls that a model asks for at once are
	// under way at a time. 0: DefaultParallelTools. 1: one after the other.
	ParallelTools int

	// MaxToolResult bounds what the result of one call adds to the conversation, in
	// bytes; the rest is left out, and the model is told. 0: DefaultMaxToolResult.
	MaxToolResult int

	// CompileSchema compiles the output schema of a task definition. nil: the
	// function CompileSchema of this package. It should be that of
	// webtrigger.Options.
	CompileSchema func(schema json.RawMessage) (check func(result json.RawMessage) error, err error)

	// Logger gets what a tool that panics or does not return leaves behind. nil
	// discards.
	Logger *slog.Logger

	// Hooks are called as the agent works, for tracing and metrics.
	Hooks Hooks
}

// Agent lets a model answer: it asks the model, calls the tools that the model
// wants, tells the model what they said, and so on until the model is done.
//
// It emits model_completed after every model call, message_delta for text as it
// comes, message_completed for each text, and for each tool call tool_started,
// then tool_completed or tool_failed. The pieces between two message_completed
// make up the text of the second; the last of these texts is the result. Where
// a task asks for JSON, only the answer that is accepted is shown in pieces.
//
// An Agent is a webtrigger.Runner and keeps no state between runs, but for a
// count of tool calls that never ended.
type Agent struct {
	model LLM
	tools map[string]*registered
	order []string // tool names as given
	opts  AgentOptions
}

var _ webtrigger.Runner = (*Agent)(nil)

// NewAgent returns an Agent on a model. The options may be nil and are copied; a
// tool with a bad or doubled name, or an unusable schema, is an error.
func NewAgent(model LLM, opts *AgentOptions) (*Agent, error) {
	if model == nil {
		return nil, errors.New("llm: an agent needs a model")
	}
	a := &Agent{model: model}
	if opts != nil {
		a.opts = *opts
	}
	if err := a.opts.complete(); err != nil {
		return nil, err
	}
	for _, t := range a.opts.Tools {
		a.order = append(a.order, t.Name)
	}
	var err error
	a.tools, err = register(a.opts.Tools, a.opts.Logger)
	return a, err
}

// complete checks o and puts the defaults where it is zero.
func (o *AgentOptions) complete() error {
	if o.MaxSteps < 0 || o.ToolTimeout < 0 || o.ParallelTools < 0 || o.MaxToolResult < 0 {
		return errors.New("llm: MaxSteps, ToolTimeout, ParallelTools and MaxToolResult must not be negative")
	}
	orDefault(&o.MaxSteps, DefaultMaxSteps)
	orDefault(&o.MaxTokens, DefaultMaxTokens)
	orDefault(&o.ToolTimeout, DefaultToolTimeout)
	orDefault(&o.ParallelTools, DefaultParallelTools)
	orDefault(&o.MaxToolResult, DefaultMaxToolResult)
	if o.CompileSchema == nil {
		o.CompileSchema = CompileSchema
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

func orDefault[T comparable](v *T, def T) {
	if *v == *new(T) {
		*v = def
	}
}

// Tools describes all tools of the agent in the order in which they were given,
// for lists such as that of the admin API. Which of them a run may use is
// decided for each run.
func (a *Agent) Tools() []ToolSpec { return a.specs(a.order) }

// Run answers one task. What was consumed and said until an error is in the
// result all the same.
func (a *Agent) Run(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
	c := &conversation{agent: a, task: task, emit: emit}
	err := c.open(ctx)
	if err == nil {
		err = c.converse(ctx)
	}
	return &c.result, err
}

// allowed is the tools of a run: those of the assistant, and of these those of
// the task definition; an empty list there is no further limit.
func (a *Agent) allowed(ctx context.Context, task *webtrigger.Task) ([]string, error) {
	names := a.order
	if a.opts.AllowTools != nil {
		allow, err := a.opts.AllowTools(ctx, task.Run.AssistantID)
		if err != nil {
			return nil, fmt.Errorf("look up the assistant's tools: %w", err)
		}
		names = intersect(names, allow)
	}
	if def := task.Definition; def != nil && len(def.AllowedTools) > 0 {
		names = intersect(names, def.AllowedTools)
	}
	return names, nil
}

func intersect(names, with []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !slices.Contains(with, n) })
}

func (a *Agent) specs(names []string) []ToolSpec {
	specs := make([]ToolSpec, len(names))
	for i, n := range names {
		t := a.tools[n]
		specs[i] = ToolSpec{Name: t.Name, Description: t.Description, Parameters: slices.Clone(t.Parameters)}
	}
	return specs
}

// opening is what the model sees first: the instructions, then the prompt.
func (a *Agent) opening(ctx context.Context, task *webtrigger.Task) ([]Message, error) {
	var parts []string
	if a.opts.Instructions != nil {
		text, err := a.opts.Instructions(ctx, task.Run.AssistantID)
		if err != nil {
			return nil, fmt.Errorf("look up the assistant's instructions: %w", err)
		}
		parts = append(parts, text)
	}
	if def := task.Definition; def != nil {
		parts = append(parts, def.Instructions, outputDemand(def))
	}
	parts = slices.DeleteFunc(parts, blank)
	var messages []Message
	if len(parts) > 0 {
		messages = append(messages, Message{Role: RoleSystem, Content: strings.Join(parts, "\n\n")})
	}
	return append(messages, Message{Role: webtrigger.RoleUser, Content: task.Prompt}), nil
}

func blank(s string) bool { return strings.TrimSpace(s) == "" }
