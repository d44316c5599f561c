package adaptertest

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/webtrigger-go/webtrigger/internal/modeltest"
)

// style is how a service writes chat completions.
type style struct {
	id       func(i int) any // of a call; nil result: none
	index    func(i int) any // of a call; nil result: none
	pieces   int             // of arguments; 0: whole
	named    bool            // each piece repeats id and name
	object   bool            // arguments are the object, if they are one
	together bool            // all calls in one chunk
	stop     bool            // stop is the reason for calls
	done     string          // what ends the stream
	newline  string
	prelude  func(s *stream)
	thinking func(s *stream, pieces []string)
	content  func(text string) any                             // nil: the text itself
	usage    func(s *stream, usage map[string]any, reason any) // nil: in a chunk of its own
	signed   func(call map[string]any)                         // adds to the first call
	native   bool                                              // the reason is native_finish_reason too
	fail     func(s *stream, f Failure)                        // nil: OpenAI's error object
}

// stream is an answer while it is written.
type stream struct {
	*modeltest.Wire
	style
}

func (s *stream) event(name string, data any) {
	text, ok := data.(string)
	if !ok {
		raw, err := json.Marshal(data)
		if err != nil {
			panic(err)
		}
		text = string(raw)
	}
	newline := s.newline
	if newline == "" {
		newline = "\n"
	}
	if name != "" {
		name = "event: " + name + newline
	}
	s.Raw(name + "data: " + text + newline + newline)
}

func (s *stream) chunk(choices any, more map[string]any) {
	doc := map[string]any{"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1767225600, "model": "model-2026", "choices": choices}
	for name, value := range more {
		doc[name] = value
	}
	s.event("", doc)
}

func (s *stream) delta(delta map[string]any, reason any, more map[string]any) {
	choice := map[string]any{"index": 0, "delta": delta, "logprobs": nil, "finish_reason": reason}
	if s.native && reason != nil {
		choice["native_finish_reason"] = reason
	}
	s.chunk([]any{choice}, more)
}

// play writes an answer.
func (y style) play(w *modeltest.Wire, a Answer) {
	s := &stream{w, y}
	if y.prelude != nil {
		y.prelude(s)
	}
	s.delta(map[string]any{"role": "assistant", "content": ""}, nil, nil)
	if len(a.Thinking) > 0 {
		y.thinking(s, a.Thinking)
	}
	for _, text := range a.Text {
		content := any(text)
		if y.content != nil {
			content = y.content(text)
		}
		s.delta(map[string]any{"content": content}, nil, nil)
	}
	s.calls(a.Calls)
	if a.Then != nil {
		a.Then(w)
		return
	}
	s.end(a)
}

func (s *stream) calls(calls []Call) {
	var together []any
	for i, c := range calls {
		for j, arguments := range cut(c.Arguments, s.pieces) {
			function, call := map[string]any{"arguments": arguments}, map[string]any{"type": "function"}
			var object map[string]any
			if s.object && json.Unmarshal([]byte(c.Arguments), &object) == nil {
				function["arguments"] = object
			}
			if index := s.index(i); index != nil {
				call["index"] = index
			}
			if id := s.id(i); j == 0 || s.named {
				function["name"] = c.Name
				if id != nil {
					call["id"] = id
				}
			}
			if s.signed != nil && i == 0 && j == 0 {
				s.signed(call)
			}
			call["function"] = function
			if s.together {
				together = append(together, call)
				continue
			}
			s.delta(map[string]any{"tool_calls": []any{call}}, nil, nil)
		}
	}
	if together != nil {
		s.delta(map[string]any{"tool_calls": together}, nil, nil)
	}
}

// cut cuts arguments into pieces of which the first is empty, as OpenAI does; 0 is one
// whole piece.
func cut(arguments string, pieces int) []string {
	if pieces == 0 {
		return []string{arguments}
	}
	parts := []string{""}
	size := max(len(arguments)/pieces, 1)
	for len(arguments) > size {
		parts = append(parts, arguments[:size])
		arguments = arguments[size:]
	}
	return append(parts, arguments)
}

func (s *stream) end(a Answer) {
	var reason any = "stop"
	switch {
	case a.NoReason:
		reason = nil
	case a.Reason != "":
		reason = a.Reason
	case len(a.Calls) > 0 && !s.stop:
		reason = "tool_calls"
	}
	usage := map[string]any{"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "completion_tokens_details": nil}
	if s.usage != nil {
		s.usage(s, usage, reason)
	} else {
		s.delta(map[string]any{}, reason, map[string]any{"usage": nil})
		s.chunk([]any{}, map[string]any{"usage": usage})
	}
	s.Raw(s.done)
}

// failing writes an error after the beginning of a stream.
func (y style) failing(w *modeltest.Wire, f Failure) {
	s := &stream{w, y}
	if y.fail != nil {
		y.fail(s, f)
		return
	}
	s.event("", map[string]any{"error": map[string]any{"message": f.Message, "type": f.Type, "param": nil, "code": nil}})
}

// Parts of styles.

func numbered(i int) any { return i }
func zero(int) any       { return 0 }
func none(int) any       { return nil }
func texts(i int) any    { return fmt.Sprint(i) }
func empty(int) any      { return "" }
func equal(int) any      { return "call_0" }

// ids makes ids that are unique within the conversation, unless the service repeats
// them in each answer.
func ids(prefix string) func(int) any {
	return func(i int) any { return fmt.Sprintf("%s%d", prefix, i) }
}

func inField(field string) func(s *stream, pieces []string) {
	return func(s *stream, pieces []string) {
		for _, p := range pieces {
			s.delta(map[string]any{"content": nil, field: p}, nil, nil)
		}
	}
}

// inTags writes thinking into the text, with tags that are split between chunks.
func inTags(before, after string) func(s *stream, pieces []string) {
	return func(s *stream, pieces []string) {
		for _, p := range strings.SplitAfter(before+strings.Join(pieces, "")+after, "h") {
			s.delta(map[string]any{"content": p}, nil, nil)
		}
	}
}
