package anthropic

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/packages/param"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
)

func (c *caller) params(req *llm.Request) (anthropic.MessageNewParams, error) {
	p := anthropic.MessageNewParams{
		Model: c.model, MaxTokens: c.maxTokens,
		OutputConfig: anthropic.OutputConfigParam{Effort: c.effort},
	}
	for _, t := range req.Tools {
		p.Tools = append(p.Tools, tool(t))
	}
	var turns turns
	for _, m := range req.Messages {
		switch m.Role {
		case llm.RoleSystem: // the API has one place for instructions, before everything
			if !blank(m.Content) {
				p.System = append(p.System, anthropic.TextBlockParam{Text: m.Content})
			}
		case webtrigger.RoleUser:
			turns.add(anthropic.MessageParamRoleUser, text(m.Content)...)
		case webtrigger.RoleTool:
			turns.add(anthropic.MessageParamRoleUser, result(m))
		case webtrigger.RoleAssistant:
			turns.add(anthropic.MessageParamRoleAssistant, assistant(m)...)
		default:
			return p, fmt.Errorf("anthropic: a message has the role %q", m.Role)
		}
	}
	p.Messages = turns
	return p, nil
}

// turns are a conversation as the API has it: user and assistant in turn, and the
// answers to all calls of a turn together in the next one.
type turns []anthropic.MessageParam

func (t *turns) add(role anthropic.MessageParamRole, blocks ...anthropic.ContentBlockParamUnion) {
	if len(blocks) == 0 {
		return
	}
	if last := len(*t) - 1; last >= 0 && (*t)[last].Role == role {
		(*t)[last].Content = append((*t)[last].Content, blocks...)
		return
	}
	*t = append(*t, anthropic.MessageParam{Role: role, Content: blocks})
}

// blank texts are not allowed anywhere.
func blank(s string) bool { return strings.TrimSpace(s) == "" }

func text(s string) []anthropic.ContentBlockParamUnion {
	if blank(s) {
		return nil
	}
	return []anthropic.ContentBlockParamUnion{anthropic.NewTextBlock(s)}
}

// result is a tool's answer; one that says nothing has no content.
func result(m llm.Message) anthropic.ContentBlockParamUnion {
	block := &anthropic.ToolResultBlockParam{ToolUseID: m.ToolCallID}
	if !blank(m.Content) {
		block.Content = []anthropic.ToolResultBlockParamContentUnion{{OfText: &anthropic.TextBlockParam{Text: m.Content}}}
	}
	return anthropic.ContentBlockParamUnion{OfToolResult: block}
}

// assistant is the model's own turn, in its own form where there is one.
func assistant(m llm.Message) []anthropic.ContentBlockParamUnion {
	if kept := readNative(m.Native); kept != nil {
		blocks := make([]anthropic.ContentBlockParamUnion, len(kept))
		for i, raw := range kept {
			blocks[i] = param.Override[anthropic.ContentBlockParamUnion](raw)
		}
		return blocks
	}
	blocks := text(m.Content)
	for _, c := range m.ToolCalls {
		blocks = append(blocks, anthropic.NewToolUseBlock(c.ID, input(c.Arguments), c.Name))
	}
	return blocks
}

// input is arguments as the API takes them back: an object. Whatever else a model
// wrote is told in the tool's answer.
func input(arguments json.RawMessage) json.RawMessage {
	var object map[string]json.RawMessage
	if json.Unmarshal(arguments, &object) != nil || object == nil {
		return json.RawMessage(`{}`)
	}
	return bytes.TrimSpace(arguments)
}

// tool keeps the schema as it is, with the order of its properties, in which
// models write them.
func tool(t llm.ToolSpec) anthropic.ToolUnionParam {
	spec := &anthropic.ToolParam{Name: t.Name, InputSchema: param.Override[anthropic.ToolInputSchemaParam](t.Parameters)}
	if t.Description != "" {
		spec.Description = param.NewOpt(t.Description)
	}
	return anthropic.ToolUnionParam{OfTool: spec}
}

// withFormat is a copy of the parameters that asks for JSON of a schema.
func withFormat(p anthropic.MessageNewParams, schema json.RawMessage) anthropic.MessageNewParams {
	p.OutputConfig.Format = param.Override[anthropic.JSONOutputFormatParam](struct {
		Type   string          `json:"type"`
		Schema json.RawMessage `json:"schema"`
	}{"json_schema", schema})
	return p
}
