// Package llm brings an assistant to teams that have none of their own: an
// [Agent] is a webtrigger.Runner that lets a language model answer, and call
// tools on the way.
//
//	agent, err := llm.NewAgent(model, &llm.AgentOptions{Tools: tools})
//	svc, err := webtrigger.New(store, agent, nil)
//
// A model is anything that implements [LLM]. Package llm/scripted has one that
// needs no network; package llm/demotools has tools to start with.
package llm

import (
	"context"
	"encoding/json"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// LLM is a language model that chats and calls tools.
//
// It is a call with a callback for what streams, not an iterator: the whole
// answer is the return value and need not hide in a last chunk, and an error
// after the first chunk is an error.
type LLM interface {
	// Generate answers one request. Text that arrives piece by piece is handed to
	// stream as it comes, in order; put together the pieces of one call are
	// Response.Text, or there were none. (A model that streams and then names no
	// text goes on with the same message in its next answer.) stream is not called
	// after Generate has returned; its error, when the run is to stop, ends the
	// call.
	//
	// Generate returns soon after ctx has ended, with an error. It keeps no state
	// between calls and may be called concurrently. An [*Error] tells whether a
	// repetition is worth while; a [Retrier] repeats.
	//
	// An answer without text and without tool calls is an answer: the caller says
	// what it means. One that ends before the model said why it stopped is an error.
	Generate(ctx context.Context, req *Request, stream func(Chunk) error) (*Response, error)
}

// Request is one turn of a conversation with a model. The model does not change
// it.
type Request struct {
	Messages []Message
	Tools    []ToolSpec   // what the model may call; empty: nothing
	Output   OutputFormat // what form the last answer is to have

	// Task is the run that the call is for, as its Runner got it. Models of
	// vendors need not look at it.
	Task *webtrigger.Task
}

// OutputFormat is the form that a task definition asks for.
type OutputFormat struct {
	Type   webtrigger.OutputType
	Schema json.RawMessage // JSON Schema; nil: none
}

// RoleSystem is the role of instructions, besides those of webtrigger.Role.
const RoleSystem webtrigger.Role = "system"

// Message is one entry of the conversation that the model sees.
type Message struct {
	Role       webtrigger.Role
	Content    string
	ToolCalls  []ToolCall // of an assistant message
	ToolCallID string     // of a tool message: the call that it answers

	// Native is Response.Native of the response that became this assistant
	// message. nil: Content and ToolCalls are all that the model is to see.
	Native json.RawMessage
}

// ToolSpec describes a tool to the model.
type ToolSpec struct {
	Name        string
	Description string
	Parameters  json.RawMessage // JSON Schema of the arguments, an object
}

// ToolCall is a model's wish to call a tool.
type ToolCall struct {
	ID        string // unique within the run
	Name      string
	Arguments json.RawMessage
}

// Chunk is something that streams: a piece of text, or an event of the model's
// own (a type that begins with x_), which is recorded as it is.
type Chunk struct {
	Text    string
	Type    webtrigger.EventType // "": Text is a piece of the answer
	Payload any
}

// FinishReason says why a model stopped.
type FinishReason string

// Why a model stops.
const (
	FinishStop      FinishReason = "stop"       // the answer is complete
	FinishToolCalls FinishReason = "tool_calls" // it waits for tools
	FinishLength    FinishReason = "length"     // it ran out of tokens
	FinishRefusal   FinishReason = "refusal"    // it declined to answer
)

// Response is a model's answer.
type Response struct {
	Text      string
	ToolCalls []ToolCall
	Finish    FinishReason
	Usage     webtrigger.Usage
	Model     string // the name of the model that answered

	// Native is what the model must see again, in its own form, when the
	// conversation goes on after this answer: signed thinking, for example.
	// Whoever goes on copies it to Message.Native. It means something to the model
	// that made it only; another one ignores it. nil: there is nothing of the kind.
	Native json.RawMessage

	// Detail is what the vendor says about Finish, such as why the model declined.
	// It is for people and may be empty.
	Detail string
}

// Error is an error of a model that says whether to try again.
type Error struct {
	// Err says what happened in words that a caller of the assistant may read:
	// status and error code, no text of the vendor's and no secret.
	Err        error
	Retryable  bool          // rate limits, overload, a cut connection
	RetryAfter time.Duration // the least time to wait, as the vendor asked; 0: it did not ask

	// Detail is the vendor's own text, for logs. It may name organizations and
	// deployments, never the API key. "": there is none.
	Detail string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }
