package llm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/strictjson"
)

// Calls that wait for a person. The agent asks before it executes any call of the same
// model answer, one request after the other: a run that waits interrupts no call.
//
//	attempt 1   model ── record ── AskInput ──► waiting
//	attempt 2   model ◄─ record    AskInput ◄── answer ── tool call ── record ── …

// AskHumanName is the name of the tool of [AgentOptions.AskHuman].
const AskHumanName = "ask_human"

// humanAnswerKey is the key of a person's answer in the context of AskHumanName.
type humanAnswerKey struct{}

// askHuman is the tool by which a model asks a person. The agent asks before it calls the tool.
func askHuman() Tool {
	return Tool{
		Name:        AskHumanName,
		Description: "Asks a person and returns the answer. Use it if you need information or a decision that only a person has. The answer may take days.",
		Parameters: json.RawMessage(`{"type":"object","required":["question"],"additionalProperties":false,"properties":{` +
			`"question":{"type":"string","minLength":1,"maxLength":4000,"pattern":"\\S"},` +
			`"choices":{"type":"array","maxItems":100,"uniqueItems":true,"items":{"type":"string","minLength":1,"maxLength":200,"pattern":"\\S"}}}}`),
		Repeatable: true,
		Call: func(ctx context.Context, _ json.RawMessage) (string, error) {
			answer, _ := ctx.Value(humanAnswerKey{}).(string)
			return answer, nil
		},
	}
}

// needsApproval reports whether a call waits for a person's approval.
func (c *conversation) needsApproval(ctx context.Context, call ToolCall, tool *registered) bool {
	def, hook := c.task.Definition, c.agent.opts.ApproveCall
	return tool.NeedsApproval || def != nil && slices.Contains(def.ApproveTools, call.Name) || hook != nil && hook(ctx, c.task, call)
}

// consult asks a person for all calls that need it. It replaces the arguments of approved
// calls by those that the person has seen. The error wraps webtrigger.ErrWaiting if an
// answer is missing.
func (c *conversation) consult(ctx context.Context, calls []ToolCall) error {
	c.denied, c.answers = make(map[string]error), make(map[string]string)
	for i := range calls {
		call := &calls[i]
		tool, mistake := c.find(*call)
		switch {
		case mistake != nil: // the model reads it
		case call.Name == AskHumanName && c.agent.opts.AskHuman:
			if err := c.askPerson(ctx, call); err != nil {
				return err
			}
		case c.needsApproval(ctx, *call, tool):
			if err := c.approve(ctx, call); err != nil {
				return err
			}
		}
	}
	return nil
}

// askPerson asks the question of a call of AskHumanName.
func (c *conversation) askPerson(ctx context.Context, call *ToolCall) error {
	var args struct {
		Question string
		Choices  []string
	}
	if err := json.Unmarshal(call.Arguments, &args); err != nil {
		return fmt.Errorf("read question: %w", err)
	}
	answer, err := webtrigger.AskInput(ctx, c.task, webtrigger.InputRequest{
		Name: stepName("ask", call.ID), Question: args.Question, Choices: args.Choices, ExpiresIn: c.agent.opts.InputExpiry})
	c.answers[call.ID] = answer.Text()
	return err
}

// approve asks for the approval of a call.
func (c *conversation) approve(ctx context.Context, call *ToolCall) error {
	arguments, fault := approvable(call.Arguments)
	if fault != nil {
		c.denied[call.ID] = &mistake{fault, "Call the tool again with other arguments."}
		return nil
	}
	answer, err := webtrigger.AskInput(ctx, c.task, webtrigger.InputRequest{
		Name: stepName("approve", call.ID), Tool: call.Name, Arguments: arguments, ExpiresIn: c.agent.opts.InputExpiry, DenyOnExpiry: true})
	if err != nil {
		return err
	}
	call.Arguments = arguments
	if answer.Decision == webtrigger.DecisionApprove {
		return nil
	}
	denial := "a person denied the call"
	if answer.Reason != "" {
		denial += ": " + answer.Reason
	}
	c.denied[call.ID] = &mistake{errors.New(denial), "Do not repeat the call unless the person's reason asks for another one."}
	return nil
}

// approvable returns arguments as a person sees them and as the tool gets them: without
// white space between the tokens.
func approvable(arguments json.RawMessage) (json.RawMessage, error) {
	var compact bytes.Buffer
	faults, err := strictjson.Value(arguments)
	if err != nil || len(faults) > 0 || json.Compact(&compact, arguments) != nil {
		return nil, errors.New("the arguments cannot be shown to a person")
	}
	if compact.Len() > webtrigger.MaxInputArgumentBytes {
		return nil, fmt.Errorf("the arguments have more than %d bytes, which a person cannot approve", webtrigger.MaxInputArgumentBytes)
	}
	return compact.Bytes(), nil
}
