package anthropic

import (
	"encoding/json"
	"strings"

	"github.com/webtrigger-go/webtrigger/internal/wire"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendorhttp"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendortool"
)

// block is one block of the content.
type block struct {
	kind      string
	text      strings.Builder // of text and thinking
	signature strings.Builder // of thinking
	pieces    strings.Builder // of a tool's input
	id, name  string          // of a tool's use
	given     string          // an input that came whole
	raw       map[string]json.RawMessage
}

// start reads the beginning of a block, which may be all of it.
func (b *block) start(raw json.RawMessage) error {
	if err := vendorhttp.Unmarshal(raw, &b.raw); err != nil {
		return err
	}
	var start struct {
		Type      string          `json:"type"`
		Text      string          `json:"text"`
		Thinking  string          `json:"thinking"`
		Signature string          `json:"signature"`
		ID        string          `json:"id"`
		Name      string          `json:"name"`
		Input     json.RawMessage `json:"input"`
	}
	_ = vendorhttp.Unmarshal(raw, &start) // as above
	b.kind, b.id, b.name = start.Type, start.ID, start.Name
	b.text.WriteString(start.Text + start.Thinking)
	b.signature.WriteString(start.Signature)
	b.given = string(start.Input)
	if json.Unmarshal(start.Input, &b.given) != nil || b.given == "" { // unless it is the text of an object
		b.given = string(start.Input)
	}
	return nil
}

// arguments is the input of a tool's use. Pieces complete an empty one.
func (b *block) arguments() json.RawMessage {
	switch {
	case b.pieces.Len() > 0:
		return json.RawMessage(b.pieces.String())
	case b.given == "" || b.given == "null" || b.given == `""`:
		return json.RawMessage(`{}`)
	}
	return json.RawMessage(b.given)
}

// content is the block in the form in which the API takes it back, nil if it does not.
// opaque reports that the neutral form of a message cannot carry it.
func (b *block) content(set *vendortool.Set) (_ content, opaque bool) {
	switch {
	case b.kind == "text" && !blank(b.text.String()):
		return content{"type": "text", "text": b.text.String()}, false
	case b.kind == "tool_use": // the message has the call itself
		return content{"type": b.kind}, false
	case b.kind == "thinking":
		return content{"type": "thinking", "thinking": b.text.String(), "signature": b.signature.String()}, true
	case b.kind == "redacted_thinking", b.kind == "server_tool_use", b.kind == "mcp_tool_use", strings.HasSuffix(b.kind, "_tool_result"):
		whole := make(content)
		for name, value := range b.raw {
			whole[name] = value
		}
		if b.pieces.Len() > 0 {
			whole["input"] = set.VendorArguments("", b.arguments())
		}
		return whole, true
	}
	return nil, false
}

const nativeKey = "anthropic"

// native is the content with the model's signed thinking and the blocks of the vendor's
// own tools, which the model must see again when its tools have answered. It is nil if
// the text and the calls are all there is.
func (a *answer) native() json.RawMessage {
	var all []content
	needed := false
	for _, b := range a.blocks {
		block, opaque := b.content(a.set)
		if block != nil {
			all = append(all, block)
		}
		needed = needed || opaque
	}
	if !needed {
		return nil
	}
	text, err := wire.Marshal(map[string]any{nativeKey: all})
	if err != nil { // of texts and valid JSON only
		return nil
	}
	return text
}

// isToolUse reports whether a block of readNative has the place of a call.
func isToolUse(block content) bool {
	kind, _ := block["type"].(json.RawMessage)
	return string(kind) == `"tool_use"`
}

// readNative reads what native wrote. It is nil for another model's.
func readNative(text json.RawMessage) []content {
	var kept map[string]json.RawMessage
	_ = json.Unmarshal(text, &kept)
	var blocks []map[string]json.RawMessage
	_ = json.Unmarshal(kept[nativeKey], &blocks)
	var all []content
	for _, b := range blocks {
		block := make(content, len(b))
		for name, value := range b {
			block[name] = value
		}
		all = append(all, block)
	}
	return all
}
