package openai

import (
	"encoding/json"
	"strings"
)

// addContent adds the content of a delta: a text, or a list of parts.
func (a *answer) addContent(raw json.RawMessage) error {
	if !given(raw) {
		return nil
	}
	switch raw[0] {
	case '"':
		return a.addText(str(raw))
	case '{':
		return a.addPart(raw)
	case '[':
		var parts []json.RawMessage
		_ = json.Unmarshal(raw, &parts) // it is valid JSON
		for _, part := range parts {
			if err := a.addPart(part); err != nil {
				return err
			}
		}
		return nil
	}
	return a.call.Unsupported(kindOf(raw))
}

// addPart adds a part of the content. Text is joined and thinking is kept apart; a part
// that is neither must not get into the text in another form.
func (a *answer) addPart(raw json.RawMessage) error {
	if !given(raw) {
		return nil
	}
	if raw[0] == '"' {
		return a.addText(str(raw))
	}
	var part map[string]json.RawMessage
	if json.Unmarshal(raw, &part) != nil {
		return a.call.Unsupported(kindOf(raw))
	}
	kind := str(part["type"])
	switch kind {
	case "text", "output_text", "":
		if text := part["text"]; given(text) && text[0] == '"' {
			return a.addText(str(text))
		} else if kind != "" && !given(text) {
			return nil
		}
	case "thinking", "reasoning", "thought", "redacted_thinking":
		a.thoughts.parts.WriteString(thinkingText(part))
		return a.Grow(len(raw))
	case "refusal":
		return a.addRefusal(str(part["refusal"]))
	case "reference", "citation": // it points to sources, and the text stands without it
		return nil
	}
	if kind == "" {
		kind = kindOf(raw)
	}
	return a.call.Unsupported(kind)
}

// thinkingText is the text of a thinking part: a text, or a list of text parts.
func thinkingText(part map[string]json.RawMessage) string {
	for _, name := range []string{"thinking", "reasoning", "text", "summary"} {
		if s := str(part[name]); s != "" {
			return s
		}
		var inner []map[string]json.RawMessage
		if json.Unmarshal(part[name], &inner) != nil {
			continue
		}
		var text strings.Builder
		for _, i := range inner {
			text.WriteString(str(i["text"]))
		}
		return text.String()
	}
	return ""
}

// thoughtContent is the content of an answer with its thinking, in the form in which
// the model wrote it; nil if the text alone is the content.
func (a *answer) thoughtContent() (content json.RawMessage) {
	switch {
	case a.thoughts.parts.Len() > 0:
		type text struct {
			Type string `json:"type"`
			Text string `json:"text"`
		}
		parts := []any{map[string]any{"type": "thinking", "thinking": []text{{"text", a.thoughts.parts.String()}}}}
		if a.Text() != "" {
			parts = append(parts, text{"text", a.Text()})
		}
		content, _ = json.Marshal(parts)
	case a.tags.thought.Len() > 0:
		content, _ = json.Marshal(a.tags.thought.String() + a.Text())
	}
	return content
}

// kindOf names the type of a JSON value.
func kindOf(raw json.RawMessage) string {
	switch raw[0] {
	case '{':
		return "object"
	case '[':
		return "array"
	case 't', 'f':
		return "boolean"
	}
	return "number"
}
