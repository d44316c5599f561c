package modeltest

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// NewAnthropic returns a server of Anthropic's messages API that accepts one API key.
func NewAnthropic(key string, turns ...Turn) *Server {
	return NewServer(CheckAnthropic(key), turns...)
}

// CheckAnthropic returns a Check that rejects the requests that Anthropic rejects.
func CheckAnthropic(key string) Check {
	return func(r *http.Request, body map[string]any) *Rejection { return checkAnthropic(key, r, body) }
}

// AnthropicError is the document of an error.
func AnthropicError(typ, message string) map[string]any {
	return map[string]any{"type": "error", "error": map[string]any{"type": typ, "message": message}, "request_id": "req_1"}
}

// Anthropic is a stream of message events.
type Anthropic struct{ *Wire }

// AnthropicTurn is a turn that streams.
func AnthropicTurn(play func(a Anthropic)) Turn { return func(w *Wire) { play(Anthropic{w}) } }

// AnthropicText is a turn that streams a whole text.
func AnthropicText(pieces ...string) Turn {
	return AnthropicTurn(func(a Anthropic) {
		a.Start()
		a.Block(0, map[string]any{"type": "text", "text": ""})
		a.Text(0, pieces...)
		a.BlockStop(0)
		a.End("end_turn", 7)
	})
}

// Start begins the message, with 11 input tokens in all, of which 3 were read from
// the cache and 2 written to it.
func (a Anthropic) Start() {
	a.Event("message_start", map[string]any{"type": "message_start", "message": map[string]any{
		"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-fake-2026", "content": []any{},
		"stop_reason": nil, "stop_sequence": nil,
		"usage": map[string]any{"input_tokens": 6, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 3, "output_tokens": 1},
	}})
	a.Event("ping", map[string]any{"type": "ping"})
}

// Block begins a content block.
func (a Anthropic) Block(index int, block map[string]any) {
	a.Event("content_block_start", map[string]any{"type": "content_block_start", "index": index, "content_block": block})
}

// Tool begins a tool_use block.
func (a Anthropic) Tool(index int, id, name string) {
	a.Block(index, map[string]any{"type": "tool_use", "id": id, "name": name, "input": map[string]any{}})
}

// Delta sends a piece of a block.
func (a Anthropic) Delta(index int, delta map[string]any) {
	a.Event("content_block_delta", map[string]any{"type": "content_block_delta", "index": index, "delta": delta})
}

// Text sends pieces of a text block.
func (a Anthropic) Text(index int, pieces ...string) {
	for _, p := range pieces {
		a.Delta(index, map[string]any{"type": "text_delta", "text": p})
	}
}

// Input sends pieces of a tool_use block's input.
func (a Anthropic) Input(index int, pieces ...string) {
	for _, p := range pieces {
		a.Delta(index, map[string]any{"type": "input_json_delta", "partial_json": p})
	}
}

// BlockStop ends a block.
func (a Anthropic) BlockStop(index int) {
	a.Event("content_block_stop", map[string]any{"type": "content_block_stop", "index": index})
}

// Thinking sends a whole thinking block.
func (a Anthropic) Thinking(index int, text, signature string) {
	a.Block(index, map[string]any{"type": "thinking", "thinking": "", "signature": ""})
	a.Delta(index, map[string]any{"type": "thinking_delta", "thinking": text})
	a.Delta(index, map[string]any{"type": "signature_delta", "signature": signature})
	a.BlockStop(index)
}

// Reason sends why the model stopped, and the tokens that it wrote.
func (a Anthropic) Reason(reason string, output int, details any) {
	a.Event("message_delta", map[string]any{"type": "message_delta",
		"delta": map[string]any{"stop_reason": reason, "stop_sequence": nil, "stop_details": details},
		"usage": map[string]any{"output_tokens": output}})
}

// End sends the reason and the end of the message.
func (a Anthropic) End(reason string, output int) {
	a.Reason(reason, output, nil)
	a.Event("message_stop", map[string]any{"type": "message_stop"})
}

// Fail sends an error in the middle of the stream.
func (a Anthropic) Fail(typ, message string) { a.Event("error", AnthropicError(typ, message)) }

func checkAnthropic(key string, r *http.Request, body map[string]any) *Rejection {
	reject := func(status int, typ, format string, args ...any) *Rejection {
		return &Rejection{status, AnthropicError(typ, fmt.Sprintf(format, args...))}
	}
	maxTokens, _ := body["max_tokens"].(float64)
	switch {
	case r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/v1/messages"):
		return reject(http.StatusNotFound, "not_found_error", "Not found: %s", r.URL.Path)
	case r.Header.Get("X-Api-Key") != key: // the real one does not repeat the key; not every proxy is so careful
		return reject(http.StatusUnauthorized, "authentication_error", "invalid x-api-key %s", r.Header.Get("X-Api-Key"))
	case r.Header.Get("Anthropic-Version") == "":
		return reject(http.StatusBadRequest, "invalid_request_error", "anthropic-version: header is required")
	case body["model"] == "no-such-model":
		return reject(http.StatusNotFound, "not_found_error", "model: no-such-model")
	case str(body["model"]) == "" || maxTokens < 1:
		return reject(http.StatusBadRequest, "invalid_request_error", "model and max_tokens: Field required")
	case body["stream"] != true:
		return reject(http.StatusBadRequest, "invalid_request_error", "this server only streams")
	}
	for i, s := range list(body["system"]) {
		if strings.TrimSpace(str(object(s)["text"])) == "" {
			return reject(http.StatusBadRequest, "invalid_request_error", "system.%d: text content blocks must be non-empty", i)
		}
	}
	if what := checkAnthropicMessages(list(body["messages"])); what != "" {
		return reject(http.StatusBadRequest, "invalid_request_error", "%s", what)
	}
	for i, t := range list(body["tools"]) {
		tool := object(t)
		schema := object(tool["input_schema"])
		if !toolName.MatchString(str(tool["name"])) || schema["type"] != "object" {
			return reject(http.StatusBadRequest, "invalid_request_error", "tools.%d: invalid", i)
		}
		for _, word := range []string{"anyOf", "oneOf", "allOf"} {
			if schema[word] != nil {
				return reject(http.StatusBadRequest, "invalid_request_error", "tools.%d.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top level", i)
			}
		}
		for name := range object(schema["properties"]) {
			if !propertyKey.MatchString(name) {
				return reject(http.StatusBadRequest, "invalid_request_error", "tools.%d.custom.input_schema.properties: Property keys should match pattern '%s'", i, propertyKey)
			}
		}
	}
	if format := object(object(body["output_config"])["format"]); format != nil {
		schema := object(format["schema"])
		if format["type"] != "json_schema" || schema == nil || !closed(schema, false) {
			return reject(http.StatusBadRequest, "invalid_request_error", "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false")
		}
		if word := unsupported(schema); word != "" {
			return reject(http.StatusBadRequest, "invalid_request_error", "output_config.format.schema: property '%s' is not supported", word)
		}
	}
	return nil
}

// checkAnthropicMessages returns a fault unless a turn begins with the results of
// all tool uses of the turn before it. It also rejects blank texts.
func checkAnthropicMessages(messages []any) string {
	var open []string // tool uses of the last assistant turn
	last := ""
	for i, m := range messages {
		message := object(m)
		role := str(message["role"])
		if role != "user" && role != "assistant" || role == last || i == 0 && role != "user" {
			return fmt.Sprintf("messages.%d: unexpected role %q", i, role)
		}
		last = role
		content := list(message["content"])
		if len(content) == 0 {
			return fmt.Sprintf("messages.%d: all messages must have non-empty content", i)
		}
		next, text := []string(nil), false
		for j, b := range content {
			block, at := object(b), fmt.Sprintf("messages.%d.content.%d: ", i, j)
			switch block["type"] {
			case "text":
				text = true
				if strings.TrimSpace(str(block["text"])) == "" {
					return at + "text content blocks must contain non-whitespace text"
				}
			case "thinking":
				if str(block["signature"]) == "" {
					return at + "Invalid `signature` in `thinking` block"
				}
			case "redacted_thinking":
			case "tool_use":
				if object(block["input"]) == nil || !toolID.MatchString(str(block["id"])) || !toolName.MatchString(str(block["name"])) {
					return at + "tool_use.input: Input should be a valid dictionary"
				}
				next = append(next, str(block["id"]))
			case "tool_result":
				id := str(block["tool_use_id"])
				if text || role != "user" || !slices.Contains(open, id) {
					return at + "unexpected `tool_use_id` found in `tool_result` blocks: " + id
				}
				open = slices.DeleteFunc(open, func(o string) bool { return o == id })
				for _, c := range list(block["content"]) {
					if strings.TrimSpace(str(object(c)["text"])) == "" {
						return at + "text content blocks must contain non-whitespace text"
					}
				}
			default:
				return at + fmt.Sprintf("unexpected block type %v", block["type"])
			}
		}
		if len(open) > 0 {
			return fmt.Sprintf("messages.%d: `tool_use` ids were found without `tool_result` blocks immediately after: %v", i, open)
		}
		open = next
	}
	if last != "user" {
		return "This model does not support assistant message prefill. The conversation must end with a user message."
	}
	return ""
}

var (
	propertyKey = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,64}$`)
	toolID      = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)
)

// unsupported is a word of a schema that no grammar is made for, "" when there is
// none.
func unsupported(schema map[string]any) string {
	for word, v := range schema {
		switch word {
		case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
			"maxItems", "uniqueItems", "minProperties", "maxProperties", "oneOf", "not", "if", "patternProperties", "$schema":
			return word
		case "properties", "$defs":
			for _, p := range object(v) {
				if word := unsupported(object(p)); word != "" {
					return word
				}
			}
		case "items":
			if word := unsupported(object(v)); word != "" {
				return word
			}
		case "anyOf", "allOf":
			for _, s := range list(v) {
				if word := unsupported(object(s)); word != "" {
					return word
				}
			}
		}
	}
	return ""
}
