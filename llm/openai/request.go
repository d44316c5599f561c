package openai

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/shared"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendorhttp"
)

// form is what a request may have to do without.
type form struct {
	format *openai.ResponseFormatJSONSchemaParam // nil: the prompt alone asks for the form
	effort string
}

const noReasoning = "none"

// adapt changes the form to one that a vendor may be able to read who refused
// this one, and reports whether there is such a form.
func (f *form) adapt(refused *vendorhttp.Refused, req *llm.Request) bool {
	if refused.Status != http.StatusBadRequest && refused.Status != http.StatusUnprocessableEntity {
		return false
	}
	blamed := refused.Fault.Param
	switch {
	case blamed == "reasoning_effort" && f.effort == "" && len(req.Tools) > 0:
		f.effort = noReasoning
		return true
	case f.format != nil && (blamed == "" || strings.HasPrefix(blamed, "response_format")):
		f.format = nil // not every server knows it, nor every schema; the answer is checked anyway
		return true
	}
	return false
}

func (c *caller) params(req *llm.Request, form form) (openai.ChatCompletionNewParams, error) {
	p := openai.ChatCompletionNewParams{
		Model:           c.model,
		ReasoningEffort: shared.ReasoningEffort(form.effort),
		StreamOptions:   openai.ChatCompletionStreamOptionsParam{IncludeUsage: param.NewOpt(true)},
	}
	if c.maxTokens > 0 {
		p.MaxCompletionTokens = param.NewOpt(c.maxTokens)
	}
	if form.format != nil {
		p.ResponseFormat.OfJSONSchema = form.format
	}
	for _, t := range req.Tools {
		p.Tools = append(p.Tools, openai.ChatCompletionFunctionTool(tool(t)))
	}
	for _, m := range req.Messages {
		message, ok, err := message(m)
		if err != nil {
			return p, err
		}
		if ok {
			p.Messages = append(p.Messages, message)
		}
	}
	return p, nil
}

// tool keeps the schema as it is, with the order of its properties, in which
// models write them.
func tool(t llm.ToolSpec) shared.FunctionDefinitionParam {
	return param.Override[shared.FunctionDefinitionParam](struct {
		Name        string          `json:"name"`
		Description string          `json:"description,omitempty"`
		Parameters  json.RawMessage `json:"parameters,omitempty"`
	}{t.Name, t.Description, t.Parameters})
}

// message converts one message; ok is false for one that says nothing.
func message(m llm.Message) (converted openai.ChatCompletionMessageParamUnion, ok bool, err error) {
	switch m.Role {
	case llm.RoleSystem:
		return openai.SystemMessage(m.Content), true, nil
	case webtrigger.RoleUser:
		return openai.UserMessage(m.Content), true, nil
	case webtrigger.RoleTool:
		return openai.ToolMessage(m.Content, m.ToolCallID), true, nil
	case webtrigger.RoleAssistant:
		converted.OfAssistant = assistant(m)
		return converted, m.Content != "" || len(m.ToolCalls) > 0, nil
	}
	return converted, false, fmt.Errorf("openai: a message has the role %q", m.Role)
}

func assistant(m llm.Message) *openai.ChatCompletionAssistantMessageParam {
	said := new(openai.ChatCompletionAssistantMessageParam)
	if m.Content != "" {
		said.Content.OfString = param.NewOpt(m.Content)
	}
	kept := readNative(m.Native)
	for _, c := range m.ToolCalls {
		arguments := string(c.Arguments)
		if strings.TrimSpace(arguments) == "" {
			arguments = "{}"
		}
		call := &openai.ChatCompletionMessageFunctionToolCallParam{
			ID: c.ID, Function: openai.ChatCompletionMessageFunctionToolCallFunctionParam{Name: c.Name, Arguments: arguments},
		}
		if extra := kept.Calls[c.ID]; len(extra) > 0 {
			call.SetExtraFields(raw(extra))
		}
		said.ToolCalls = append(said.ToolCalls, openai.ChatCompletionMessageToolCallUnionParam{OfFunction: call})
	}
	if kept.Reasoning != "" {
		said.SetExtraFields(map[string]any{reasoningField: kept.Reasoning})
	}
	return said
}

func raw(fields map[string]json.RawMessage) map[string]any {
	extra := make(map[string]any, len(fields))
	for name, value := range fields {
		extra[name] = value
	}
	return extra
}

// responseFormat asks for JSON of a schema, where the API has a way to ask: it
// wants an object. A task that wants JSON of no schema says so in its prompt; the
// API's JSON mode would refuse it a list.
func responseFormat(output llm.OutputFormat) *openai.ResponseFormatJSONSchemaParam {
	if output.Type != webtrigger.OutputJSON || output.Schema == nil || !isObject(output.Schema) {
		return nil
	}
	return &openai.ResponseFormatJSONSchemaParam{JSONSchema: openai.ResponseFormatJSONSchemaJSONSchemaParam{
		Name: "result", Schema: output.Schema, Strict: param.NewOpt(isStrict(output.Schema)),
	}}
}
