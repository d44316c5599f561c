// Package llm provides an assistant for hosts that do not have one. An [Agent] is a
// webtrigger.Runner that answers with a language model and lets it call tools.
//
//	agent, err := llm.NewAgent(model, &llm.AgentOptions{Tools: tools})
//	svc, err := webtrigger.New(store, agent, nil)
//
// A model is any implementation of [LLM]. Package llm/scripted has one that needs
// no network. Package llm/demotools has tools to start with.
package llm

import (
	"context"
	"encoding/json"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// LLM is a language model that chats and calls tools.
//
// Generate is a call with a callback for streamed text, not an iterator, so the
// whole answer is the return value, and an error after the first chunk is an error.
type LLM interface {
	// Generate answers one request. It must pass text to stream piece by piece as the
	// text arrives, in order. The pieces of one call together must be Response.Text, or
	// there must be none. (If a model streams text and leaves Response.Text empty, the
	// same message continues in the next answer.) Generate must not call stream after
	// it has returned. An error of stream means that the run must stop: Generate must
	// end the call.
	//
	// Generate must return soon after ctx ends, with an error. It must keep no state
	// between calls and be safe for concurrent use. An [*Error] reports whether the
	// call can be retried. A [Retrier] retries it.
	//
	// An answer without text and without tool calls is valid: the caller decides what it
	// means. If an answer ends without the reason why the model stopped, Generate must
	// return an error.
	Generate(ctx context.Context, req *Request, stream func(Chunk) error) (*Response, error)
}

// Request is one turn of a conversation with a model. The model must not change it.
type Request struct {
	Messages []Message
	Tools    []ToolSpec   // the tools that the model may call; if empty, none
	Output   OutputFormat // the required form of the last answer

	// Task is the run that the call belongs to, as its Runner received it. Adapters of
	// vendors do not need it.
	Task *webtrigger.Task
}

// OutputFormat is the form that a task definition requires.
type OutputFormat struct {
	Type   webtrigger.OutputType
	Schema json.RawMessage // JSON Schema; if nil, there is none
}

// RoleSystem is the role of instructions, besides those of webtrigger.Role.
const RoleSystem webtrigger.Role = "system"

// Message is one entry of the conversation that the model sees.
type Message struct {
	Role    webtrigger.Role
	Content string

	// ToolCalls are the calls of an assistant message. Their ids are unique in the
	// conversation, their names are valid names of tools, and their arguments are JSON
	// objects, even if the model made a mistake.
	ToolCalls  []ToolCall
	ToolCallID string // of a tool message: the id of the call that it answers

	// Native is Response.Native of the response that became this assistant message. If
	// nil, Content and ToolCalls are the whole message. The agent may have corrected
	// ids, names and arguments of ToolCalls, so an adapter must take the calls from
	// ToolCalls, even if Native has them, too.
	Native json.RawMessage
}

// ToolSpec describes a tool to the model.
type ToolSpec struct {
	Name        string
	Description string
	Parameters  json.RawMessage // JSON Schema of the arguments, an object
}

// ToolCall is a tool call requested by the model. In a Response, its name and its
// arguments are as the model wrote them.
type ToolCall = webtrigger.ToolCall

// Chunk is a piece of streamed text, or an event of the model's own, whose type
// begins with x_. The agent records such an event as it is.
type Chunk struct {
	Text    string
	Type    webtrigger.EventType // if empty, Text is a piece of the answer
	Payload any
}

// FinishReason is the reason why a model stopped.
type FinishReason string

// The reasons why a model stops.
const (
	FinishStop      FinishReason = "stop"       // the answer is complete
	FinishToolCalls FinishReason = "tool_calls" // it waits for tools
	FinishLength    FinishReason = "length"     // it reached its length limit
	FinishRefusal   FinishReason = "refusal"    // it declined to answer
)

// Response is a model's answer.
type Response struct {
	Text      string
	ToolCalls []ToolCall
	Finish    FinishReason
	Usage     webtrigger.Usage
	Model     string // the name of the model that answered

	// Native is data that the model must see again, in its own form, when the
	// conversation continues after this answer: signed thinking, for example. The caller
	// copies it to Message.Native. Other models ignore it. It may be nil.
	Native json.RawMessage

	// Detail is the vendor's explanation of Finish, such as why the model declined. It is
	// for people and may be empty.
	Detail string
}

// Error is an error of a model that reports whether the call can be retried.
type Error struct {
	// Err describes the error in words that a caller of the assistant may read: status
	// and error code, without text of the vendor and without secrets.
	Err        error
	Retryable  bool          // rate limits, overload, a broken connection
	RetryAfter time.Duration // the minimum delay that the vendor requested; if zero, it requested none

	// Detail is the vendor's own text, for logs. It may name organizations and
	// deployments, but never the API key. It may be empty.
	Detail string
}

// Error returns the text of Err.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }
