package openai

import (
	"encoding/json"
	"strings"

	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendortool"
)

// toolCall is a call while its pieces arrive.
type toolCall struct {
	given     string // the server's id, which may be empty or not unique
	index     string
	id, name  string
	arguments strings.Builder
	end       object
	extra     extra
	delta     int // the delta that named it
}

// calls puts tool calls together. Pieces belong together by index, but some servers
// number all calls 0, omit indexes and ids, or give the same id to all calls. So a
// piece with a name that cannot continue a call begins a new one.
type calls struct {
	all     []*toolCall
	current map[string]*toolCall // by index
	delta   int
}

// add adds a piece and returns its call.
func (c *calls) add(p piece) *toolCall {
	call := c.find(p)
	if call == nil || call.name != "" && c.begins(call, p) {
		call = &toolCall{delta: c.delta, index: p.index}
		c.all = append(c.all, call)
	}
	if c.current == nil {
		c.current = make(map[string]*toolCall)
	}
	c.current[p.index] = call
	call.add(p)
	return call
}

// find returns the call that a piece may continue, nil if there is none.
func (c *calls) find(p piece) *toolCall {
	if p.id != "" && p.function.name == "" { // pieces of several calls in turn, distinguished by id
		for i := len(c.all) - 1; i >= 0; i-- {
			if c.all[i].given == p.id {
				return c.all[i]
			}
		}
	}
	if p.index != "" {
		return c.current[p.index]
	}
	if len(c.all) == 0 {
		return nil
	}
	return c.all[len(c.all)-1]
}

// begins reports whether a piece begins another call than the one that it might
// continue.
func (c *calls) begins(call *toolCall, p piece) bool {
	opens := strings.HasPrefix(strings.TrimSpace(p.function.arguments), "{") // as all arguments do
	switch {
	case p.function.name == "": // a piece, unless the model omitted the name
		return opens && call.end.complete() && call.arguments.String() != "{}"
	case call.delta == c.delta, p.function.name != call.name, call.end.complete():
		return true
	case p.id == "" || call.given == "" || p.id == call.given:
		return false
	}
	return call.arguments.Len() == 0 || opens // else the server gives each piece an id of its own
}

func (t *toolCall) add(p piece) {
	if t.given == "" {
		t.given = p.id
	}
	if t.name == "" {
		t.name = p.function.name
	}
	if t.arguments.String() == "{}" && strings.HasPrefix(p.function.arguments, "{") {
		t.arguments.Reset() // it only held the place
		t.end = object{}
	}
	t.arguments.WriteString(p.function.arguments)
	t.end.read(p.function.arguments)
	for name, value := range p.extra {
		if t.extra.Call == nil {
			t.extra.Call = make(map[string]json.RawMessage)
		}
		t.extra.Call[name] = value
	}
	for name, value := range p.function.extra {
		if t.extra.Function == nil {
			t.extra.Function = make(map[string]json.RawMessage)
		}
		t.extra.Function[name] = value
	}
}

// repeats reports whether a call is an earlier one that the server sent again at the
// end: the same index, id and name, and the same arguments or none.
func (t *toolCall) repeats(earlier []*toolCall) bool {
	for _, e := range earlier {
		if t.given != "" && t.given == e.given && t.index == e.index && t.name == e.name && t.delta != e.delta &&
			(t.arguments.Len() == 0 || t.arguments.String() == e.arguments.String()) {
			return true
		}
	}
	return false
}

// finish drops repeated calls and returns all others, with ids of their own and in
// terms of the original tools.
func (c *calls) finish(freshID func(string) string, set *vendortool.Set) (finished []llm.ToolCall) {
	var kept []*toolCall
	for _, t := range c.all {
		if t.repeats(kept) {
			continue
		}
		t.id = freshID(t.given)
		kept = append(kept, t)
		name, arguments := set.Call(t.name, json.RawMessage(t.arguments.String()))
		finished = append(finished, llm.ToolCall{ID: t.id, Name: name, Arguments: arguments})
	}
	c.all = kept
	return finished
}

// object follows the braces of a JSON object that arrives in pieces.
type object struct {
	depth           int
	text, escaped   bool
	begun, finished bool
}

func (o *object) complete() bool { return o.finished }

func (o *object) read(s string) {
	for i := range len(s) {
		switch b := s[i]; {
		case o.escaped:
			o.escaped = false
		case o.text:
			o.escaped, o.text = b == '\\', b != '"'
		case b == '"':
			o.text = true
		case b == '{' || b == '[':
			o.depth++
			o.begun = true
		case b == '}' || b == ']':
			o.depth--
		}
		o.finished = o.begun && o.depth <= 0 && !o.text
	}
}
