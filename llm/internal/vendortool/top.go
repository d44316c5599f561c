package vendortool

import (
	"errors"
	"slices"
	"strings"

	"github.com/webtrigger-go/webtrigger/llm/internal/schemadoc"
	"github.com/webtrigger-go/webtrigger/llm/internal/toolname"
)

// topLevel makes one plain object schema of the top level of a schema.
type topLevel struct {
	rules        *Rules
	refs         *schemadoc.Refs
	merged       int            // bytes
	alternatives []alternatives // of the top level
	dropped      []schemadoc.Member
	lossy        bool // neither the schema nor a note has all constraints
	keys         keys
}

var errComplex = errors.New("its schema has too many alternatives")

// fit returns the schema of the vendor's form. root may be changed.
func (t *topLevel) fit(root *schemadoc.Value) (*schemadoc.Value, error) {
	whole, merged := root, false
	if t.mustMerge(root) {
		flat, err := t.flatten(root, nil, true)
		if err != nil {
			return nil, err
		}
		t.drop(flat) // of a single alternative
		root, merged = flat, true
	} else if err := mustBeObject(root); err != nil {
		return nil, err
	}
	if root.Get("properties") == nil {
		root.Set("properties", schemadoc.NewObject())
	}
	if kind := root.Get("type"); kind == nil {
		root.Members = slices.Insert(root.Members, 0, schemadoc.Member{Name: "type", Value: schemadoc.NewString("object")})
	} else if kind.Kind != schemadoc.String {
		root.Set("type", schemadoc.NewString("object"))
	}
	t.chooseKeys(root.Get("properties"))
	if merged || len(t.keys) > 0 {
		root = keepWhole(root, whole)
	}
	if len(t.keys) > 0 {
		rename(root, t.keys)
	}
	return root, nil
}

// mustMerge reports whether the top level has keywords that the vendor does not accept.
func (t *topLevel) mustMerge(root *schemadoc.Value) bool {
	return slices.ContainsFunc(append(slices.Clone(t.rules.forbidden), refs...), func(keyword string) bool { return root.Get(keyword) != nil })
}

// mustBeObject returns an error if no object can meet the schema.
func mustBeObject(s *schemadoc.Value) error {
	if not := s.Get("not"); not.Is(true) || not != nil && not.Kind == schemadoc.Object && len(not.Members) == 0 {
		return errNever
	}
	switch kind := s.Get("type"); {
	case kind == nil || hasType(s, "object"):
		return nil
	case kind.Kind == schemadoc.String:
		return errors.New("its arguments are of type " + kind.Text + ", and vendors accept objects only")
	default:
		return errors.New("its arguments are of the types " + strings.Join(kind.Strings(), ", ") + ", and vendors accept objects only")
	}
}

// keepWhole keeps references to the top level and to its parts valid: they lead to
// a copy of it as it was.
func keepWhole(root, whole *schemadoc.Value) *schemadoc.Value {
	root = root.Clone() // its parts may be parts of other schemas, too
	inner := whole.Clone()
	inner.Delete("$defs", "definitions", "$schema", "$id")
	name := "whole"
	if defs := root.Get("$defs"); defs != nil {
		name = toolname.Unique(name, func(n string) bool { return defs.Get(n) == nil })
	}
	used := false
	redirect := func(_ string, s *schemadoc.Value) {
		ref := s.Get("$ref")
		if ref == nil || ref.Kind != schemadoc.String {
			return
		}
		at, ok := strings.CutPrefix(ref.Text, "#")
		if !ok || at != "" && !strings.HasPrefix(at, "/") || strings.HasPrefix(at, "/$defs/") || strings.HasPrefix(at, "/definitions/") {
			return
		}
		used = true
		s.Set("$ref", schemadoc.NewString("#/$defs/"+name+at))
	}
	schemadoc.Walk(root, redirect)
	if !used {
		return root
	}
	schemadoc.Walk(inner, redirect)
	if root.Get("$defs") == nil {
		root.Set("$defs", schemadoc.NewObject())
	}
	root.Get("$defs").Set(name, inner)
	return root
}

// chooseKeys names the properties that the vendor does not accept.
func (t *topLevel) chooseKeys(properties *schemadoc.Value) {
	if t.rules.key == nil {
		return
	}
	taken := map[string]bool{}
	for _, m := range properties.Members {
		taken[m.Name] = true
	}
	for _, m := range properties.Members {
		if t.rules.key.MatchString(m.Name) {
			continue
		}
		name := toolname.Unique(toolname.Plain(m.Name, "argument", "_.-"), func(n string) bool { return !taken[n] })
		taken[name] = true
		if t.keys == nil {
			t.keys = keys{}
		}
		t.keys[m.Name] = name
	}
}

// rename gives the properties of a schema their vendor names, wherever the schema
// names them.
func rename(s *schemadoc.Value, k keys) {
	for _, m := range s.Members {
		switch m.Name {
		case "properties", "dependentSchemas":
			renameMembers(m.Value, k)
		case "required":
			renameStrings(m.Value, k)
		case "dependentRequired", "dependencies":
			renameMembers(m.Value, k)
			for _, entry := range m.Value.Members {
				if entry.Value.Kind == schemadoc.Array {
					renameStrings(entry.Value, k)
				}
			}
		case "default", "const":
			renameMembers(m.Value, k)
		case "examples", "enum":
			for _, item := range m.Value.Items {
				renameMembers(item, k)
			}
		}
	}
	s.Delete("propertyNames") // is about the original names
	for _, sub := range schemadoc.Subschemas(s) {
		if schemadoc.InPlace(sub.Keyword) {
			rename(sub.Schema, k)
		}
	}
}

func renameMembers(v *schemadoc.Value, k keys) {
	for i := range v.Members {
		v.Members[i].Name = k.vendor(v.Members[i].Name)
	}
}

func renameStrings(v *schemadoc.Value, k keys) {
	for _, item := range v.Items {
		if item.Kind == schemadoc.String {
			item.Text = k.vendor(item.Text)
		}
	}
}
