package vendortool

import (
	"math/big"
	"slices"

	"github.com/webtrigger-go/webtrigger/llm/internal/schemadoc"
)

// applicators are the keywords that flatten resolves.
var applicators = append([]string{"allOf", "anyOf", "oneOf"}, refs...)

// flatten returns an object schema without references, allOf, anyOf and oneOf at its
// top level. It means the same as s, as far as one list of properties can express it:
// with alternatives, it has the properties of all of them, and requires those that all
// of them require. It accepts every object that s accepts.
//
// seen are the schemas that are being flattened. If top, s is part of the top
// level in every case, and its alternatives are noted. It returns an error if no
// object can meet s.
func (t *topLevel) flatten(s *schemadoc.Value, seen []*schemadoc.Value, top bool) (*schemadoc.Value, error) {
	if t.merged += mergeCost + len(s.JSON()); t.merged > maxMerged {
		return nil, errComplex
	}
	if s.Is(false) {
		return nil, errNever
	}
	if err := mustBeObject(s); err != nil {
		return nil, err
	}
	seen = append(slices.Clip(seen), s)
	out := schemadoc.NewObject(slices.Clone(s.Members)...)
	out.Delete(applicators...)
	if top {
		t.drop(out)
	}
	for _, keyword := range refs {
		ref := s.Get(keyword)
		if ref == nil {
			continue
		}
		target := t.refs.Resolve(s, ref.Text)
		if target == nil || slices.Contains(seen, target) {
			continue
		}
		part, err := t.flatten(target, seen, top)
		if err != nil {
			return nil, err
		}
		t.both(out, part)
	}
	if all := s.Get("allOf"); all != nil {
		for _, item := range all.Items {
			part, err := t.flatten(item, seen, top)
			if err != nil {
				return nil, err
			}
			t.both(out, part)
		}
	}
	for _, keyword := range []string{"anyOf", "oneOf"} {
		if s.Get(keyword) == nil {
			continue
		}
		parts, err := t.flattenEach(s.Get(keyword).Items, seen)
		if err != nil {
			return nil, err
		}
		if top && len(parts) > 1 {
			t.alternatives = append(t.alternatives, alternatives{exactlyOne: keyword == "oneOf", parts: parts})
		}
		t.both(out, t.either(parts))
	}
	return out, nil
}

// flattenEach flattens alternatives and skips those that no object can meet.
func (t *topLevel) flattenEach(items, seen []*schemadoc.Value) (parts []*schemadoc.Value, err error) {
	var last error
	for _, item := range items {
		part, err := t.flatten(item, seen, false)
		if err == errComplex {
			return nil, err
		}
		if err != nil {
			last = err
			continue
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return nil, last
	}
	return parts, nil
}

// drop removes the keywords that the vendor does not accept at the top level, and
// keeps them for the notes.
func (t *topLevel) drop(s *schemadoc.Value) {
	for _, keyword := range t.rules.forbidden {
		if v := s.Get(keyword); v != nil {
			t.dropped = append(t.dropped, schemadoc.Member{Name: keyword, Value: v})
			s.Delete(keyword)
		}
	}
}

// identity are keywords that must not move from one schema to another.
var identity = []string{"$schema", "$id", "$anchor", "$dynamicAnchor", "$vocabulary", "$defs", "definitions", "type"}

// annotations are keywords that no value can violate.
var annotations = []string{"title", "description", "$comment", "default", "examples", "deprecated", "readOnly", "writeOnly"}

// both adds the keywords of part to out, for values that must meet the two.
func (t *topLevel) both(out, part *schemadoc.Value) {
	conditional := out.Get("if") != nil
	for _, m := range part.Members {
		have := out.Get(m.Name)
		switch {
		case slices.Contains(identity, m.Name):
		case m.Name == "properties":
			out.Set(m.Name, bothProperties(have, m.Value))
		case m.Name == "required" && have != nil:
			out.Set(m.Name, schemadoc.NewStrings(append(have.Strings(), missing(m.Value.Strings(), have.Strings())...)))
		case m.Name == "additionalProperties" && m.Value.Is(false):
			out.Set(m.Name, m.Value)
		case m.Name == "minProperties" && have != nil && less(have, m.Value), m.Name == "maxProperties" && have != nil && less(m.Value, have):
			out.Set(m.Name, m.Value)
		case (m.Name == "if" || m.Name == "then" || m.Name == "else") && conditional:
			t.lossy = true
		case have == nil:
			out.Set(m.Name, m.Value)
		case !slices.Contains(annotations, m.Name) && !same(have, m.Value):
			t.lossy = true
		}
	}
}

func less(a, b *schemadoc.Value) bool {
	x, okX := new(big.Float).SetString(a.Text)
	y, okY := new(big.Float).SetString(b.Text)
	return okX && okY && x.Cmp(y) < 0
}

func missing(names, from []string) (rest []string) {
	for _, name := range names {
		if !slices.Contains(from, name) {
			rest = append(rest, name)
		}
	}
	return rest
}

func bothProperties(have, more *schemadoc.Value) *schemadoc.Value {
	if have == nil {
		return more
	}
	merged := schemadoc.NewObject(slices.Clone(have.Members)...)
	for _, m := range more.Members {
		merged.Set(m.Name, bothSchemas(merged.Get(m.Name), m.Value))
	}
	return merged
}

// bothSchemas returns a schema for values that must meet a and b.
func bothSchemas(a, b *schemadoc.Value) *schemadoc.Value {
	switch {
	case a == nil || len(a.Members) == 0 && a.Kind == schemadoc.Object:
		return b
	case len(b.Members) == 0 && b.Kind == schemadoc.Object || same(a, b):
		return a
	}
	if joined := joinSchemas(a, b); joined != nil {
		return joined
	}
	return schemadoc.NewObject(schemadoc.Member{Name: "allOf", Value: schemadoc.NewArray(a, b)})
}

// joinSchemas puts the keywords of two schemas into one. It returns nil if this
// would change what one of them means.
func joinSchemas(a, b *schemadoc.Value) *schemadoc.Value {
	joined := schemadoc.NewObject(slices.Clone(a.Members)...)
	for _, m := range b.Members {
		have := a.Get(m.Name)
		switch {
		case slices.Contains(alone, m.Name) && (have == nil || !same(have, m.Value)):
			return nil
		case have == nil:
			joined.Members = append(joined.Members, m)
		case !same(have, m.Value) && m.Name != "title" && m.Name != "description":
			return nil
		}
	}
	for _, m := range a.Members {
		if slices.Contains(alone, m.Name) && b.Get(m.Name) == nil {
			return nil
		}
	}
	return joined
}

// alone are keywords whose meaning depends on the other keywords of their schema.
var alone = []string{
	"additionalProperties", "properties", "patternProperties", "unevaluatedProperties", "items", "prefixItems", "unevaluatedItems",
	"contains", "minContains", "maxContains", "if", "then", "else", "$id", "$anchor", "$dynamicAnchor", "$schema",
}

func same(a, b *schemadoc.Value) bool { return string(a.JSON()) == string(b.JSON()) }

// expressed are the keywords of an alternative that the merged form or a note contains.
var expressed = []string{"properties", "required", "additionalProperties"}

// either returns a schema that accepts each value that one of the parts accepts.
func (t *topLevel) either(parts []*schemadoc.Value) *schemadoc.Value {
	if len(parts) == 1 {
		return parts[0]
	}
	properties := schemadoc.NewObject()
	variants := map[string][]*schemadoc.Value{}
	closed := true
	required := parts[0].Get("required").Strings()
	for _, part := range parts {
		if p := part.Get("properties"); p != nil {
			for _, m := range p.Members {
				variants[m.Name] = append(variants[m.Name], m.Value)
				properties.Set(m.Name, m.Value)
			}
		}
		names := part.Get("required").Strings()
		required = slices.DeleteFunc(required, func(name string) bool { return !slices.Contains(names, name) })
		closed = closed && part.Get("additionalProperties").Is(false)
		t.lossy = t.lossy || slices.ContainsFunc(part.Members, func(m schemadoc.Member) bool {
			return !slices.Contains(expressed, m.Name) && !slices.Contains(identity, m.Name) && !slices.Contains(annotations, m.Name)
		})
	}
	for i, m := range properties.Members {
		if list := distinct(variants[m.Name]); len(list) > 1 {
			properties.Members[i].Value = schemadoc.NewObject(schemadoc.Member{Name: "anyOf", Value: schemadoc.NewArray(list...)})
		}
	}
	out := schemadoc.NewObject(schemadoc.Member{Name: "properties", Value: properties})
	if len(required) > 0 {
		out.Set("required", schemadoc.NewStrings(required))
	}
	if closed {
		out.Set("additionalProperties", &schemadoc.Value{Kind: schemadoc.Bool})
	}
	return out
}
