package llm

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// finder finds where in a value a schema is violated. The jsonschema package names only
// the schema's keyword, and the first violation in the order of a map. A finder validates
// parts of the value against parts of the schema until it has the smallest that fail.
type finder struct {
	root *node
	keys map[*node]string
	// parts has a property for every schema of the graph: {key: value} is validated
	// against that schema. So the references of all are resolved once.
	parts *jsonschema.Resolved
}

// Limits of one explanation.
const (
	maxViolations  = 5
	maxParts       = 2_000  // of a schema
	maxValidations = 20_000 // of parts of a value
)

// newFinder returns nil if the schema is too large or cannot be resolved. The error is
// then the jsonschema package's own.
func newFinder(g *graph) *finder {
	if len(g.nodes) > maxParts {
		return nil
	}
	root := *g.nodes[0].Schema
	if root.ID == "" {
		root.ID = "https://schema.invalid/root"
	}
	all := &jsonschema.Schema{
		ID: "https://schema.invalid/parts", Schema: root.Schema,
		Properties: map[string]*jsonschema.Schema{}, Defs: map[string]*jsonschema.Schema{"root": &root},
	}
	f := &finder{root: g.nodes[0], keys: make(map[*node]string, len(g.nodes))}
	for i, n := range g.nodes {
		key := strconv.Itoa(i)
		f.keys[n] = key
		all.Properties[key] = &jsonschema.Schema{Ref: root.ID + "#" + (&url.URL{Fragment: n.path}).EscapedFragment()}
	}
	var err error
	if f.parts, err = all.Resolve(nil); err != nil {
		return nil
	}
	return f
}

// explain returns an error with the fault of a value and its place. failure is the
// schema's own error.
func (f *finder) explain(value any, failure error) error {
	if f == nil {
		return failure
	}
	s := search{finder: f, left: maxValidations}
	s.look(f.root, value, "")
	if len(s.found) == 0 {
		return failure
	}
	return errors.New(strings.Join(s.found, "; "))
}

// search is one explanation under way.
type search struct {
	*finder
	left  int // validations
	found []string
}

// validate returns the error of the schema n for value. It returns nil if the value
// passes or a limit is reached.
func (s *search) validate(n *node, value any) error {
	if s.left--; s.left < 0 || len(s.found) >= maxViolations {
		return nil
	}
	return s.parts.Validate(map[string]any{s.keys[n]: value})
}

// look reports whether value violates n, and has then recorded where.
func (s *search) look(n *node, value any, at string) bool {
	failure := s.validate(n, value)
	if failure == nil {
		return false
	}
	before := len(s.found)
	for _, part := range n.parts(value) {
		s.look(part.schema, part.value, at+part.step)
	}
	if n.If != nil {
		s.lookIf(n, value, at)
	}
	if len(s.found) == before {
		s.found = append(s.found, "at "+place(at)+": "+n.reason(value, failure))
	}
	return true
}

func (s *search) lookIf(n *node, value any, at string) {
	branch := "then"
	if s.validate(n.sub("if", ""), value) != nil {
		branch = "else"
	}
	if next := n.sub(branch, ""); next != nil {
		s.look(next, value, at)
	}
}

// part is a part of a value, or all of it, and a schema that it must meet.
type part struct {
	schema *node
	value  any
	step   string // the way to it as a JSON Pointer
}

// parts lists the parts that must pass for value to meet n. Alternatives are not
// included, because any of them may pass.
func (n *node) parts(value any) (parts []part) {
	if n.ref != nil {
		parts = append(parts, part{n.ref, value, ""})
	}
	for _, sub := range n.subs {
		if sub.keyword == "allOf" {
			parts = append(parts, part{sub.node, value, ""})
		}
	}
	switch value := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(value)) {
			for _, schema := range n.property(name) {
				parts = append(parts, part{schema, value[name], "/" + escapePointer(name)})
			}
		}
	case []any:
		for i := range value {
			if schema := n.item(i); schema != nil {
				parts = append(parts, part{schema, value[i], "/" + strconv.Itoa(i)})
			}
		}
	}
	return parts
}

// property lists the schemas that a property must meet.
func (n *node) property(name string) (schemas []*node) {
	for _, sub := range n.subs {
		switch sub.keyword {
		case "properties":
			if sub.name == name {
				schemas = append(schemas, sub.node)
			}
		case "patternProperties":
			if ok, _ := regexp.MatchString(sub.name, name); ok {
				schemas = append(schemas, sub.node)
			}
		case "additionalProperties": // after the two above
			if len(schemas) == 0 && !rejectsAll(sub.Schema) {
				schemas = append(schemas, sub.node)
			}
		}
	}
	return schemas
}

// item is the schema that an array's item must meet; nil: none.
func (n *node) item(i int) *node {
	for _, keyword := range []string{"prefixItems", "items"} {
		if sub := n.sub(keyword, strconv.Itoa(i)); sub != nil {
			return sub
		}
	}
	if len(n.ItemsArray) > 0 {
		return n.sub("additionalItems", "")
	}
	return n.sub("items", "")
}

func (n *node) sub(keyword, name string) *node {
	for _, sub := range n.subs {
		if sub.keyword == keyword && sub.name == name {
			return sub.node
		}
	}
	return nil
}

// rejectsAll reports whether s is the schema false. It serves objects with properties
// that are not allowed: the error is one of the whole object.
func rejectsAll(s *jsonschema.Schema) bool {
	return s.Not != nil && len(subschemas(s)) == 1 && len(subschemas(s.Not)) == 0 && s.Not.Type == "" && s.Not.Types == nil &&
		s.Not.Const == nil && s.Not.Enum == nil && s.Not.Ref == ""
}

// reason is why value violates n, without the way there.
func (n *node) reason(value any, failure error) string {
	for inner := errors.Unwrap(failure); inner != nil; inner = errors.Unwrap(inner) {
		failure = inner
	}
	text := failure.Error()
	keyword, _, _ := strings.Cut(text, ":")
	switch keyword { // where the package shows Go's idea of a value or of a schema
	case "type":
		want := n.Types
		if n.Type != "" {
			want = []string{n.Type}
		}
		if len(want) > 0 {
			text = fmt.Sprintf("type: must be %s", strings.Join(want, " or "))
		}
	case "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf":
		limits := map[string]*float64{"minimum": n.Minimum, "exclusiveMinimum": n.ExclusiveMinimum,
			"maximum": n.Maximum, "exclusiveMaximum": n.ExclusiveMaximum, "multipleOf": n.MultipleOf}
		if limit := limits[keyword]; limit != nil {
			text = fmt.Sprintf("%s %v: %v does not meet it", keyword, *limit, value)
		}
	case "anyOf", "oneOf":
		only := ""
		if strings.Contains(text, "validated against both") {
			only = " only"
		}
		text = keyword + ": must meet" + only + " one of the alternatives"
	case "not":
		text = "not: is what it must not be"
	case "contains":
		text = "contains: has no item of the demanded kind"
	}
	return wire.Truncate(text, 500)
}
