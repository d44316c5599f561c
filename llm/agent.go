package llm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// DefaultMaxSteps is how often an agent asks its model within one run, unless
// AgentOptions say otherwise.
const DefaultMaxSteps = 20

// AgentOptions is everything about an Agent that has a default.
type AgentOptions struct {
	// Instructions are the host's for an assistant: who it is, how it talks.
	// nil: none.
	Instructions func(assistantID string) string

	// Tools are all tools that there are; names are unique.
	Tools []Tool

	// AllowTools lists the tools that an assistant may use. nil: all of them. An
	// empty list is none, so that a lookup that finds nothing opens nothing.
	// A task definition narrows this further, and never widens it.
	AllowTools func(assistantID string) []string

	// MaxSteps bounds the model calls of a run. 0: DefaultMaxSteps. Tools that
	// the last of them asks for are not called, and the run fails.
	MaxSteps int

	// Logger gets the stacks of tools that panic. nil discards.
	Logger *slog.Logger
}

// Agent lets a model answer: it asks the model, calls the tools that the model
// wants, tells the model what they said, and so on until the model is done.
//
// It emits model_completed after every model call, message_delta for text that
// streams, message_completed for each text, and tool_started with tool_completed
// or tool_failed for each call. An Agent is a webtrigger.Runner and keeps no
// state between runs.
type Agent struct {
	model LLM
	tools map[string]registered
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
	if a.opts.MaxSteps < 0 {
		return nil, errors.New("llm: MaxSteps must not be negative")
	}
	if a.opts.MaxSteps == 0 {
		a.opts.MaxSteps = DefaultMaxSteps
	}
	if a.opts.Logger == nil {
		a.opts.Logger = slog.New(slog.DiscardHandler)
	}
	for _, t := range a.opts.Tools {
		a.order = append(a.order, t.Name)
	}
	var err error
	a.tools, err = register(a.opts.Tools)
	return a, err
}

// Run answers one task.
func (a *Agent) Run(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
	c := &conversation{agent: a, task: task, emit: emit, allowed: a.allowed(task)}
	c.request = Request{Messages: a.opening(task), Tools: a.specs(c.allowed), Task: task}
	if def := task.Definition; def != nil {
		c.request.Output = OutputFormat{Type: def.OutputType, Schema: def.OutputSchema}
	}
	err := c.converse(ctx)
	return &c.result, err
}

// allowed is the tools of this run: those of the assistant, and of these those
// of the task definition; an empty list there is no further limit.
func (a *Agent) allowed(task *webtrigger.Task) []string {
	names := a.order
	if a.opts.AllowTools != nil {
		names = intersect(names, a.opts.AllowTools(task.Run.AssistantID))
	}
	if def := task.Definition; def != nil && len(def.AllowedTools) > 0 {
		names = intersect(names, def.AllowedTools)
	}
	return names
}

func intersect(names, with []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !slices.Contains(with, n) })
}

func (a *Agent) specs(names []string) []ToolSpec {
	specs := make([]ToolSpec, len(names))
	for i, n := range names {
		t := a.tools[n]
		specs[i] = ToolSpec{Name: t.Name, Description: t.Description, Parameters: t.Parameters}
	}
	return specs
}

// opening is what the model sees first: the instructions, then the prompt.
func (a *Agent) opening(task *webtrigger.Task) []Message {
	var parts []string
	if a.opts.Instructions != nil {
		parts = append(parts, a.opts.Instructions(task.Run.AssistantID))
	}
	if def := task.Definition; def != nil {
		parts = append(parts, def.Instructions, outputDemand(def))
	}
	parts = slices.DeleteFunc(parts, func(p string) bool { return strings.TrimSpace(p) == "" })
	var messages []Message
	if len(parts) > 0 {
		messages = append(messages, Message{Role: RoleSystem, Content: strings.Join(parts, "\n\n")})
	}
	return append(messages, Message{Role: webtrigger.RoleUser, Content: task.Prompt})
}

func outputDemand(def *webtrigger.TaskDefinition) string {
	switch {
	case def.OutputType == webtrigger.OutputMarkdown:
		return "Answer in Markdown."
	case def.OutputType == webtrigger.OutputJSON && def.OutputSchema != nil:
		return "Answer with nothing but one JSON value that meets this JSON Schema:\n" + string(def.OutputSchema)
	case def.OutputType == webtrigger.OutputJSON:
		return "Answer with nothing but one JSON value."
	}
	return ""
}

// conversation is one run of an agent.
type conversation struct {
	agent   *Agent
	task    *webtrigger.Task
	emit    webtrigger.Emit
	allowed []string
	request Request
	result  webtrigger.Result
}

// converse asks the model until it is done.
func (c *conversation) converse(ctx context.Context) error {
	for step := 1; step <= c.agent.opts.MaxSteps; step++ {
		response, err := c.ask(ctx)
		if err != nil {
			return err
		}
		if err := finished(response.Finish); err != nil {
			return err // and calls that were cut off are not made
		}
		if len(response.ToolCalls) == 0 {
			c.result.Text = response.Text
			return nil
		}
		if step == c.agent.opts.MaxSteps {
			break // nobody would read what the tools say
		}
		c.remember(Message{Role: webtrigger.RoleAssistant, Content: response.Text, ToolCalls: response.ToolCalls})
		for _, call := range response.ToolCalls {
			said, err := c.callTool(ctx, call)
			if err != nil {
				return err
			}
			c.remember(Message{Role: webtrigger.RoleTool, Content: said, ToolCallID: call.ID})
		}
	}
	return fmt.Errorf("the assistant used more than %d steps", c.agent.opts.MaxSteps)
}

func finished(reason FinishReason) error {
	switch reason {
	case FinishLength:
		return errors.New("the model's answer was cut off at its length limit")
	case FinishRefusal:
		return errors.New("the model declined to answer")
	}
	return nil
}

// remember adds to what the model sees next and to the run's transcript.
func (c *conversation) remember(m Message) {
	c.request.Messages = append(c.request.Messages, m)
	if m.Content != "" {
		c.result.Messages = append(c.result.Messages, webtrigger.NewMessage{Role: m.Role, Content: m.Content})
	}
}

// ask makes one model call.
func (c *conversation) ask(ctx context.Context) (*Response, error) {
	began := time.Now()
	response, err := c.agent.model.Generate(ctx, &c.request, c.stream)
	if err != nil {
		return nil, err
	}
	if response == nil {
		return nil, errors.New("the model gave no answer")
	}
	if c.result.Usage == nil {
		c.result.Usage = new(webtrigger.Usage)
	}
	c.result.Usage.Add(response.Usage)
	if err := c.emit(webtrigger.EventModelCompleted, struct {
		Model      string           `json:"model"`
		DurationMS int64            `json:"duration_ms"`
		Usage      webtrigger.Usage `json:"usage"`
	}{fitName(response.Model), time.Since(began).Milliseconds(), response.Usage}); err != nil {
		return nil, err
	}
	if response.Text == "" {
		return response, nil
	}
	return response, c.emit(webtrigger.EventMessageCompleted, shown{Text: fitMessage(response.Text)})
}

// shown is the payload of a text.
type shown struct {
	Text string `json:"text"`
}

func (c *conversation) stream(chunk Chunk) error {
	if chunk.Type != "" {
		return c.emit(chunk.Type, chunk.Payload)
	}
	// Usually one round: a piece that no event could hold becomes several.
	for text := wire.ValidText(chunk.Text); ; {
		piece := wire.Truncate(text, maxShown)
		if err := c.emit(webtrigger.EventMessageDelta, shown{Text: piece}); err != nil {
			return err
		}
		if text = text[len(piece):]; text == "" {
			return nil
		}
	}
}
