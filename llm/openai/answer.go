package openai

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"strings"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/packages/respjson"
	"github.com/openai/openai-go/v3/packages/ssestream"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendorhttp"
)

var errTooLarge = errors.New("the answer is too large")

// answer is put together from the chunks of a stream. It is lenient where servers
// that speak this API differ: in ids, in indexes, and in the reason for the end.
type answer struct {
	stream func(llm.Chunk) error
	taken  map[string]bool // ids of tool calls of this conversation

	text, refusal, reasoning strings.Builder
	calls                    []*toolCall
	current                  map[int64]*toolCall // by index: where pieces go
	finish, model            string
	usage                    webtrigger.Usage
	size                     int
}

type toolCall struct {
	id, name  string
	arguments strings.Builder
	extra     map[string]json.RawMessage // what other vendors put there and want back
}

func newAnswer(req *llm.Request, stream func(llm.Chunk) error) *answer {
	a := &answer{stream: stream, taken: make(map[string]bool), current: make(map[int64]*toolCall)}
	for _, m := range req.Messages {
		for _, c := range m.ToolCalls {
			a.taken[c.ID] = true
		}
	}
	return a
}

// add takes one chunk.
func (a *answer) add(chunk openai.ChatCompletionChunk) error {
	if chunk.Model != "" {
		a.model = chunk.Model
	}
	if chunk.JSON.Usage.Valid() {
		a.usage = webtrigger.Usage{InputTokens: chunk.Usage.PromptTokens, OutputTokens: chunk.Usage.CompletionTokens}
	}
	for _, choice := range chunk.Choices {
		if choice.Index != 0 { // nobody asked for another one
			continue
		}
		if choice.FinishReason != "" {
			a.finish = choice.FinishReason
		}
		if err := a.addDelta(choice.Delta); err != nil {
			return err
		}
	}
	return nil
}

func (a *answer) addDelta(delta openai.ChatCompletionChunkChoiceDelta) error {
	reasoning := extraString(delta.JSON.ExtraFields, reasoningField)
	a.refusal.WriteString(delta.Refusal)
	a.reasoning.WriteString(reasoning)
	for _, piece := range delta.ToolCalls {
		a.addCall(piece)
	}
	a.size += len(delta.Content) + len(delta.Refusal) + len(reasoning)
	if a.size > vendorhttp.MaxAnswer {
		return errTooLarge
	}
	if delta.Content == "" {
		return nil
	}
	a.text.WriteString(delta.Content)
	return a.stream(llm.Chunk{Text: delta.Content})
}

// addCall takes a piece of a tool call. Pieces belong together by index, but some
// servers number every call 0: then a new id and name begin a new call.
func (a *answer) addCall(piece openai.ChatCompletionChunkChoiceDeltaToolCall) {
	call := a.current[piece.Index]
	if call == nil || (piece.ID != "" && call.id != "" && piece.ID != call.id && piece.Function.Name != "") {
		call = new(toolCall)
		a.size += 256 // about what it takes, so that empty calls come to an end too
		a.calls = append(a.calls, call)
		a.current[piece.Index] = call
	}
	if call.id == "" {
		call.id = piece.ID
	}
	if call.name == "" {
		call.name = piece.Function.Name
	}
	call.arguments.WriteString(piece.Function.Arguments)
	a.size += len(piece.Function.Arguments)
	for name, field := range piece.JSON.ExtraFields {
		if call.extra == nil {
			call.extra = make(map[string]json.RawMessage)
		}
		call.extra[name] = json.RawMessage(field.Raw())
		a.size += len(field.Raw())
	}
}

// response is the whole answer.
func (a *answer) response() *llm.Response {
	r := &llm.Response{Text: a.text.String(), Usage: a.usage, Model: a.model, Finish: llm.FinishStop}
	for _, c := range a.calls {
		c.id = a.freshID(c.id)
		r.ToolCalls = append(r.ToolCalls, llm.ToolCall{ID: c.id, Name: c.name, Arguments: json.RawMessage(c.arguments.String())})
	}
	r.Native = a.native()
	switch {
	case a.finish == "content_filter":
		r.Finish, r.Detail = llm.FinishRefusal, "content filter"
	case a.refusal.Len() > 0:
		r.Finish, r.Detail = llm.FinishRefusal, a.refusal.String()
	case a.finish == "length":
		r.Finish = llm.FinishLength
	case len(r.ToolCalls) > 0: // some servers say stop here
		r.Finish = llm.FinishToolCalls
	}
	return r
}

// freshID is the id, or another one where a server gave none or one twice.
func (a *answer) freshID(id string) string {
	if id == "" || a.taken[id] {
		id = "call_" + rand.Text()
	}
	a.taken[id] = true
	return id
}

// native is what servers other than OpenAI's put into an answer and ask for when
// the conversation goes on: reasoning, and signatures of calls.
type native struct {
	Reasoning string                                `json:"reasoning,omitempty"`
	Calls     map[string]map[string]json.RawMessage `json:"calls,omitempty"` // extra fields by call id
}

// reasoningField is where DeepSeek and vLLM put reasoning.
const reasoningField = "reasoning_content"

// native is nil for an answer without tool calls: nothing goes on after it that
// would need it.
func (a *answer) native() json.RawMessage {
	if len(a.calls) == 0 {
		return nil
	}
	n := native{Reasoning: a.reasoning.String(), Calls: make(map[string]map[string]json.RawMessage)}
	for _, c := range a.calls {
		if len(c.extra) > 0 {
			n.Calls[c.id] = maps.Clone(c.extra)
		}
	}
	if n.Reasoning == "" && len(n.Calls) == 0 {
		return nil
	}
	text, err := json.Marshal(map[string]native{nativeKey: n})
	if err != nil {
		return nil
	}
	return text
}

const nativeKey = "openai"

// readNative reads what native wrote; another model's is nothing.
func readNative(text json.RawMessage) native {
	var kept map[string]native
	_ = json.Unmarshal(text, &kept)
	return kept[nativeKey]
}

func extraString(fields map[string]respjson.Field, name string) (s string) {
	if field, ok := fields[name]; ok {
		_ = json.Unmarshal([]byte(field.Raw()), &s) // null is nothing
	}
	return s
}

// errorDocument is the error object that a stream carried, nil when err is of
// another kind.
func errorDocument(err error) []byte {
	if carried := new(ssestream.StreamError); errors.As(err, &carried) {
		return carried.Event.Data
	}
	return nil
}

// parseFault reads an error document.
//
// https://platform.openai.com/docs/guides/error-codes/api-errors
func parseFault(document []byte) (f vendorhttp.Fault) {
	var envelope struct {
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal(document, &envelope) != nil || len(envelope.Error) == 0 {
		return f
	}
	var said struct {
		Message string `json:"message"`
		Type    string `json:"type"`
		Param   string `json:"param"`
		Code    any    `json:"code"` // a word; with other servers the number of a status
	}
	if json.Unmarshal(envelope.Error, &said) != nil {
		_ = json.Unmarshal(envelope.Error, &f.Message) // some send a mere string
		return f
	}
	f = vendorhttp.Fault{Type: said.Type, Param: said.Param, Message: said.Message}
	switch code := said.Code.(type) {
	case string:
		f.Code = code
	case float64:
		f.Status = int(code)
	}
	for _, word := range []string{f.Code, f.Type} {
		if status, ok := faultStatus[word]; ok {
			f.Status = status
			break
		}
	}
	return f
}

// faultStatus is the status of faults that may come inside of a stream, or with
// a status that says less than they do.
var faultStatus = map[string]int{
	"insufficient_quota":         402, // comes as 429, and no waiting helps
	"billing_hard_limit_reached": 402,
	"billing_not_active":         402,
	"rate_limit_exceeded":        429,
	"server_error":               500,
	"invalid_request_error":      400,
	"invalid_api_key":            401,
}
