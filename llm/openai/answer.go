package openai

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendorhttp"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendortool"
)

// answer is put together from the chunks of a stream.
type answer struct {
	*vendorhttp.Answer
	call *vendorhttp.Call
	from string

	thoughts thoughts
	tags     *tags
	refusal  strings.Builder
	set      *vendortool.Set
	tools    calls
	calls    []*toolCall
}

func (c *caller) newAnswer(call *vendorhttp.Call, req *llm.Request, set *vendortool.Set, stream func(llm.Chunk) error) *answer {
	a := &answer{Answer: vendorhttp.NewAnswer(call, req, stream), call: call, from: c.from, set: set, tags: newTags(c.opts.ThinkTags, c.opts.Model)}
	a.MayLackReason = c.opts.MissingFinish
	return a
}

// add adds one document.
func (a *answer) add(data []byte) error {
	var chunk chunk
	if err := vendorhttp.Unmarshal(data, &chunk); err != nil {
		return err
	}
	if chunk.Model != "" {
		a.Model = chunk.Model
	}
	a.count(chunk.Usage)
	a.count(chunk.Groq.Usage)
	for _, choice := range chunk.Choices {
		if i := scalar(choice.Index); i != "" && i != "0" { // the request asked for one
			continue
		}
		if given(choice.Error) && !a.Complete() {
			return a.call.InStream(slices.Concat([]byte(`{"error":`), choice.Error, []byte(`}`)))
		}
		if err := a.addChoice(choice); err != nil {
			return err
		}
	}
	return nil
}

func (a *answer) addChoice(choice choice) error {
	a.count(choice.Usage)
	delta := choice.Delta
	if delta == nil && choice.Message != nil && a.Text() == "" && len(a.tools.all) == 0 {
		delta = choice.Message
	}
	if delta != nil {
		if err := a.addDelta(delta); err != nil {
			return err
		}
	}
	a.End(word(choice.Finish))
	a.EndNative(word(choice.Native))
	return nil
}

// word is a finish reason. SGLang's own form is an object with a type.
func word(raw json.RawMessage) string {
	var object struct{ Type string }
	if given(raw) && raw[0] == '{' && json.Unmarshal(raw, &object) == nil {
		return object.Type
	}
	return scalar(raw)
}

func (a *answer) addDelta(d *delta) error {
	if err := a.addThoughts(d); err != nil {
		return err
	}
	if err := a.addRefusal(d.Refusal); err != nil {
		return err
	}
	if thinks(d.ExtraContent) { // Gemini marks a delta whose text is a summary of thoughts
		a.tags.read(str(d.Content)) // it may begin with a tag that a later delta closes
		if err := a.Grow(len(d.Content)); err != nil {
			return err
		}
	} else if err := a.addContent(d.Content); err != nil {
		return err
	}
	if d.FunctionCall != nil {
		d.ToolCalls = append(d.ToolCalls, piece{function: *d.FunctionCall})
	}
	a.tools.delta++
	for _, p := range d.ToolCalls {
		before := len(a.tools.all)
		a.tools.add(p)
		size := len(p.function.name) + len(p.function.arguments) + sizeOf(p.extra) + sizeOf(p.function.extra)
		size += (len(a.tools.all) - before) * 256 // about the size of a call, so that empty ones reach the limit too
		if err := a.Grow(size); err != nil {
			return err
		}
	}
	return nil
}

func sizeOf(members map[string]json.RawMessage) (size int) {
	for name, value := range members {
		size += len(name) + len(value)
	}
	return size
}

func (a *answer) addThoughts(d *delta) error {
	content, reasoning := str(d.ReasoningContent), str(d.Reasoning)
	a.thoughts.addText("reasoning_content", content)
	a.thoughts.addText("reasoning", reasoning)
	size := a.thoughts.addList("reasoning_details", d.ReasoningDetails) + a.thoughts.addList("thinking_blocks", d.ThinkingBlocks)
	if err := a.Grow(len(content) + len(reasoning) + size); err != nil {
		return err
	}
	if signed(d.ExtraContent) {
		a.thoughts.signature = d.ExtraContent
		return a.Grow(len(d.ExtraContent))
	}
	return nil
}

// google is what Gemini adds to a delta.
type google struct {
	Google struct {
		Thought          bool   `json:"thought"`
		ThoughtSignature string `json:"thought_signature"`
	} `json:"google"`
}

func thinks(raw json.RawMessage) bool {
	var extra google
	return given(raw) && json.Unmarshal(raw, &extra) == nil && extra.Google.Thought
}

func signed(raw json.RawMessage) bool {
	var extra google
	return given(raw) && json.Unmarshal(raw, &extra) == nil && extra.Google.ThoughtSignature != ""
}

func (a *answer) addText(text string) error {
	if err := a.Grow(len(text)); err != nil {
		return err
	}
	if a.thoughts.announced() {
		a.tags.announced()
	}
	return a.AddText(a.tags.read(text))
}

func (a *answer) addRefusal(text string) error {
	a.refusal.WriteString(text)
	return a.Grow(len(text))
}

func (a *answer) count(raw json.RawMessage) {
	var usage struct {
		Input  json.RawMessage `json:"prompt_tokens"`
		Output json.RawMessage `json:"completion_tokens"`
	}
	if given(raw) && json.Unmarshal(raw, &usage) == nil {
		a.Count(vendorhttp.Number(usage.Input), vendorhttp.Number(usage.Output))
	}
}

// response returns the whole answer.
func (a *answer) response() (*llm.Response, error) {
	rest, unclosed := a.tags.end()
	if err := a.AddText(rest); err != nil {
		return nil, err
	}
	a.Unclosed, a.Detail = unclosed, a.refusal.String()
	calls := a.tools.finish(a.FreshID, a.set)
	a.calls = a.tools.all
	r, err := a.Response(calls)
	if err != nil {
		return nil, err
	}
	if r.Finish == llm.FinishRefusal && r.Detail == "" {
		r.Detail = "content filter"
	}
	r.Native = a.native()
	return r, nil
}
