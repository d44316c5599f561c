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
	lists map[string][]*entry
	// signature is extra_content (Gemini).
	signature json.RawMessage
	// parts is the text of the thinking parts of the content (Mistral).
	parts strings.Builder
}

// fragment is an entry of a list of reasoning, or a piece of one.
type fragment map[string]json.RawMessage

// entry is an entry of a list of reasoning while its pieces arrive.
type entry struct {
	fragment
	texts map[string]*strings.Builder // the members that pieces continue
}

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

// addList adds the entries of a list that arrives in pieces. It returns how much the
// list has grown, in bytes: a model that thinks for long sends the members around each
// piece of its text very often, and they are kept once.
func (t *thoughts) addList(field string, pieces []fragment) (size int) {
	for _, piece := range pieces {
		if len(piece) == 0 {
			continue
		}
		if t.lists == nil {
			t.lists = make(map[string][]*entry)
		}
		if whole := find(t.lists[field], piece); whole != nil {
			size += whole.extend(piece)
			continue
		}
		t.lists[field] = append(t.lists[field], &entry{fragment: maps.Clone(piece), texts: make(map[string]*strings.Builder)})
		size += 256 + sizeOf(piece) // about the size of an entry
	}
	return size
}

// maxOpen is how many entries a server may send at the same time. A piece of an earlier
// one starts a new entry, so that a search among very many entries stays cheap.
const maxOpen = 64

// find returns the entry that a piece continues: the last one of its index, type and
// id. A piece without an index continues the last entry.
func find(list []*entry, piece fragment) *entry {
	for i := len(list) - 1; i >= max(0, len(list)-maxOpen); i-- {
		whole := list[i].fragment
		same := same(whole["index"], piece["index"]) && same(whole["type"], piece["type"]) && same(whole["id"], piece["id"])
		if same && (given(piece["index"]) || i == len(list)-1 && !given(whole["signature"]) && !given(whole["data"])) {
			return list[i]
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
// before. It returns how much the entry has grown.
func (e *entry) extend(piece fragment) (size int) {
	for name, value := range piece {
		before := e.fragment[name]
		switch name {
		case "text", "summary", "data", "thinking":
			if first := str(before); first != "" {
				if e.texts[name] == nil {
					e.texts[name] = new(strings.Builder)
					e.texts[name].WriteString(first)
				}
				more := str(value)
				e.texts[name].WriteString(more)
				size += len(more)
				continue
			}
		}
		if given(value) || !given(before) {
			if before == nil {
				size += len(name)
			}
			e.fragment[name] = value
			size += max(len(value)-len(before), 0)
		}
	}
	return size
}

// whole is the entry with the texts of all pieces.
func (e *entry) whole() fragment {
	f := maps.Clone(e.fragment)
	for name, text := range e.texts {
		f[name], _ = wire.Marshal(text.String()) // a string always marshals
	}
	return f
}

// fields are those of the message in which the server takes the reasoning back: the
// most complete form of it.
func (t *thoughts) fields() map[string]json.RawMessage {
	fields := make(map[string]json.RawMessage)
	for name, list := range t.lists {
		whole := make([]fragment, len(list))
		for i, e := range list {
			whole[i] = e.whole()
		}
		fields[name], _ = wire.Marshal(whole)
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
