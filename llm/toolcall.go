package llm

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// maxCallsAtOnce bounds the calls of one model answer.
const maxCallsAtOnce = 128

// toolEvent is the payload of the events of a tool call.
type toolEvent struct {
	Tool      string          `json:"tool"`
	CallID    string          `json:"call_id"`
	Arguments json.RawMessage `json:"arguments"`
	Result    *string         `json:"result,omitempty"`
	Error     *string         `json:"error,omitempty"`
}

// identified is the calls with ids that are unique within the run, whatever the
// model named them: vendors refuse a conversation with an id twice, and readers
// of events pair by it.
func (c *conversation) identified(calls []ToolCall) (_ []ToolCall, renamed bool, err error) {
	if len(calls) > maxCallsAtOnce {
		return nil, false, failure(fmt.Sprintf("The model asked for %d tool calls at once, more than %d.", len(calls), maxCallsAtOnce))
	}
	calls = slices.Clone(calls)
	for i := range calls {
		for n := len(c.ids) + 1; calls[i].ID == "" || c.ids[calls[i].ID]; n++ {
			calls[i].ID, renamed = "call_"+strconv.Itoa(n), true
		}
		c.ids[calls[i].ID] = true
		if firstByte(calls[i].Arguments) == 0 {
			calls[i].Arguments = json.RawMessage(`{}`)
		}
	}
	return calls, renamed, nil
}

// called is how a tool call ended.
type called struct {
	index int
	said  string
	err   error
}

// callTools makes the calls, some at a time, and returns what the model hears of
// them in their order. A call that fails fails nothing else; the error is that of
// a run that is to stop. Events are emitted from here only.
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
			if err := c.emit(webtrigger.EventToolStarted, eventOf(calls[next])); err != nil {
				return nil, err
			}
			under++
			go func(index int) {
				text, err := c.try(ctx, calls[index])
				ended <- called{index, text, err}
			}(next)
		}
		one := <-ended // soon after ctx has ended, too
		under--
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if said[one.index], err = c.toolSaid(calls[one.index], one); err != nil {
			return nil, err
		}
	}
	return said, nil
}

// eventOf describes a call.
func eventOf(call ToolCall) toolEvent {
	return toolEvent{Tool: fitName(call.Name), CallID: fitName(call.ID), Arguments: showable(call.Arguments)}
}

// toolSaid records how a call ended and returns what the model hears of it.
func (c *conversation) toolSaid(call ToolCall, end called) (string, error) {
	event := eventOf(call)
	if end.err != nil {
		text := fit(end.err.Error())
		event.Error = &text
		return "Error: " + text, c.emit(webtrigger.EventToolFailed, event)
	}
	said, most := wire.ValidText(end.said), c.agent.opts.MaxToolResult // before the cut: it may grow
	if n := len(said); n > most {
		said = fmt.Sprintf("%s\n[the rest was left out: the result has %d bytes]", wire.Truncate(said, most), n)
	}
	text := fit(said)
	event.Result = &text
	return said, c.emit(webtrigger.EventToolCompleted, event)
}

// try calls the tool when the run may use it and the arguments meet its schema.
func (c *conversation) try(ctx context.Context, call ToolCall) (said string, err error) {
	offered := slices.Contains(c.allowed, call.Name)
	ctx, ended := c.agent.opts.Hooks.tool(ctx, call, offered)
	defer func() { ended(err) }()
	if !offered {
		return "", fmt.Errorf("the tool %q is not available", fitName(call.Name))
	}
	tool := c.agent.tools[call.Name]
	if err := tool.check(call.Arguments); err != nil {
		return "", fmt.Errorf("the arguments are not valid: %w", err)
	}
	limit := tool.Timeout
	orDefault(&limit, c.agent.opts.ToolTimeout)
	ctx = context.WithValue(ctx, callKey{}, Call{Task: c.task, ID: call.ID})
	log := c.agent.opts.Logger.With("tool", call.Name, "call_id", call.ID, "run_id", c.task.Run.ID, "run_key", c.task.Run.Key)
	return tool.within(ctx, limit, call.Arguments, log)
}
