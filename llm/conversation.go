package llm

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/hook"
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
	c.text = speech{emit: c.emit, hold: c.output.json()}
	return nil
}

// converse calls the model until it finishes.
func (c *conversation) converse(ctx context.Context) error {
	for steps := 1; ; steps++ {
		response, err := c.ask(ctx)
		if err != nil {
			return err
		}
		done := false
		if len(response.ToolCalls) > 0 {
			err = c.act(ctx, steps, response)
		} else {
			done, err = c.settle(steps, response)
		}
		if err != nil || done {
			return err
		}
	}
}

// ask makes one model call and emits the model's text.
func (c *conversation) ask(ctx context.Context) (*Response, error) {
	call, ended := hook.Begin(ctx, c.agent.opts.Hooks.Model, ModelInfo{Request: &c.request})
	began := time.Now()
	response, err := c.agent.model.Generate(call, &c.request, c.stream)
	took := time.Since(began)
	ended(ModelOutcome{Response: response, Err: err})
	if response != nil { // an error may come with the usage until then
		if c.result.Usage == nil {
			c.result.Usage = new(webtrigger.Usage)
		}
		c.result.Usage.InputTokens += response.Usage.InputTokens
		c.result.Usage.OutputTokens += response.Usage.OutputTokens
	}
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, err
	case response == nil:
		return nil, failure("The model gave no answer.")
	}
	if err := c.text.end(response); err != nil {
		return nil, err
	}
	if err := c.emit(webtrigger.EventModelCompleted, struct {
		Model      string           `json:"model"`
		DurationMS int64            `json:"duration_ms"`
		Usage      webtrigger.Usage `json:"usage"`
	}{fitName(response.Model), took.Milliseconds(), response.Usage}); err != nil {
		return nil, err
	}
	return response, c.unfinished(response)
}

func (c *conversation) stream(chunk Chunk) error {
	if chunk.Type != "" {
		return c.emit(chunk.Type, chunk.Payload)
	}
	return c.text.add(chunk.Text)
}

// unfinished fails a run whose model stopped early. It emits the text until then. Tool
// calls of such an answer are not executed, because they may be incomplete.
func (c *conversation) unfinished(response *Response) error {
	var reason failure
	switch response.Finish {
	case FinishLength:
		reason = "The model's answer was cut off at its length limit."
	case FinishRefusal:
		reason = "The model declined to answer."
	default:
		return nil
	}
	if detail := wire.ValidText(response.Detail); !blank(detail) {
		reason += failure(" Its reason: " + wire.Truncate(detail, 1000))
	}
	if text := c.text.take(); !blank(text) {
		if err := c.complete(text); err != nil {
			return err
		}
	}
	return reason
}

// act executes the tool calls of a response and adds their results to the conversation.
func (c *conversation) act(ctx context.Context, steps int, response *Response) error {
	if response.Text != "" {
		if err := c.complete(c.text.take()); err != nil {
			return err
		}
	}
	if err := c.mayAsk(steps); err != nil {
		return err // no model call would read the results
	}
	calls, err := c.identified(response.ToolCalls)
	if err != nil {
		return err
	}
	c.remember(Message{
		Role: webtrigger.RoleAssistant, Content: wire.ValidText(response.Text), ToolCalls: c.sendable(calls), Native: response.Native,
	})
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
func (c *conversation) settle(steps int, response *Response) (done bool, err error) {
	text := c.text.take()
	if c.output.json() {
		return c.settleJSON(steps, text, response.Native)
	}
	stopped := response.Finish == FinishStop || response.Finish == ""
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
	if c.output.repaired {
		return false, fault
	}
	c.output.repaired = true
	if c.mayAsk(steps) != nil {
		return false, fault // more useful than the error about the budget
	}
	if err := c.emit(eventOutputRejected, rejected{Error: fit(fault.Error())}); err != nil {
		return false, err
	}
	if !blank(said) { // vendors reject empty messages
		c.remember(Message{Role: webtrigger.RoleAssistant, Content: said, Native: native})
	}
	c.request.Messages = append(c.request.Messages, Message{Role: webtrigger.RoleUser, Content: repairDemand(fault)})
	return false, nil
}

// complete emits message_completed for a text.
func (c *conversation) complete(text string) error {
	return c.emit(webtrigger.EventMessageCompleted, shown{Text: fitMessage(text)})
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
