package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Defaults of AgentOptions.
const (
	DefaultMaxSteps      = 20
	DefaultMaxTokens     = 1_000_000
	DefaultMaxHistory    = 256 << 10 // bytes
	DefaultToolTimeout   = time.Minute
	DefaultParallelTools = 8
	DefaultMaxToolResult = 128 << 10 // bytes
)

// AgentOptions configures an Agent. Every field has a default. The functions must be
// safe for concurrent use. Limits must not be negative, except MaxTokens and MaxHistory.
type AgentOptions struct {
	// Instructions returns the host's instructions for an assistant, such as its role and
	// tone. It is called once per run. If nil, there are none. An error fails the run.
	Instructions func(ctx context.Context, assistantID string) (string, error)

	// Tools are all available tools. Their names must be unique.
	Tools []Tool

	// AllowTools returns the names of the tools that an assistant may use. If nil, an
	// assistant may use all tools. An empty list allows none, so a lookup that finds
	// nothing permits nothing. An error fails the run. A task definition may restrict the
	// list further, but never extend it.
	AllowTools func(ctx context.Context, assistantID string) ([]string, error)

	// MaxSteps is the maximum number of model calls of a run. If zero, it is
	// DefaultMaxSteps. If the last call requests tools, they are not called and the run
	// fails. The repair of a JSON answer may use one more call.
	MaxSteps int

	// MaxTokens is the maximum number of input and output tokens of a run, as the model
	// reports them. If a run that has reached it needs a further model call, it fails. An
	// answer is accepted even if its own call exceeded the limit. If zero, it is
	// DefaultMaxTokens. If negative, there is no limit.
	MaxTokens int64

	// MaxHistory is the maximum size of the earlier messages of the conversation that the
	// model gets, in bytes of text and tool calls. A token of English text has about 4.
	// The oldest messages are omitted first. Tool calls keep their results. If zero, it is
	// DefaultMaxHistory. If negative, the model gets none. The agent has no more than
	// webtrigger.Options.History provides.
	MaxHistory int

	// ToolTimeout is the maximum duration of one call of a tool without a Timeout of its
	// own. If zero, it is DefaultToolTimeout.
	ToolTimeout time.Duration

	// ParallelTools is the maximum number of calls of one model answer that run at the
	// same time. If zero, it is DefaultParallelTools. If 1, they run one after the other.
	ParallelTools int

	// MaxToolResult is the maximum size of the result of one call in the conversation, in
	// bytes. A longer result is cut, with a note for the model. If zero, it is
	// DefaultMaxToolResult.
	MaxToolResult int

	// AskHuman offers the model the tool [AskHumanName], with which it asks a person. The
	// run waits for the answer, see [webtrigger.AskInput]. AllowTools and task definitions
	// restrict it as any tool.
	AskHuman bool

	// ApproveCall reports whether a call needs the approval of a person, in addition to
	// Tool.NeedsApproval and TaskDefinition.ApproveTools. It must return the same result
	// for the same call on each attempt of a run. If nil, only these two decide.
	ApproveCall func(ctx context.Context, task *webtrigger.Task, call ToolCall) bool

	// InputExpiry is how long a run waits for a person. If zero, it is
	// webtrigger.DefaultInputExpiry. Minimum: 1 s. Maximum: webtrigger.MaxInputExpiry.
	InputExpiry time.Duration

	// CompileSchema compiles the output schema of a task definition. If nil, it is the
	// function CompileSchema of this package. It should be the one of webtrigger.Options.
	CompileSchema func(schema json.RawMessage) (check func(result json.RawMessage) error, err error)

	// Logger receives records about tools that panic or do not return, and about ignored
	// keywords of their schemas. If nil, they are discarded.
	Logger *slog.Logger

	// Hooks are functions for tracing and metrics.
	Hooks Hooks
}

// Agent is a tool-calling loop. It calls the model, executes the tools that the model
// requests, and returns their results to the model until the model finishes.
//
// It emits model_completed after each model call, message_delta for streamed text,
// message_completed for each text, and for each tool call tool_started, then
// tool_completed or tool_failed. The pieces between two message_completed events are the
// text of the second one. The last of these texts is the result. If a task requires
// JSON, only the accepted answer is emitted in pieces.
//
// A mistake of the model does not end the run. If a call names no available tool, or its
// arguments do not meet the tool's schema, the call fails, and its message reports the
// mistake to the model.
//
// It records the model's answers and the results of tools as steps: see webtrigger.Step. A
// later attempt of a run continues after the last record, without emitting the events of
// the recorded steps again.
//
// An Agent is a webtrigger.Runner. It is safe for concurrent use. Between runs, it keeps
// only the number of abandoned tool calls.
type Agent struct {
	model LLM
	tools map[string]*registered
	order []string // tool names as given
	opts  AgentOptions
}

var _ webtrigger.Runner = (*Agent)(nil)

// NewAgent returns an Agent for a model. It copies opts; if opts is nil, the defaults
// apply. It returns an error if model is nil, if an option is invalid, or if a tool has
// an invalid or repeated name, or no usable schema.
func NewAgent(model LLM, opts *AgentOptions) (*Agent, error) {
	if model == nil {
		return nil, errors.New("llm: model must not be nil")
	}
	a := &Agent{model: model}
	if opts != nil {
		a.opts = *opts
	}
	if err := a.opts.complete(); err != nil {
		return nil, err
	}
	if a.opts.AskHuman {
		a.opts.Tools = append(slices.Clone(a.opts.Tools), askHuman())
	}
	for _, t := range a.opts.Tools {
		a.order = append(a.order, t.Name)
	}
	var err error
	a.tools, err = register(a.opts.Tools, a.opts.Logger)
	return a, err
}

// complete checks o and sets the defaults of zero fields.
func (o *AgentOptions) complete() error {
	if o.MaxSteps < 0 || o.ToolTimeout < 0 || o.ParallelTools < 0 || o.MaxToolResult < 0 {
		return errors.New("llm: MaxSteps, ToolTimeout, ParallelTools and MaxToolResult must not be negative")
	}
	if o.InputExpiry != 0 && (o.InputExpiry < time.Second || o.InputExpiry > webtrigger.MaxInputExpiry) {
		return errors.New("llm: InputExpiry must be from 1s to 30 days")
	}
	orDefault(&o.MaxSteps, DefaultMaxSteps)
	orDefault(&o.MaxTokens, DefaultMaxTokens)
	orDefault(&o.MaxHistory, DefaultMaxHistory)
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

// Tools describes all tools of the agent in the order of AgentOptions.Tools, for lists
// such as the one of the admin API. A run may use fewer of them.
func (a *Agent) Tools() []ToolSpec { return a.specs(a.order) }

// Run answers one task. If it returns an error, the result still has the usage and the
// messages until then.
func (a *Agent) Run(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
	c := &conversation{agent: a, task: task, emit: oneByOne(emit)}
	err := c.open(ctx)
	if err == nil {
		err = c.converse(ctx)
	}
	return &c.result, err
}

// oneByOne returns an Emit whose calls do not overlap, although tools run at the same
// time: a host may wrap the Emit of the service.
func oneByOne(emit webtrigger.Emit) webtrigger.Emit {
	var mu sync.Mutex
	return func(typ webtrigger.EventType, payload any) error {
		mu.Lock()
		defer mu.Unlock()
		return emit(typ, payload)
	}
}

// allowed returns the tools of a run: those of the assistant, restricted to those of the
// task definition. An empty list there adds no restriction.
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

// opening returns the first messages: the instructions, the earlier messages of the
// conversation, then the prompt.
func (a *Agent) opening(ctx context.Context, task *webtrigger.Task, earlier []Message) ([]Message, error) {
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
	messages = append(messages, earlier...)
	return append(messages, Message{Role: webtrigger.RoleUser, Content: task.Prompt}), nil
}

func blank(s string) bool { return strings.TrimSpace(s) == "" }
