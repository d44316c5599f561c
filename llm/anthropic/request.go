package anthropic

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendorhttp"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendortool"
)

// content is one block of a message.
type content map[string]any

// body is the document of a request, with a native output format if schema is not nil.
func (c *caller) body(req *llm.Request, set *vendortool.Set, schema json.RawMessage) ([]byte, error) {
	body := map[string]any{"model": c.opts.Model, "max_tokens": c.opts.MaxTokens, "stream": true}
	output := make(map[string]any)
	if c.opts.Effort != "" {
		output["effort"] = c.opts.Effort
	}
	if schema != nil {
		output["format"] = map[string]any{"type": "json_schema", "schema": schema}
	}
	if len(output) > 0 {
		body["output_config"] = output
	}
	if tools := tools(set); tools != nil {
		body["tools"] = tools
	}
	var system []content
	var turns turns
	for _, m := range req.Messages {
		switch m.Role {
		case llm.RoleSystem: // the API has one place for instructions, before everything
			system = append(system, text(m.Content)...)
		case webtrigger.RoleUser:
			turns.add("user", text(m.Content)...)
		case webtrigger.RoleTool:
			turns.add("user", result(m))
		case webtrigger.RoleAssistant:
			turns.add("assistant", assistant(m, set)...)
		default:
			return nil, fmt.Errorf("anthropic: message role %q is not supported", m.Role)
		}
	}
	if system != nil {
		body["system"] = system
	}
	body["messages"] = turns
	return vendorhttp.Body(body, c.opts.Body)
}

// turns are a conversation as the API has it: user and assistant in turn, and the
// answers to all calls of a turn together in the next one.
type turns []turn

type turn struct {
	Role    string    `json:"role"`
	Content []content `json:"content"`
}

func (t *turns) add(role string, blocks ...content) {
	if len(blocks) == 0 {
		return
	}
	if last := len(*t) - 1; last >= 0 && (*t)[last].Role == role {
		(*t)[last].Content = append((*t)[last].Content, blocks...)
		return
	}
	*t = append(*t, turn{role, blocks})
}

// blank texts are not allowed anywhere.
func blank(s string) bool { return strings.TrimSpace(s) == "" }

func text(s string) []content {
	if blank(s) {
		return nil
	}
	return []content{{"type": "text", "text": s}}
}

// result is a tool's answer. An empty one has no content.
func result(m llm.Message) content {
	block := content{"type": "tool_result", "tool_use_id": callID(m.ToolCallID)}
	if said := text(m.Content); said != nil {
		block["content"] = said
	}
	return block
}

// assistant is the model's own turn, in its own form if there is one. The calls are
// always those of the message: the caller may have corrected them, and its tool results
// name their ids.
func assistant(m llm.Message, set *vendortool.Set) (blocks []content) {
	kept := readNative(m.Native)
	if kept == nil {
		kept = text(m.Content)
	}
	calls := m.ToolCalls
	for _, block := range kept {
		if !isToolUse(block) {
			blocks = append(blocks, block)
		} else if len(calls) > 0 {
			blocks = append(blocks, toolUse(calls[0], set))
			calls = calls[1:]
		}
	}
	for _, c := range calls {
		blocks = append(blocks, toolUse(c, set))
	}
	return blocks
}

// toolUse is a call in the history.
func toolUse(c llm.ToolCall, set *vendortool.Set) content {
	return content{"type": "tool_use", "id": callID(c.ID), "name": set.VendorName(c.Name), "input": set.VendorArguments(c.Name, c.Arguments)}
}

// callID is an id of a call in the characters that the API accepts: another vendor's
// model may have made the call.
func callID(id string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-':
			return r
		}
		return '_'
	}, id)
}

// tool keeps the schema as it is, with the order of its properties, in which models
// write them.
type tool struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	InputSchema json.RawMessage `json:"input_schema"`
}

func tools(set *vendortool.Set) (tools []tool) {
	for _, t := range set.Tools() {
		tools = append(tools, tool{t.Name, t.Description, t.Schema})
	}
	return tools
}
