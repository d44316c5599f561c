package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/hook"
	"github.com/webtrigger-go/webtrigger/internal/wire"
	"github.com/webtrigger-go/webtrigger/llm/internal/toolname"
)

// maxCallsAtOnce is the maximum number of calls in one model answer.
const maxCallsAtOnce = 128

// toolEvent is the payload of the events of a tool call.
type toolEvent struct {
	Tool      string          `json:"tool"`
	CallID    string          `json:"call_id"`
	Arguments json.RawMessage `json:"arguments"`
	Result    *string         `json:"result,omitempty"`
	Error     *string         `json:"error,omitempty"`
}

// identified returns the calls with ids that are unique within the run, whatever
// ids the model gave: vendors reject a conversation with an id twice, and readers of
// events match them by id.
func (c *conversation) identified(calls []ToolCall) ([]ToolCall, error) {
	if len(calls) > maxCallsAtOnce {
		return nil, failure(fmt.Sprintf("The model asked for %d tool calls at once, more than %d.", len(calls), maxCallsAtOnce))
	}
	calls = slices.Clone(calls)
	for i := range calls {
		id := calls[i].ID
		for n := len(c.ids) + 1; id == "" || c.ids[id] || fitName(id) != id; n++ {
			id = "call_" + strconv.Itoa(n)
		}
		calls[i].ID = id
		c.ids[id] = true
		if firstByte(calls[i].Arguments) == 0 {
			calls[i].Arguments = json.RawMessage(`{}`)
		}
	}
	return calls, nil
}

// sendable returns the calls as the model sees them again. Vendors reject a
// conversation in which the arguments of a call are not a JSON object, or its name is
// not the name of a tool. So a mistake of the model becomes {} and a valid name here,
// and the tool's message reports the mistake.
func (c *conversation) sendable(calls []ToolCall) []ToolCall {
	calls = slices.Clone(calls)
	for i := range calls {
		if !toolname.Valid(calls[i].Name) {
			calls[i].Name = toolname.Fit(calls[i].Name, func(name string) bool { return !slices.Contains(c.allowed, name) })
		}
		if !isObject(calls[i].Arguments) {
			calls[i].Arguments = json.RawMessage(`{}`)
		}
	}
	return calls
}

// isObject reports whether arguments are a JSON object for every reader.
func isObject(arguments json.RawMessage) bool {
	if firstByte(arguments) != '{' {
		return false
	}
	_, err := parseJSON(arguments)
	return err == nil
}

// called is the outcome of a tool call.
type called struct {
	index int
	said  string
	err   error
}

// callTools executes the calls, several at a time, and returns the texts for the model
// in the order of the calls. A failed call does not affect the others. An error means
// that the run must stop. The tool_started events are in the order of the calls.
func (c *conversation) callTools(ctx context.Context, calls []ToolCall) (said []string, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	said = make([]string, len(calls))
	ended := make(chan called)
	next, under := 0, 0
	defer func() { // after an error
		cancel(err)
		for ; under > 0; under-- {
			<-ended
		}
	}()
	for next < len(calls) || under > 0 {
		for ; next < len(calls) && under < c.agent.opts.ParallelTools; next++ {
			under++
			begun := make(chan struct{})
			go func(index int) {
				begin := sync.OnceFunc(func() { close(begun) })
				text, err := c.perform(ctx, calls[index], begin)
				begin() // the call was recorded, or did not begin
				ended <- called{index, text, err}
			}(next)
			<-begun
		}
		one := <-ended // soon after ctx has ended, too
		under--
		switch {
		case one.err != nil:
			return nil, one.err
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		}
		said[one.index] = one.said
	}
	return said, nil
}

// eventOf returns the event of a call.
func eventOf(call ToolCall) toolEvent {
	return toolEvent{Tool: fitName(call.Name), CallID: fitName(call.ID), Arguments: showable(call.Arguments)}
}

// toolOutcome returns the text of a call's outcome for the model, and a function that
// emits its event.
func (c *conversation) toolOutcome(call ToolCall, text string, err error) (said string, emit func() error) {
	event, typ := eventOf(call), webtrigger.EventToolCompleted
	if err != nil {
		text, typ = fit(err.Error()), webtrigger.EventToolFailed
		event.Error, said = &text, "Error: "+text
		var mistake *mistake
		if errors.As(err, &mistake) {
			said += ". " + mistake.remedy
		}
	} else {
		most := c.agent.opts.MaxToolResult
		said = wire.ValidText(text) // before the cut: it may grow
		if n := len(said); n > most {
			said = fmt.Sprintf("%s\n[truncated: the result has %d bytes]", wire.Truncate(said, most), n)
		}
		text = fit(said)
		event.Result = &text
	}
	return said, func() error { return c.emit(typ, event) }
}

// find returns the tool of a call, and the model's mistake, if there is one: the run must not
// use the tool, or the arguments do not meet its schema.
func (c *conversation) find(call ToolCall) (*registered, error) {
	if !slices.Contains(c.allowed, call.Name) {
		return nil, c.unknownTool(call.Name)
	}
	tool := c.agent.tools[call.Name]
	if err := tool.check(call.Arguments); err != nil {
		return tool, &mistake{fmt.Errorf("the arguments are not valid: %w", err), "Call the tool again with one JSON object that meets its schema."}
	}
	return tool, nil
}

// try calls the tool, unless there is a mistake.
func (c *conversation) try(ctx context.Context, call ToolCall, tool *registered, mistake error) (said string, err error) {
	ctx, ended := hook.Begin(ctx, c.agent.opts.Hooks.Tool, ToolInfo{Call: call, Offered: tool != nil})
	defer func() { ended(ToolOutcome{Err: err}) }()
	if mistake != nil {
		return "", mistake
	}
	limit := tool.Timeout
	orDefault(&limit, c.agent.opts.ToolTimeout)
	ctx = context.WithValue(ctx, callKey{}, Call{Task: c.task, ID: call.ID})
	if answer, asked := c.answers[call.ID]; asked {
		ctx = context.WithValue(ctx, humanAnswerKey{}, answer)
	}
	return tool.within(ctx, limit, call.Arguments, c.log(call))
}

// log returns the log of a call.
func (c *conversation) log(call ToolCall) *slog.Logger {
	return c.agent.opts.Logger.With("tool", fitName(call.Name), "call_id", call.ID, "run_id", c.task.Run.ID, "run_key", c.task.Run.Key)
}

// mistake is an error of the model, with what it can do about it in a sentence.
type mistake struct {
	error
	remedy string
}

func (m *mistake) Unwrap() error { return m.error }

// unknownTool returns the error of a call of a tool that the run must not use.
func (c *conversation) unknownTool(name string) error {
	m := &mistake{error: fmt.Errorf("the tool %q is not available", fitName(name)), remedy: "There are no tools, so answer without them."}
	if blank(name) {
		m.error = errors.New("the call does not name a tool")
	}
	if len(c.allowed) > 0 {
		m.remedy = "Call one of these tools, or answer without them: " + wire.Truncate(strings.Join(c.allowed, ", "), 1000) + "."
	}
	return m
}
