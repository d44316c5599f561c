package modeltest

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// NewOpenAI returns a server of OpenAI's chat completions API that accepts one API
// key. If it is "", the server accepts any key, and none. Models named gpt-5.5…
// reason by default, so they reject tools unless reasoning_effort is none.
func NewOpenAI(key string, turns ...Turn) *Server {
	return NewServer(CheckOpenAI(key), turns...)
}

// CheckOpenAI returns a Check that rejects the requests that OpenAI rejects.
func CheckOpenAI(key string) Check {
	return func(r *http.Request, body map[string]any) *Rejection { return checkOpenAI(key, r, body) }
}

// OpenAIError is the document of an error.
func OpenAIError(typ, code, param, message string) map[string]any {
	orNull := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	return map[string]any{"error": map[string]any{"message": message, "type": typ, "param": orNull(param), "code": orNull(code)}}
}

// OpenAI is a stream of chat.completion.chunk objects.
type OpenAI struct{ *Wire }

// OpenAITurn is a turn that streams.
func OpenAITurn(play func(o OpenAI)) Turn { return func(w *Wire) { play(OpenAI{w}) } }

// OpenAIText is a turn that streams a whole text.
func OpenAIText(pieces ...string) Turn {
	return OpenAITurn(func(o OpenAI) {
		o.Role()
		o.Text(pieces...)
		o.Finish("stop")
		o.End(11, 7)
	})
}

// Chunk sends one chunk.
func (o OpenAI) Chunk(choices []any, usage any) {
	o.Event("", map[string]any{
		"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1767225600, "model": "gpt-fake-2026",
		"system_fingerprint": "fp_1", "service_tier": "default", "choices": choices, "usage": usage,
	})
}

// Delta sends one delta of the first choice.
func (o OpenAI) Delta(delta map[string]any, finish any) {
	o.Chunk([]any{map[string]any{"index": 0, "delta": delta, "logprobs": nil, "finish_reason": finish}}, nil)
}

// Role sends the chunk that every answer begins with.
func (o OpenAI) Role() {
	o.Delta(map[string]any{"role": "assistant", "content": "", "refusal": nil}, nil)
}

// Text sends text, a chunk a piece.
func (o OpenAI) Text(pieces ...string) {
	for _, p := range pieces {
		o.Delta(map[string]any{"content": p}, nil)
	}
}

// Decline sends pieces of the text with which a model declines to answer.
func (o OpenAI) Decline(pieces ...string) {
	for _, p := range pieces {
		o.Delta(map[string]any{"refusal": p}, nil)
	}
}

// Call begins a tool call.
func (o OpenAI) Call(index int, id, name string) {
	o.Tool(map[string]any{"index": index, "id": id, "type": "function", "function": map[string]any{"name": name, "arguments": ""}})
}

// Arguments sends pieces of a tool call's arguments.
func (o OpenAI) Arguments(index int, pieces ...string) {
	for _, p := range pieces {
		o.Tool(map[string]any{"index": index, "function": map[string]any{"arguments": p}})
	}
}

// Tool sends a piece of a tool call.
func (o OpenAI) Tool(call map[string]any) {
	o.Delta(map[string]any{"tool_calls": []any{call}}, nil)
}

// Finish sends the reason for the end.
func (o OpenAI) Finish(reason string) { o.Delta(map[string]any{}, reason) }

// End sends the usage and the end of the stream.
func (o OpenAI) End(prompt, completion int) {
	o.Chunk([]any{}, map[string]any{
		"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
		"prompt_tokens_details": map[string]any{"cached_tokens": 3}, "completion_tokens_details": map[string]any{"reasoning_tokens": 2},
	})
	o.Event("", "[DONE]")
}

func checkOpenAI(key string, r *http.Request, body map[string]any) *Rejection {
	bad := func(param, format string, args ...any) *Rejection {
		return &Rejection{http.StatusBadRequest, OpenAIError("invalid_request_error", "", param, fmt.Sprintf(format, args...))}
	}
	given := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/chat/completions"):
		return &Rejection{http.StatusNotFound, OpenAIError("invalid_request_error", "unknown_url", "", "Unknown request URL: "+r.URL.Path)}
	case key != "" && given != key: // the real one masks the key; not every server is so careful
		return &Rejection{http.StatusUnauthorized, OpenAIError("invalid_request_error", "invalid_api_key", "", "Incorrect API key provided: "+given+".")}
	case body["model"] == "no-such-model":
		return &Rejection{http.StatusNotFound, OpenAIError("invalid_request_error", "model_not_found", "", "The model `no-such-model` does not exist or you do not have access to it.")}
	case str(body["model"]) == "":
		return bad("model", "you must provide a model parameter")
	case body["stream"] != true:
		return bad("stream", "this server only streams")
	}
	if param, what := checkOpenAIMessages(list(body["messages"])); what != "" {
		return bad(param, "Invalid value: %s", what)
	}
	if n := len(list(body["tools"])); n > 128 {
		return bad("tools", "Invalid 'tools': array too long. Expected an array with maximum length 128, but got an array with length %d instead.", n)
	}
	for i, t := range list(body["tools"]) {
		function := object(object(t)["function"])
		if object(t)["type"] != "function" || !toolName.MatchString(str(function["name"])) {
			return bad(fmt.Sprintf("tools[%d]", i), "Invalid tool: %v", t)
		}
		if len([]rune(str(function["description"]))) > 1024 {
			return bad(fmt.Sprintf("tools[%d].function.description", i), "string too long")
		}
		if what := checkParameters(object(function["parameters"])); what != "" {
			return bad(fmt.Sprintf("tools[%d].function.parameters", i), "Invalid schema for function '%s': %s", function["name"], what)
		}
	}
	if len(list(body["tools"])) > 0 && strings.HasPrefix(str(body["model"]), "gpt-5.5") && body["reasoning_effort"] != "none" {
		return bad("reasoning_effort", "Function tools with reasoning_effort are not supported for this model in /v1/chat/completions.")
	}
	if format := object(body["response_format"]); format != nil {
		schema := object(format["json_schema"])
		if format["type"] != "json_schema" || !toolName.MatchString(str(schema["name"])) || object(schema["schema"])["type"] != "object" {
			return bad("response_format", "Invalid schema for response_format")
		}
		if schema["strict"] == true && !closed(object(schema["schema"]), true) {
			return bad("response_format", "Invalid schema for response_format: 'additionalProperties' is required to be supplied and to be false.")
		}
	}
	return nil
}

// checkOpenAIMessages returns a fault unless the tool messages answer all calls
// before them, and nothing else.
func checkOpenAIMessages(messages []any) (param, what string) {
	if len(messages) == 0 {
		return "messages", "empty array"
	}
	var open []string // calls without an answer
	for i, m := range messages {
		message, param := object(m), fmt.Sprintf("messages.[%d]", i)
		content, hasContent := message["content"].(string)
		if role := str(message["role"]); role == "tool" {
			id := str(message["tool_call_id"])
			if !slices.Contains(open, id) || !hasContent {
				return param, "messages with role 'tool' must be a response to a preceding message with 'tool_calls'"
			}
			open = slices.DeleteFunc(open, func(o string) bool { return o == id })
			continue
		} else if len(open) > 0 {
			return param, "an assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'"
		} else if !slices.Contains([]string{"system", "developer", "user", "assistant"}, role) {
			return param, "role " + role
		}
		for _, c := range list(message["tool_calls"]) {
			call, function := object(c), object(object(c)["function"])
			if call["type"] != "function" || str(call["id"]) == "" || !toolName.MatchString(str(function["name"])) || function["arguments"] == nil {
				return param, "tool call without id, name or arguments"
			}
			open = append(open, str(call["id"]))
		}
		if len(open) == 0 && (!hasContent || (content == "" && message["role"] == "assistant")) {
			return param, "expected a string, got null"
		}
	}
	if len(open) > 0 {
		return "messages", "calls without answers"
	}
	return "", ""
}

// checkParameters returns a fault unless a schema describes an object with keywords
// that the API accepts.
func checkParameters(schema map[string]any) string {
	if _, ok := schema["properties"].(map[string]any); !ok || schema["type"] != "object" {
		return "object schema missing properties"
	}
	for _, word := range []string{"anyOf", "oneOf", "allOf", "enum", "not"} {
		if schema[word] != nil {
			return "schema must not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level"
		}
	}
	return checkArrays(schema)
}

// checkArrays returns a fault unless every array has items.
func checkArrays(schema map[string]any) string {
	if schema["type"] == "array" && schema["items"] == nil {
		return "array schema missing items"
	}
	inner := []any{schema["items"]}
	for _, p := range object(schema["properties"]) {
		inner = append(inner, p)
	}
	for _, word := range []string{"anyOf", "oneOf", "allOf"} {
		inner = append(inner, list(schema[word])...)
	}
	for _, i := range inner {
		if schema := object(i); schema != nil && checkArrays(schema) != "" {
			return checkArrays(schema)
		}
	}
	return ""
}

var toolName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

func str(v any) string            { s, _ := v.(string); return s }
func list(v any) []any            { l, _ := v.([]any); return l }
func object(v any) map[string]any { o, _ := v.(map[string]any); return o }

// closed reports whether all objects of a schema have additionalProperties: false and,
// if whole is set, require all of their properties.
func closed(schema map[string]any, whole bool) bool {
	properties := object(schema["properties"])
	if schema["type"] == "object" {
		if schema["additionalProperties"] != false || whole && len(properties) != len(list(schema["required"])) {
			return false
		}
	}
	for _, p := range properties {
		if !closed(object(p), whole) {
			return false
		}
	}
	items, has := schema["items"].(map[string]any)
	return !has || closed(items, whole)
}
