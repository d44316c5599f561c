package openai

import (
	"encoding/json"
	"maps"

	"github.com/webtrigger-go/webtrigger/internal/wire"
	"github.com/webtrigger-go/webtrigger/llm"
)

// native is the part of an answer that a server other than OpenAI's needs to see again
// when its tools have answered: reasoning, and signatures of calls.
type native struct {
	From    string                     `json:"from"`              // the model that made it
	Content json.RawMessage            `json:"content,omitempty"` // in place of the message's
	Fields  map[string]json.RawMessage `json:"fields,omitempty"`  // of the message
	Calls   map[string]extra           `json:"calls,omitempty"`   // by call id
}

// extra has the fields of a tool call that are not part of the API.
type extra struct {
	Call     map[string]json.RawMessage `json:"call,omitempty"`
	Function map[string]json.RawMessage `json:"function,omitempty"`
}

const nativeKey = "openai"

// nativeFields are the fields that a server may reject, although another server of the
// same kind needs them.
var nativeFields = []string{"reasoning_content", "reasoning_details", "'reasoning'", `"reasoning"`, "thinking", "extra_content", "provider_specific_fields"}

// native returns nil for an answer without tool calls: nothing follows it that would
// need it.
func (a *answer) native() json.RawMessage {
	if len(a.calls) == 0 {
		return nil
	}
	n := native{From: a.from, Content: a.thoughtContent(), Fields: a.thoughts.fields(), Calls: make(map[string]extra)}
	for _, c := range a.calls {
		if len(c.extra.Call)+len(c.extra.Function) > 0 {
			n.Calls[c.id] = extra{maps.Clone(c.extra.Call), maps.Clone(c.extra.Function)}
		}
	}
	if n.Content == nil && len(n.Fields) == 0 && len(n.Calls) == 0 {
		return nil
	}
	text, err := wire.Marshal(map[string]native{nativeKey: n})
	if err != nil { // of texts and valid JSON only
		return nil
	}
	return text
}

// readNative reads what native wrote. It is empty for another model's.
func (c *caller) readNative(text json.RawMessage) native {
	var kept map[string]native
	_ = json.Unmarshal(text, &kept)
	if n := kept[nativeKey]; n.From == c.from {
		return n
	}
	return native{}
}

// sendsNative reports whether a request has anything of the kind.
func (c *caller) sendsNative(req *llm.Request) bool {
	for _, m := range req.Messages {
		if c.readNative(m.Native).From != "" {
			return true
		}
	}
	return false
}
