package vendortool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/webtrigger-go/webtrigger/llm/internal/schemadoc"
)

// fitSchema returns a schema in the vendor's form, notes on the rules that the form
// cannot express, and the properties that have another name in it. A schema that fits keeps its bytes.
func (r *Rules) fitSchema(raw json.RawMessage) (schema json.RawMessage, notes []string, _ keys, err error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return object().JSON(), nil, nil, nil
	}
	if len(raw) > maxSchemaBytes {
		return nil, nil, nil, fmt.Errorf("its schema has more than %d KiB", maxSchemaBytes>>10)
	}
	root, err := schemadoc.Parse(raw)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("its schema is %w", err)
	}
	switch {
	case root.Kind == schemadoc.Null || root.Is(true):
		return object().JSON(), nil, nil, nil
	case root.Is(false):
		return nil, nil, nil, errNever
	case root.Kind != schemadoc.Object:
		return nil, nil, nil, errors.New("its schema is not a JSON object")
	case deeper(root, maxSchemaDepth):
		return nil, nil, nil, fmt.Errorf("its schema has more than %d levels", maxSchemaDepth)
	}
	before := root.JSON()
	schemadoc.Gather(root)
	schemadoc.Translate(root, true)
	dropDangling(root)
	schemadoc.Walk(root, func(_ string, s *schemadoc.Value) { r.completeSchema(s) })
	top := &topLevel{rules: r, refs: schemadoc.NewRefs(root)}
	if root, err = top.fit(root); err != nil {
		return nil, nil, nil, err
	}
	dropDangling(root)
	if schema = root.JSON(); !bytes.Equal(schema, before) {
		root.Delete("$schema") // it may name a draft that would read the new form differently
		schema = root.JSON()
	} else if clean(raw) {
		schema = raw
	}
	return schema, top.notes(), top.keys, nil
}

var errNever = errors.New("its schema accepts no arguments at all")

// deeper reports whether v has more than n levels.
func deeper(v *schemadoc.Value, n int) bool {
	if n < 0 {
		return true
	}
	for _, item := range v.Items {
		if deeper(item, n-1) {
			return true
		}
	}
	return slices.ContainsFunc(v.Members, func(m schemadoc.Member) bool { return deeper(m.Value, n-1) })
}

// dropDangling removes references that lead out of the schema, nowhere, or back to
// themselves.
func dropDangling(root *schemadoc.Value) {
	const underWay, done = 1, 2
	refsOf, state := schemadoc.NewRefs(root), map[*schemadoc.Value]int{}
	var follow func(s *schemadoc.Value)
	follow = func(s *schemadoc.Value) {
		if state[s] == done { // so that a chain of references costs its length, not the square
			return
		}
		state[s] = underWay
		for _, keyword := range refs {
			ref := s.Get(keyword)
			if ref == nil {
				continue
			}
			target := refsOf.Resolve(s, ref.Text)
			if target == nil || state[target] == underWay {
				s.Delete(keyword)
				continue
			}
			follow(target)
		}
		state[s] = done
	}
	schemadoc.Walk(root, func(_ string, s *schemadoc.Value) { follow(s) })
}

// openEnds are the keywords where vendors expect true or false.
var openEnds = []string{"additionalProperties", "unevaluatedProperties", "unevaluatedItems"}

// completeSchema makes implied rules explicit: any item is allowed, and no property is
// named. It replaces true and false by objects.
func (r *Rules) completeSchema(s *schemadoc.Value) {
	for _, sub := range schemadoc.Subschemas(s) {
		if sub.Schema.Kind != schemadoc.Bool || slices.Contains(openEnds, sub.Keyword) {
			continue
		}
		allowed := sub.Schema.Bool
		*sub.Schema = *schemadoc.NewObject()
		if !allowed {
			sub.Schema.Set("not", schemadoc.NewObject())
		}
	}
	enum := s.Get("enum")
	if enum != nil && len(enum.Items) == 0 {
		s.Delete("enum")
	} else if enum != nil {
		enum.Items = distinct(enum.Items)
	}
	if !r.complete {
		return
	}
	if hasType(s, "array") && s.Get("items") == nil {
		s.Set("items", schemadoc.NewObject())
	}
	if hasType(s, "object") && s.Get("properties") == nil {
		s.Set("properties", schemadoc.NewObject())
	}
}

// hasType reports whether a schema names a type.
func hasType(s *schemadoc.Value, name string) bool {
	t := s.Get("type")
	if t == nil {
		return false
	}
	return t.Text == name || slices.Contains(t.Strings(), name)
}

// distinct returns values without those that were there before.
func distinct(values []*schemadoc.Value) (kept []*schemadoc.Value) {
	seen := map[string]bool{}
	for _, v := range values {
		text := string(v.JSON())
		if !seen[text] {
			kept = append(kept, v)
		}
		seen[text] = true
	}
	return kept
}

// describe returns a description with the notes, within the vendor's limit.
func (r *Rules) describe(description string, notes []string) string {
	description = strings.ToValidUTF8(description, "�")
	if len(notes) == 0 {
		return cutText(description, r.maxDescription)
	}
	note := strings.Join(notes, " ")
	if description == "" {
		return cutText(note, r.maxDescription)
	}
	if r.maxDescription > 0 {
		note = cutText(note, r.maxDescription/2)
		description = cutText(description, r.maxDescription-len([]rune(note))-1)
	}
	return description + "\n" + note
}

// cutText cuts a text to most characters, the last of which is an ellipsis then.
// If most is 0, the text stays.
func cutText(text string, most int) string {
	runes := []rune(text)
	if most == 0 || len(runes) <= most {
		return text
	}
	return strings.TrimRight(string(runes[:most-1]), " \n\t") + "…"
}
