package openai

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendorhttp"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendortool"
)

// form is the part of a request that a server may be unable to read.
type form struct {
	tools        *vendortool.Set
	format       *responseFormat // nil: only the prompt asks for the form
	effort       string
	noReasoning  bool // effort is none because the server requires it
	oldMaxTokens bool // max_tokens instead of max_completion_tokens
	noUsage      bool // without stream_options
	noNative     bool // without the reasoning of earlier answers
}

const noReasoning = "none"

// form is the form that the server has not rejected yet.
func (c *caller) form(req *llm.Request) form {
	f := form{
		tools:  c.tools.Fit(req.Tools),
		format: formatOf(req.Output), effort: c.opts.ReasoningEffort,
		oldMaxTokens: c.oldMaxTokens.Load(), noUsage: c.noUsage.Load(), noNative: c.noNative.Load(),
	}
	if f.effort == "" && len(req.Tools) > 0 && c.noReasoning.Load() {
		f.effort, f.noReasoning = noReasoning, true
	}
	return f
}

// adapt changes the form to one that a server may be able to read that rejected this
// one, and reports whether there is such a form.
func (c *caller) adapt(f *form, rejected *vendorhttp.Rejected, req *llm.Request) bool {
	if !rejected.Form() {
		return false
	}
	blamed := rejected.Fault.Param
	switch {
	case blamed == "reasoning_effort" && f.effort == "" && len(req.Tools) > 0:
		f.effort, f.noReasoning = noReasoning, true
	case !f.oldMaxTokens && c.opts.MaxTokens > 0 && rejected.Mentions("max_completion_tokens"):
		f.oldMaxTokens = true
	case !f.noUsage && rejected.Mentions("stream_options"):
		f.noUsage = true
	case !f.noNative && c.sendsNative(req) && slices.ContainsFunc(nativeFields, rejected.Mentions):
		f.noNative = true
	case f.format != nil && (blamed == "" || strings.HasPrefix(blamed, "response_format")):
		f.format = nil // not every server supports it, nor every schema; the answer is checked anyway
	default:
		return false
	}
	return true
}

// record records the fields that a form omits after the server has accepted it. Later
// requests omit them too, except for the format: the next schema may be valid.
func (c *caller) record(f form) {
	for flag, without := range map[*atomic.Bool]bool{
		&c.noReasoning: f.noReasoning, &c.oldMaxTokens: f.oldMaxTokens, &c.noUsage: f.noUsage, &c.noNative: f.noNative,
	} {
		if without {
			flag.Store(true)
		}
	}
}

// body is the document of a request.
func (c *caller) body(req *llm.Request, form form) ([]byte, error) {
	body := map[string]any{"model": c.opts.Model, "stream": true}
	if !form.noUsage {
		body["stream_options"] = map[string]bool{"include_usage": true}
	}
	if c.opts.MaxTokens > 0 && form.oldMaxTokens {
		body["max_tokens"] = c.opts.MaxTokens
	} else if c.opts.MaxTokens > 0 {
		body["max_completion_tokens"] = c.opts.MaxTokens
	}
	if form.effort != "" {
		body["reasoning_effort"] = form.effort
	}
	if form.format != nil {
		body["response_format"] = form.format
	}
	if tools := tools(form.tools); tools != nil {
		body["tools"] = tools
	}
	var messages []any
	for _, m := range req.Messages {
		converted, err := c.message(m, form)
		if err != nil {
			return nil, err
		}
		if converted != nil {
			messages = append(messages, converted)
		}
	}
	body["messages"] = messages
	return vendorhttp.Body(body, c.opts.Body)
}

type tool struct {
	Type     string   `json:"type"`
	Function function `json:"function"`
}

// function keeps the schema as it is, with the order of its properties, in which
// models write them.
type function struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters,omitempty"`
}

func tools(set *vendortool.Set) (tools []tool) {
	for _, t := range set.Tools() {
		tools = append(tools, tool{"function", function{t.Name, t.Description, t.Schema}})
	}
	return tools
}

// message converts one message; nil for one without content.
func (c *caller) message(m llm.Message, form form) (map[string]any, error) {
	converted := map[string]any{"role": m.Role, "content": m.Content}
	switch m.Role {
	case llm.RoleSystem, webtrigger.RoleUser:
	case webtrigger.RoleTool:
		converted["tool_call_id"] = m.ToolCallID
	case webtrigger.RoleAssistant:
		if m.Content == "" && len(m.ToolCalls) == 0 {
			return nil, nil
		}
		kept := c.readNative(m.Native)
		if form.noNative {
			kept = native{}
		}
		assistant(converted, m, kept, form.tools)
	default:
		return nil, fmt.Errorf("openai: message role %q is not supported", m.Role)
	}
	return converted, nil
}

// assistant adds the model's own words and calls to a message.
func assistant(converted map[string]any, m llm.Message, kept native, set *vendortool.Set) {
	for name, value := range kept.Fields {
		converted[name] = value
	}
	switch {
	case kept.Content != nil:
		converted["content"] = kept.Content
	case m.Content == "":
		converted["content"] = nil
	}
	var calls []any
	for _, c := range m.ToolCalls {
		called := map[string]any{"name": set.VendorName(c.Name), "arguments": string(set.VendorArguments(c.Name, c.Arguments))}
		call := map[string]any{"id": c.ID, "type": "function", "function": called}
		extra := kept.Calls[c.ID]
		for name, value := range extra.Call {
			call[name] = value
		}
		for name, value := range extra.Function {
			called[name] = value
		}
		calls = append(calls, call)
	}
	if calls != nil {
		converted["tool_calls"] = calls
	}
}

// responseFormat asks for JSON of a schema.
type responseFormat struct {
	Type       string     `json:"type"`
	JSONSchema jsonSchema `json:"json_schema"`
}

type jsonSchema struct {
	Name   string          `json:"name"`
	Schema json.RawMessage `json:"schema"`
	Strict bool            `json:"strict"`
}

// formatOf is the format of an output, if the API has one for it: the API needs a
// schema of an object. Without a schema, only the prompt asks for JSON, because
// the API's JSON mode would reject a list.
func formatOf(output llm.OutputFormat) *responseFormat {
	if output.Type != webtrigger.OutputJSON || output.Schema == nil || !isObject(output.Schema) {
		return nil
	}
	return &responseFormat{"json_schema", jsonSchema{"result", output.Schema, isStrict(output.Schema)}}
}
