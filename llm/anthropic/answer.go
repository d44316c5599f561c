package anthropic

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/anthropics/anthropic-sdk-go"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendorhttp"
)

var (
	errTooLarge  = errors.New("the answer is too large")
	errMalformed = errors.New("the events do not fit together")
)

// answer is put together from the events of a stream. The SDK has Accumulate for
// that, which copies a text again for each of its pieces and drops what a cut-off
// tool call said.
type answer struct {
	stream func(llm.Chunk) error
	taken  map[string]bool // ids of tool calls of this conversation

	text     strings.Builder
	blocks   []*block
	reason   anthropic.StopReason
	details  anthropic.RefusalStopDetails
	model    string
	usage    anthropic.Usage
	size     int
	complete bool
}

// block is one block of the content.
type block struct {
	kind      string
	text      strings.Builder // text, thinking, or the pieces of a tool's input
	signature strings.Builder // of thinking
	data      string          // of redacted thinking
	id, name  string          // of a tool's use
	given     json.RawMessage // an input that came whole
}

func newAnswer(req *llm.Request, stream func(llm.Chunk) error) *answer {
	a := &answer{stream: stream, taken: make(map[string]bool)}
	for _, m := range req.Messages {
		for _, c := range m.ToolCalls {
			a.taken[c.ID] = true
		}
	}
	return a
}

// add takes one event; those of kinds that are not known yet say nothing.
func (a *answer) add(event anthropic.MessageStreamEventUnion) error {
	switch event.Type {
	case "message_start":
		a.model, a.usage = event.Message.Model, event.Message.Usage
	case "content_block_start":
		if event.Index != int64(len(a.blocks)) {
			return fmt.Errorf("%w: block %d begins as number %d", errMalformed, event.Index, len(a.blocks))
		}
		return a.begin(event.ContentBlock)
	case "content_block_delta":
		if event.Index < 0 || event.Index >= int64(len(a.blocks)) {
			return fmt.Errorf("%w: a piece of block %d of %d", errMalformed, event.Index, len(a.blocks))
		}
		return a.extend(a.blocks[event.Index], event.Delta)
	case "message_delta":
		a.reason, a.details = event.Delta.StopReason, event.Delta.StopDetails
		a.count(event.Usage)
	case "message_stop":
		a.complete = true
	}
	return nil
}

func (a *answer) begin(start anthropic.ContentBlockStartEventContentBlockUnion) error {
	b := &block{kind: start.Type, data: start.Data, id: start.ID, name: start.Name}
	if start.Type == "tool_use" && start.JSON.Input.Valid() && start.JSON.Input.Raw() != "{}" {
		b.given = json.RawMessage(start.JSON.Input.Raw())
	}
	a.blocks = append(a.blocks, b)
	b.signature.WriteString(start.Signature)
	if err := a.grow(b, start.Thinking, 256+len(start.RawJSON())); err != nil { // about what it takes
		return err
	}
	return a.say(b, start.Text)
}

func (a *answer) extend(b *block, delta anthropic.MessageStreamEventUnionDelta) error {
	switch delta.Type {
	case "text_delta":
		if err := a.grow(b, "", len(delta.Text)); err != nil {
			return err
		}
		return a.say(b, delta.Text)
	case "input_json_delta":
		return a.grow(b, delta.PartialJSON, len(delta.PartialJSON))
	case "thinking_delta":
		return a.grow(b, delta.Thinking, len(delta.Thinking))
	case "signature_delta":
		b.signature.WriteString(delta.Signature)
		return a.grow(b, "", len(delta.Signature))
	}
	return nil
}

func (a *answer) grow(b *block, text string, size int) error {
	b.text.WriteString(text)
	if a.size += size; a.size > vendorhttp.MaxAnswer {
		return errTooLarge
	}
	return nil
}

// say streams a piece of the answer's text.
func (a *answer) say(b *block, text string) error {
	if text == "" {
		return nil
	}
	b.text.WriteString(text)
	a.text.WriteString(text)
	return a.stream(llm.Chunk{Text: text})
}

// count takes the totals of the end; those that are not told stay as they were at
// the start.
func (a *answer) count(u anthropic.MessageDeltaUsage) {
	a.usage.OutputTokens = u.OutputTokens
	if u.JSON.InputTokens.Valid() {
		a.usage.InputTokens = u.InputTokens
	}
	if u.JSON.CacheCreationInputTokens.Valid() {
		a.usage.CacheCreationInputTokens = u.CacheCreationInputTokens
	}
	if u.JSON.CacheReadInputTokens.Valid() {
		a.usage.CacheReadInputTokens = u.CacheReadInputTokens
	}
}

// response is the whole answer.
func (a *answer) response() (*llm.Response, error) {
	r := &llm.Response{Text: a.text.String(), Model: a.model, Finish: llm.FinishStop, Usage: webtrigger.Usage{
		InputTokens:  a.usage.InputTokens + a.usage.CacheCreationInputTokens + a.usage.CacheReadInputTokens,
		OutputTokens: a.usage.OutputTokens,
	}}
	for _, b := range a.blocks {
		if b.kind == "tool_use" {
			b.id = a.freshID(b.id)
			r.ToolCalls = append(r.ToolCalls, llm.ToolCall{ID: b.id, Name: b.name, Arguments: b.arguments()})
		}
	}
	r.Native = a.native(len(r.ToolCalls) > 0)
	switch a.reason {
	case anthropic.StopReasonMaxTokens, anthropic.StopReasonModelContextWindowExceeded:
		r.Finish = llm.FinishLength
	case anthropic.StopReasonRefusal:
		r.Finish, r.Detail = llm.FinishRefusal, a.details.Explanation
		if r.Detail == "" {
			r.Detail = string(a.details.Category)
		}
	case anthropic.StopReasonPauseTurn:
		// Of the vendor's own tools only, which no request of ours offers.
		return nil, &llm.Error{Err: errors.New("anthropic: the model paused for a tool of the vendor's")}
	default:
		if len(r.ToolCalls) > 0 {
			r.Finish = llm.FinishToolCalls
		}
	}
	return r, nil
}

func (b *block) arguments() json.RawMessage {
	if b.text.Len() > 0 {
		return json.RawMessage(b.text.String())
	}
	if b.given != nil {
		return b.given
	}
	return json.RawMessage(`{}`)
}

// freshID is the id, or another one where a server gave none or one twice.
func (a *answer) freshID(id string) string {
	if id == "" || a.taken[id] {
		id = "toolu_" + rand.Text()
	}
	a.taken[id] = true
	return id
}

// native is the content with the model's signed thinking, which it wants to see
// again when its tools have answered. It is nil where there is no thinking, or
// nothing goes on.
func (a *answer) native(goesOn bool) json.RawMessage {
	var content []any
	thinking := false
	for _, b := range a.blocks {
		switch b.kind {
		case "text":
			if !blank(b.text.String()) {
				content = append(content, map[string]any{"type": "text", "text": b.text.String()})
			}
		case "tool_use":
			content = append(content, map[string]any{"type": "tool_use", "id": b.id, "name": b.name, "input": input(b.arguments())})
		case "thinking":
			thinking = true
			content = append(content, map[string]any{"type": "thinking", "thinking": b.text.String(), "signature": b.signature.String()})
		case "redacted_thinking":
			thinking = true
			content = append(content, map[string]any{"type": "redacted_thinking", "data": b.data})
		}
	}
	if !thinking || !goesOn {
		return nil
	}
	text, err := json.Marshal(map[string]any{nativeKey: content})
	if err != nil { // of texts and valid JSON only
		return nil
	}
	return text
}

const nativeKey = "anthropic"

// readNative reads what native wrote; another model's is nothing.
func readNative(text json.RawMessage) []json.RawMessage {
	var kept map[string]json.RawMessage
	_ = json.Unmarshal(text, &kept)
	var content []json.RawMessage
	_ = json.Unmarshal(kept[nativeKey], &content)
	return content
}

// errorDocument is the error object that a stream carried, nil when err is of
// another kind.
func errorDocument(err error) []byte {
	if carried := new(anthropic.Error); errors.As(err, &carried) {
		return []byte(carried.RawJSON())
	}
	return nil
}

// parseFault reads an error document.
//
// https://platform.claude.com/docs/en/api/errors
func parseFault(document []byte) vendorhttp.Fault {
	var envelope struct {
		Error struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"error"`
	}
	_ = json.Unmarshal(document, &envelope)
	said := envelope.Error
	return vendorhttp.Fault{Type: said.Type, Message: said.Message, Status: faultStatus[said.Type]}
}

// faultStatus is the status of each type of fault, for those inside of a stream.
var faultStatus = map[string]int{
	"invalid_request_error": 400,
	"authentication_error":  401,
	"billing_error":         402,
	"permission_error":      403,
	"not_found_error":       404,
	"request_too_large":     413,
	"rate_limit_error":      429,
	"api_error":             500,
	"timeout_error":         504,
	"overloaded_error":      529,
}
