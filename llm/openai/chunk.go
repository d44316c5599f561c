package openai

import (
	"encoding/json"
)

// chunk is a document of a stream, or a whole answer. Members whose type differs
// between servers are left as they are.
type chunk struct {
	Model   string          `json:"model"`
	Choices []choice        `json:"choices"`
	Usage   json.RawMessage `json:"usage"`
	Groq    struct {
		Usage json.RawMessage `json:"usage"`
	} `json:"x_groq"`
}

type choice struct {
	Index   json.RawMessage `json:"index"`
	Delta   *delta          `json:"delta"`
	Message *delta          `json:"message"` // of an answer that does not stream
	Finish  json.RawMessage `json:"finish_reason"`
	Native  json.RawMessage `json:"native_finish_reason"` // of the provider behind OpenRouter
	Error   json.RawMessage `json:"error"`
	Usage   json.RawMessage `json:"usage"`
}

type delta struct {
	Content          json.RawMessage `json:"content"`
	Refusal          string          `json:"refusal"`
	ReasoningContent json.RawMessage `json:"reasoning_content"`
	Reasoning        json.RawMessage `json:"reasoning"`
	ReasoningDetails []fragment      `json:"reasoning_details"`
	ThinkingBlocks   []fragment      `json:"thinking_blocks"`
	ExtraContent     json.RawMessage `json:"extra_content"`
	ToolCalls        []piece         `json:"tool_calls"`
	FunctionCall     *calledFunction `json:"function_call"` // of the API before tools
}

// piece is a tool call, or a part of one.
type piece struct {
	index    string // "" if it has none
	id       string
	function calledFunction
	extra    map[string]json.RawMessage
}

type calledFunction struct {
	name      string
	arguments string
	extra     map[string]json.RawMessage
}

// UnmarshalJSON reads whatever is there. Servers write indexes as texts and ids as
// numbers.
func (p *piece) UnmarshalJSON(data []byte) error {
	*p = piece{}
	if json.Unmarshal(data, &p.extra) != nil {
		return nil // not a call
	}
	p.index, p.id = scalar(p.extra["index"]), scalar(p.extra["id"])
	if function := p.extra["function"]; given(function) {
		_ = json.Unmarshal(function, &p.function)
	} else { // Ollama's own API and some servers omit the level
		p.function.name, p.function.arguments = str(p.extra["name"]), arguments(p.extra["arguments"])
	}
	remove(p.extra, "index", "id", "type", "function", "name", "arguments")
	return nil
}

// UnmarshalJSON reads whatever is there.
func (f *calledFunction) UnmarshalJSON(data []byte) error {
	*f = calledFunction{}
	if json.Unmarshal(data, &f.extra) != nil {
		return nil
	}
	f.name, f.arguments = str(f.extra["name"]), arguments(f.extra["arguments"])
	remove(f.extra, "name", "arguments")
	return nil
}

// remove deletes members that are known or null.
func remove(members map[string]json.RawMessage, known ...string) {
	for _, name := range known {
		delete(members, name)
	}
	for name, value := range members {
		if !given(value) {
			delete(members, name)
		}
	}
}

// arguments is the text of arguments, which some servers send as the object itself.
func arguments(raw json.RawMessage) string {
	if s := str(raw); s != "" || !given(raw) || raw[0] == '"' {
		return s
	}
	return string(raw)
}

// scalar is a text or a number as a text.
func scalar(raw json.RawMessage) string {
	if s := str(raw); s != "" || !given(raw) || raw[0] == '"' || raw[0] == '{' || raw[0] == '[' {
		return s
	}
	return string(raw)
}
