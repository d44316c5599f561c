package openai

import (
	"encoding/json"
	"maps"
	"strings"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// thoughts collect the reasoning of one answer in the fields that announce it.
type thoughts struct {
	// texts by field: reasoning_content (DeepSeek and others) and reasoning (OpenRouter,
	// Groq, vLLM).
	texts map[string]*strings.Builder
	// lists by field: reasoning_details (OpenRouter) and thinking_blocks (LiteLLM).
	lists map[string][]fragment
	// signature is extra_content (Gemini).
	signature json.RawMessage
	// parts is the text of the thinking parts of the content (Mistral).
	parts strings.Builder
}

// fragment is an entry of a list of reasoning, or a piece of one.
type fragment map[string]json.RawMessage

// announced reports whether the answer has reasoning outside its text.
func (t *thoughts) announced() bool {
	return len(t.texts) > 0 || len(t.lists) > 0 || t.parts.Len() > 0
}

func (t *thoughts) addText(field, text string) {
	if text == "" {
		return
	}
	if t.texts == nil {
		t.texts = make(map[string]*strings.Builder)
	}
	if t.texts[field] == nil {
		t.texts[field] = new(strings.Builder)
	}
	t.texts[field].WriteString(text)
}

// addList adds the entries of a list that arrives in pieces.
func (t *thoughts) addList(field string, pieces []fragment) {
	for _, piece := range pieces {
		if len(piece) == 0 {
			continue
		}
		if t.lists == nil {
			t.lists = make(map[string][]fragment)
		}
		if whole := find(t.lists[field], piece); whole != nil {
			whole.extend(piece)
			continue
		}
		t.lists[field] = append(t.lists[field], maps.Clone(piece))
	}
}

// find returns the entry that a piece continues: the last one of its index, type and
// id. A piece without an index continues the last entry.
func find(list []fragment, piece fragment) fragment {
	for i := len(list) - 1; i >= 0; i-- {
		whole := list[i]
		same := same(whole["index"], piece["index"]) && same(whole["type"], piece["type"]) && same(whole["id"], piece["id"])
		if same && (given(piece["index"]) || i == len(list)-1 && !given(whole["signature"]) && !given(whole["data"])) {
			return whole
		}
		if !given(piece["index"]) {
			break
		}
	}
	return nil
}

// given reports whether a member is there and not null.
func given(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// same reports whether two members agree. A member that is not given agrees with all.
func same(a, b json.RawMessage) bool { return !given(a) || !given(b) || string(a) == string(b) }

// extend joins the texts of a piece to those of the entry. Other members replace those
// before.
func (f fragment) extend(piece fragment) {
	for name, value := range piece {
		switch name {
		case "text", "summary", "data", "thinking":
			if before := str(f[name]); before != "" {
				joined, _ := wire.Marshal(before + str(value)) // a string always marshals
				f[name] = joined
				continue
			}
		}
		if given(value) || !given(f[name]) {
			f[name] = value
		}
	}
}

// fields are those of the message in which the server takes the reasoning back: the
// most complete form of it.
func (t *thoughts) fields() map[string]json.RawMessage {
	fields := make(map[string]json.RawMessage)
	for name, list := range t.lists {
		fields[name], _ = wire.Marshal(list)
	}
	if given(t.signature) {
		fields["extra_content"] = t.signature
	}
	for _, name := range []string{"reasoning_content", "reasoning"} {
		if text := t.texts[name]; text != nil && len(t.lists) == 0 {
			fields[name], _ = wire.Marshal(text.String())
			break
		}
	}
	return fields
}

// str is a JSON string; "" for anything else.
func str(raw json.RawMessage) (s string) {
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}
