package anthropic

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendorhttp"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendortool"
)

// answer is put together from the events of a stream.
type answer struct {
	*vendorhttp.Answer
	call *vendorhttp.Call
	set  *vendortool.Set

	blocks  []*block       // in the order of their starts
	current map[int]*block // by index, which may skip numbers and repeat
	usage   usage
	paused  bool
}

// event is a document of a stream. Without a stream, a message is one.
type event struct {
	Type    string          `json:"type"`
	Message message         `json:"message"`
	Index   int             `json:"index"`
	Block   json.RawMessage `json:"content_block"`
	Delta   delta           `json:"delta"`
	Usage   usage           `json:"usage"`
}

type message struct {
	Model   string            `json:"model"`
	Content []json.RawMessage `json:"content"`
	Reason  string            `json:"stop_reason"`
	Details details           `json:"stop_details"`
	Usage   usage             `json:"usage"`
}

type delta struct {
	Type      string  `json:"type"`
	Text      string  `json:"text"`
	Input     string  `json:"partial_json"`
	Thinking  string  `json:"thinking"`
	Signature string  `json:"signature"`
	Reason    string  `json:"stop_reason"`
	Details   details `json:"stop_details"`
}

// details have the reason why the model declined.
type details struct {
	Category    string `json:"category"`
	Explanation string `json:"explanation"`
}

type usage struct {
	Input  json.RawMessage `json:"input_tokens"`
	Cached json.RawMessage `json:"cache_creation_input_tokens"`
	Read   json.RawMessage `json:"cache_read_input_tokens"`
	Output json.RawMessage `json:"output_tokens"`
}

func newAnswer(call *vendorhttp.Call, req *llm.Request, set *vendortool.Set, stream func(llm.Chunk) error) *answer {
	return &answer{Answer: vendorhttp.NewAnswer(call, req, stream), call: call, set: set, current: make(map[int]*block)}
}

// add adds one document. Events of unknown types are ignored.
func (a *answer) add(data []byte) error {
	var e event
	if err := vendorhttp.Unmarshal(data, &e); err != nil {
		return err
	}
	switch e.Type {
	case "message_start":
		a.Model = e.Message.Model
		a.count(e.Message.Usage)
		return a.addContent(e.Message.Content)
	case "content_block_start":
		return a.begin(e.Index, e.Block)
	case "content_block_delta":
		return a.extend(e.Index, e.Delta)
	case "message_delta":
		a.end(e.Delta.Reason, e.Delta.Details)
		a.count(e.Usage)
	case "message_stop":
		return vendorhttp.ErrDone
	case "message":
		var m message
		if err := vendorhttp.Unmarshal(data, &m); err != nil {
			return err
		}
		a.Model = m.Model
		a.count(m.Usage)
		a.end(m.Reason, m.Details)
		return a.addContent(m.Content)
	}
	return nil
}

// end records a stop reason. A later event without one erases nothing.
func (a *answer) end(reason string, d details) {
	if reason == "pause_turn" {
		a.paused = true
	}
	a.End(reason)
	if d.Explanation != "" {
		a.Detail = d.Explanation
	} else if d.Category != "" && a.Detail == "" {
		a.Detail = d.Category
	}
}

// addContent adds whole blocks.
func (a *answer) addContent(blocks []json.RawMessage) error {
	for i, b := range blocks {
		if err := a.begin(i, b); err != nil {
			return err
		}
	}
	return nil
}

func (a *answer) begin(index int, raw json.RawMessage) error {
	b := new(block)
	if err := b.start(raw); err != nil {
		return err
	}
	a.blocks = append(a.blocks, b)
	a.current[index] = b
	if err := a.Grow(256 + len(raw)); err != nil { // about the size of a block
		return err
	}
	if b.kind == "text" {
		return a.AddText(b.text.String())
	}
	return nil
}

func (a *answer) extend(index int, d delta) error {
	b := a.current[index]
	if b == nil { // some servers omit the start of a text
		kind, ok := map[string]string{"text_delta": "text", "thinking_delta": "thinking"}[d.Type]
		if !ok {
			if d.Type == "input_json_delta" {
				return vendorhttp.Malformed(fmt.Errorf("a piece of block %d, which did not begin", index))
			}
			return nil
		}
		b = &block{kind: kind}
		a.blocks = append(a.blocks, b)
		a.current[index] = b
	}
	piece := d.Text + d.Input + d.Thinking
	if err := a.Grow(len(piece) + len(d.Signature)); err != nil {
		return err
	}
	switch d.Type {
	case "text_delta":
		b.text.WriteString(d.Text)
		return a.AddText(d.Text)
	case "input_json_delta":
		b.pieces.WriteString(d.Input)
	case "thinking_delta":
		b.text.WriteString(d.Thinking)
	case "signature_delta":
		b.signature.WriteString(d.Signature)
	}
	return nil
}

// count records figures. The input is in three parts, each of which may come at the
// start or at the end.
func (a *answer) count(u usage) {
	parts := [4]*json.RawMessage{&a.usage.Input, &a.usage.Cached, &a.usage.Read, &a.usage.Output}
	var total int64
	for i, part := range [4]json.RawMessage{u.Input, u.Cached, u.Read, u.Output} {
		if vendorhttp.Number(part) > vendorhttp.Number(*parts[i]) {
			*parts[i] = part
		}
		if i < 3 {
			total += max(vendorhttp.Number(*parts[i]), 0)
		}
	}
	a.Count(total, vendorhttp.Number(a.usage.Output))
}

// response returns the whole answer.
func (a *answer) response() (*llm.Response, error) {
	if a.paused { // for the vendor's own tools, which only Options.Body can offer
		return nil, &llm.Error{Err: errors.New("anthropic: the model paused for a tool of the vendor")}
	}
	var calls []llm.ToolCall
	for _, b := range a.blocks {
		if b.kind == "tool_use" {
			name, arguments := a.set.Call(b.name, b.arguments())
			calls = append(calls, llm.ToolCall{ID: a.FreshID(callID(b.id)), Name: name, Arguments: arguments})
		}
	}
	detail := a.Detail
	a.Detail = "" // only a stop reason marks the answer as declined
	r, err := a.Response(calls)
	if err != nil {
		return nil, err
	}
	if r.Finish == llm.FinishRefusal {
		r.Detail = detail
	}
	if len(calls) > 0 {
		r.Native = a.native()
	}
	return r, nil
}
