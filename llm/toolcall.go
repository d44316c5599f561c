package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// maxToolResult bounds what a tool's result adds to the conversation, in bytes.
const maxToolResult = 128 << 10

// toolEvent is the payload of the events of a tool call.
type toolEvent struct {
	Tool      string          `json:"tool"`
	CallID    string          `json:"call_id"`
	Arguments json.RawMessage `json:"arguments"`
	Result    *string         `json:"result,omitempty"`
	Error     *string         `json:"error,omitempty"`
}

// callTool makes one call and returns what the model hears of it. A call that
// fails fails nothing else; the error is that of a run that is to stop.
func (c *conversation) callTool(ctx context.Context, call ToolCall) (string, error) {
	if firstByte(call.Arguments) == 0 {
		call.Arguments = json.RawMessage(`{}`)
	}
	event := toolEvent{Tool: fitName(call.Name), CallID: fitName(call.ID), Arguments: showable(call.Arguments)}
	if err := c.emit(webtrigger.EventToolStarted, event); err != nil {
		return "", err
	}
	said, err := c.try(ctx, call)
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		text := fit(err.Error())
		event.Error = &text
		return "Error: " + text, c.emit(webtrigger.EventToolFailed, event)
	}
	said = wire.ValidText(said) // before the cut: it may grow
	if n := len(said); n > maxToolResult {
		said = fmt.Sprintf("%s\n[the rest was left out: the result has %d bytes]", wire.Truncate(said, maxToolResult), n)
	}
	text := fit(said)
	event.Result = &text
	return said, c.emit(webtrigger.EventToolCompleted, event)
}

// try calls the tool when the run may use it and the arguments meet its schema.
func (c *conversation) try(ctx context.Context, call ToolCall) (said string, err error) {
	if !slices.Contains(c.allowed, call.Name) {
		return "", fmt.Errorf("the tool %q is not available", fitName(call.Name))
	}
	tool := c.agent.tools[call.Name]
	if err := tool.check(call.Arguments); err != nil {
		return "", fmt.Errorf("the arguments are not valid: %w", err)
	}
	defer func() {
		if v := recover(); v != nil {
			c.agent.opts.Logger.ErrorContext(ctx, "tool panicked", "tool", call.Name,
				"run_id", c.task.Run.ID, "run_key", c.task.Run.Key, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			said, err = "", errors.New("the tool crashed")
		}
	}()
	return tool.Call(ctx, call.Arguments)
}

// maxShown bounds one text in an event, in bytes: JSON writes a byte as six at
// the most, and an event has room for two such texts.
const maxShown = webtrigger.MaxEventPayload / 16

// fit makes a text short enough for an event.
func fit(s string) string {
	s = wire.ValidText(s)
	if len(s) <= maxShown {
		return s
	}
	return wire.Truncate(s, maxShown) + "…"
}

// fitMessage makes a text that is alone in its event short enough: it stays
// whole as long as its JSON fits.
func fitMessage(s string) string {
	const most, surely = webtrigger.MaxEventPayload - 64, webtrigger.MaxEventPayload / 8
	if s = wire.ValidText(s); len(s) <= surely {
		return s
	}
	if raw, err := wire.Marshal(s); err == nil && len(raw) <= most {
		return s
	}
	return wire.Truncate(s, surely) + "…"
}

// fitName does the same to a name, which a model may make up at any length.
func fitName(s string) string {
	const most = 256
	if s = wire.ValidText(s); len(s) <= most {
		return s
	}
	return wire.Truncate(s, most) + "…"
}

// showable is arguments as they go into an event: as they are, or as a string
// where they are no JSON or too long.
func showable(arguments json.RawMessage) json.RawMessage {
	if json.Valid(arguments) && len(arguments) <= maxShown {
		return arguments
	}
	quoted, err := json.Marshal(fit(string(arguments)))
	if err != nil { // a string always marshals
		return json.RawMessage(`null`)
	}
	return quoted
}
