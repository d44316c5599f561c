package vendortool

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/webtrigger-go/webtrigger/llm/internal/schemadoc"
	"github.com/webtrigger-go/webtrigger/llm/internal/toolname"
)

// Tool is a tool in the vendor's form.
type Tool struct {
	Name        string
	Description string
	Schema      json.RawMessage // a JSON object
}

// Skipped is a tool that the vendor cannot be offered.
type Skipped struct {
	Name   string // the original one
	Reason string
}

// Set is the tools of one request. It is safe for concurrent use.
type Set struct {
	rules        *Rules
	tools        []*fitted
	skipped      []Skipped
	byName       map[string]*fitted
	byVendorName map[string]*fitted
}

// fitted is a tool with the way back to the original.
type fitted struct {
	Tool
	name string
	keys keys
}

func (s *Set) skip(name, reason string) { s.skipped = append(s.skipped, Skipped{name, reason}) }

// Tools returns the tools in the vendor's form.
func (s *Set) Tools() []Tool {
	tools := make([]Tool, len(s.tools))
	for i, t := range s.tools {
		tools[i] = t.Tool
	}
	return tools
}

// Skipped returns the tools that the vendor does not get.
func (s *Set) Skipped() []Skipped { return slices.Clone(s.skipped) }

// VendorName returns the name of a call in the history. It is always a name that
// the vendor accepts. A name of no tool in the set does not become the name of
// one.
func (s *Set) VendorName(name string) string {
	if t := s.byName[name]; t != nil {
		return t.Name
	}
	return toolname.Fit(name, func(n string) bool { return s.byVendorName[n] == nil })
}

// VendorArguments returns the arguments of a call in the history. They are always
// a JSON object: an empty one where the model wrote anything else.
func (s *Set) VendorArguments(name string, arguments json.RawMessage) json.RawMessage {
	v, err := schemadoc.Parse(arguments)
	if err != nil || v.Kind != schemadoc.Object {
		return json.RawMessage(`{}`)
	}
	t := s.byName[name]
	if (t == nil || len(t.keys) == 0) && clean(arguments) {
		return bytes.TrimSpace(arguments)
	}
	if t != nil {
		for i := range v.Members {
			v.Members[i].Name = t.keys.vendor(v.Members[i].Name)
		}
	}
	return v.JSON()
}

// Call returns the model's call with the name and the arguments of the original
// tool. A name of no tool, and arguments that are not a JSON object, stay as they
// are.
func (s *Set) Call(vendorName string, arguments json.RawMessage) (name string, _ json.RawMessage) {
	t := s.byVendorName[vendorName]
	if t == nil {
		return vendorName, arguments
	}
	if len(t.keys) > 0 {
		arguments = t.keys.restore(arguments)
	}
	return t.name, arguments
}

// clean reports whether a JSON text is valid UTF-8 without escapes of half
// characters, which vendors reject.
func clean(raw []byte) bool {
	return utf8.Valid(raw) && !bytes.Contains(raw, []byte(`\ud`)) && !bytes.Contains(raw, []byte(`\uD`))
}

// keys are the renamed properties of a tool: vendor names by original name.
type keys map[string]string

func (k keys) vendor(name string) string {
	if to, ok := k[name]; ok {
		return to
	}
	return name
}

// restore returns arguments with the original names. The values keep their bytes.
func (k keys) restore(arguments json.RawMessage) json.RawMessage {
	if !json.Valid(arguments) {
		return arguments
	}
	dec := json.NewDecoder(bytes.NewReader(arguments))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return arguments
	}
	back := make(map[string]string, len(k))
	for name, to := range k {
		back[to] = name
	}
	out := []byte{'{'}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return arguments
		}
		name, _ := token.(string) // a name is always a string
		if original, ok := back[name]; ok {
			name = original
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return arguments
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, schemadoc.NewString(name).JSON()...), ':'), value...)
	}
	return append(out, '}')
}

// nameTools gives every tool its name. Names that the vendor accepts stay, so the
// other ones make way for them.
func (s *Set) nameTools() {
	for _, t := range s.tools {
		if toolname.Valid(t.name) {
			t.Name = t.name
			s.byVendorName[t.Name] = t
		}
	}
	for _, t := range s.tools {
		if t.Name == "" {
			t.Name = toolname.Fit(t.name, func(n string) bool { return s.byVendorName[n] == nil })
			s.byVendorName[t.Name] = t
		}
	}
}

// Log reports skipped tools, each tool and reason once. The zero value is ready
// for use, and it is safe for concurrent use.
type Log struct{ seen sync.Map }

// Report logs a warning for each tool that s skips and that l has not reported before.
func (l *Log) Report(logger *slog.Logger, s *Set) {
	for _, skipped := range s.skipped {
		if _, again := l.seen.LoadOrStore(skipped, true); !again {
			logger.Warn("tool skipped", "tool", shortened(skipped.Name), "vendor", s.rules.vendor, "reason", skipped.Reason)
		}
	}
}

func shortened(name string) string {
	name = strings.ToValidUTF8(name, "�")
	if runes := []rune(name); len(runes) > 256 {
		return string(runes[:256]) + "…"
	}
	return name
}
