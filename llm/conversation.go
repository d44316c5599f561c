package llm

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// conversation is one run of an agent.
type conversation struct {
	agent   *Agent
	task    *webtrigger.Task
	emit    webtrigger.Emit
	allowed []string
	request Request
	result  webtrigger.Result

	text   speech // of the model
	output output // the required form of the answer
	acted  bool   // a tool was called
	said   int    // bytes of the transcript
	full   bool   // the transcript is truncated
	ids    map[string]bool

	denied  map[string]error  // calls of the current answer that a person has denied, by id
	answers map[string]string // answers of a person to calls of AskHumanName, by id

	asked     int  // number of messages at the last model call
	replaying bool // the events of the answer are stored
	replayed  bool // recorded answers, and no model call yet
}

// failure is the reason of a failed run, in a sentence for its error_message.
type failure string

func (f failure) Error() string { return string(f) }

// open prepares the first request.
func (c *conversation) open(ctx context.Context) (err error) {
	if err := c.output.compile(c.task.Definition, c.agent.opts.CompileSchema); err != nil {
		return err
	}
	if c.allowed, err = c.agent.allowed(ctx, c.task); err != nil {
		return err
	}
	c.request = Request{Tools: c.agent.specs(c.allowed), Output: c.output.format, Task: c.task}
	earlier := history(c.task.History, c.agent.opts.MaxHistory, len(c.allowed) > 0)
	if c.request.Messages, err = c.agent.opening(ctx, c.task, earlier); err != nil {
		return err
	}
	c.ids = map[string]bool{}
	for _, m := range earlier {
		for _, call := range m.ToolCalls {
			c.ids[call.ID] = true
		}
	}
	c.text = speech{emit: c.show, hold: c.output.json()}
	c.asked = len(c.request.Messages)
	return nil
}

// converse calls the model until it finishes.
func (c *conversation) converse(ctx context.Context) error {
	for steps := 1; ; steps++ {
		next, err := c.ask(ctx, steps)
		if err != nil || next.done {
			return err
		}
		if err := c.act(ctx, next.calls); err != nil {
			return err
		}
	}
}

// following is what follows from an answer of the model: the end of the run, or tool
// calls. Without either, the model must repair the answer.
type following struct {
	done  bool
	calls []ToolCall
}

// follow records an answer in the conversation, emits its events and returns what
// follows from it. It depends on nothing but the answer and the messages before it, so a
// later attempt that has the recorded answer comes to the same state.
func (c *conversation) follow(steps int, a *modelAnswer) (next following, err error) {
	c.spend(a.Usage)
	if err := c.show(webtrigger.EventModelCompleted, struct {
		Model      string           `json:"model"`
		DurationMS int64            `json:"duration_ms"`
		Usage      webtrigger.Usage `json:"usage"`
	}{fitName(a.Model), a.DurationMS, a.Usage}); err != nil {
		return next, err
	}
	if err := c.unfinished(a); err != nil {
		return next, err
	}
	if len(a.Calls) > 0 {
		next.calls, err = c.requested(steps, a)
		return next, err
	}
	next.done, err = c.settle(steps, a)
	return next, err
}

// spend counts the usage of a model call.
func (c *conversation) spend(usage webtrigger.Usage) {
	if c.result.Usage == nil {
		c.result.Usage = new(webtrigger.Usage)
	}
	c.result.Usage.InputTokens += usage.InputTokens
	c.result.Usage.OutputTokens += usage.OutputTokens
}

// show emits an event, unless an earlier attempt has stored it.
func (c *conversation) show(typ webtrigger.EventType, payload any) error {
	if c.replaying {
		return nil
	}
	return c.emit(typ, payload)
}

func (c *conversation) stream(chunk Chunk) error {
	if chunk.Type != "" {
		return c.emit(chunk.Type, chunk.Payload)
	}
	return c.text.add(chunk.Text)
}

// unfinished fails a run whose model stopped early. It emits the text until then. Tool
// calls of such an answer are not executed, because they may be incomplete.
func (c *conversation) unfinished(a *modelAnswer) error {
	var reason failure
	switch a.Finish {
	case FinishLength:
		reason = "The model's answer was cut off at its length limit."
	case FinishRefusal:
		reason = "The model declined to answer."
	default:
		return nil
	}
	if !blank(a.Detail) {
		reason += failure(" Its reason: " + wire.Truncate(a.Detail, 1000))
	}
	if text := c.text.take(); !blank(text) {
		if err := c.complete(text); err != nil {
			return err
		}
	}
	return reason
}

// requested returns the tool calls of an answer.
func (c *conversation) requested(steps int, a *modelAnswer) ([]ToolCall, error) {
	if a.Text != "" {
		if err := c.complete(c.text.take()); err != nil {
			return nil, err
		}
	}
	if err := c.mayAsk(steps); err != nil {
		return nil, err // no model call would read the results
	}
	calls, err := c.identified(a.toolCalls())
	if err != nil {
		return nil, err
	}
	c.remember(Message{Role: webtrigger.RoleAssistant, Content: a.Text, ToolCalls: c.sendable(calls), Native: a.Native})
	return calls, nil
}

// act executes tool calls and adds their results to the conversation.
func (c *conversation) act(ctx context.Context, calls []ToolCall) error {
	if len(calls) == 0 {
		return nil
	}
	calls = slices.Clone(calls)
	if err := c.consult(ctx, calls); err != nil {
		return err
	}
	said, err := c.callTools(ctx, calls)
	if err != nil {
		return err
	}
	for i, text := range said {
		c.remember(Message{Role: webtrigger.RoleTool, Content: text, ToolCallID: calls[i].ID})
	}
	c.acted = true
	return nil
}

// settle accepts the model's text as the answer.
func (c *conversation) settle(steps int, a *modelAnswer) (done bool, err error) {
	text := c.text.take()
	if c.output.json() {
		return c.settleJSON(steps, text, a.Native)
	}
	stopped := a.Finish == FinishStop || a.Finish == ""
	if blank(text) && (!c.acted || !stopped) {
		return false, failure("The model gave an empty answer.")
	}
	c.result.Text = text
	if text == "" { // the tools have done the work
		return true, nil
	}
	return true, c.complete(text)
}

// settleJSON accepts the answer if it has the required form. Otherwise, it asks the model
// once to repair it.
func (c *conversation) settleJSON(steps int, said string, native json.RawMessage) (done bool, err error) {
	answer, fault := c.output.read(said)
	if fault == nil {
		c.result.Text = answer
		if err := c.text.show(answer); err != nil {
			return false, err
		}
		return true, c.complete(answer)
	}
	if !blank(said) { // vendors reject empty messages
		c.remember(Message{Role: webtrigger.RoleAssistant, Content: said, Native: native})
	}
	if c.output.repaired {
		return false, fault
	}
	c.output.repaired = true
	if c.mayAsk(steps) != nil {
		return false, fault // more useful than the error about the budget
	}
	if err := c.show(eventOutputRejected, rejected{Error: fit(fault.Error())}); err != nil {
		return false, err
	}
	c.request.Messages = append(c.request.Messages, Message{Role: webtrigger.RoleUser, Content: repairDemand(fault)})
	return false, nil
}

// complete emits message_completed for a text.
func (c *conversation) complete(text string) error {
	return c.show(webtrigger.EventMessageCompleted, shown{Text: fitMessage(text)})
}

// mayAsk checks the budgets of the run before the next model call.
func (c *conversation) mayAsk(steps int) error {
	opts := c.agent.opts
	most := opts.MaxSteps
	if c.output.repaired {
		most++
	}
	if steps >= most {
		return failure(fmt.Sprintf("The assistant needed more than %d steps.", opts.MaxSteps))
	}
	if u := c.result.Usage; opts.MaxTokens > 0 && u.InputTokens+u.OutputTokens >= opts.MaxTokens {
		return failure(fmt.Sprintf("The assistant needed more than %d tokens.", opts.MaxTokens))
	}
	return nil
}

// remember adds a message to the conversation and to the run's transcript.
func (c *conversation) remember(m Message) {
	c.request.Messages = append(c.request.Messages, m)
	if c.full || m.Content == "" && len(m.ToolCalls) == 0 && m.ToolCallID == "" {
		return
	}
	kept := stored(m)
	kept.Content = wire.ValidText(m.Content)
	size := kept.Size()
	c.full = len(c.result.Messages) == webtrigger.MaxResultMessages-1 ||
		c.said+size > webtrigger.MaxResultMessagesBytes-len(truncated)
	if c.full {
		kept, size = &webtrigger.NewMessage{Role: m.Role, Content: truncated}, len(truncated)
	}
	c.said += size
	c.result.Messages = append(c.result.Messages, *kept)
}

// truncated ends a transcript that would exceed the limits of [webtrigger.Result].
const truncated = "(The transcript is truncated because it is too long.)"
