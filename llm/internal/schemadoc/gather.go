package schemadoc

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Gather makes every schema that a reference leads to a schema of $defs, where it
// is in a place that no keyword makes a schema: #/components/schemas/… of OpenAPI,
// for example. If a schema has definitions besides $defs, Gather moves these, too,
// because validators read only one of the two.
func Gather(root *Value) {
	g := gatherer{root: root, moved: map[string]string{}}
	if both(root) {
		g.hidden = root.Get("definitions")
		i := slices.IndexFunc(root.Members, func(m Member) bool { return m.Name == "definitions" })
		root.Members[i].Name = hiddenName
	}
	g.schema(root)
	root.Delete(hiddenName)
}

// hiddenName is where definitions are while Gather moves them.
const hiddenName = "\x00definitions"

func both(s *Value) bool {
	defs, definitions := s.Get("$defs"), s.Get("definitions")
	return defs != nil && defs.Kind == Object && definitions != nil && definitions.Kind == Object
}

type gatherer struct {
	root, hidden *Value
	moved        map[string]string // names in $defs by pointer
}

// schema rewrites the references in s. It walks without Walk, because it adds to
// $defs on the way; what it adds there, it walks itself.
func (g *gatherer) schema(s *Value) {
	if ref := s.Get("$ref"); ref != nil && ref.Kind == String && strings.HasPrefix(ref.Text, "#/") {
		if u, err := url.Parse(ref.Text); err == nil {
			if to, ok := g.move(u.Fragment); ok {
				s.Set("$ref", NewString((&url.URL{Fragment: "/$defs/" + Escape(to)}).String()))
			}
		}
	}
	for _, sub := range Subschemas(s) {
		g.schema(sub.Schema)
	}
}

// move returns the name in $defs of the schema that a pointer leads to, if it is
// not in the place of a schema.
func (g *gatherer) move(pointer string) (name string, ok bool) {
	if name, ok = g.moved[pointer]; ok {
		return name, true
	}
	at := pointer
	if rest, found := strings.CutPrefix(pointer, "/definitions/"); found && g.hidden != nil {
		at = "/" + hiddenName + "/" + rest
	}
	target := g.root.At(at)
	if target == nil || !isSchema(target) || isPlace(g.root, at) {
		return "", false
	}
	defs := g.root.Get("$defs")
	if defs == nil || defs.Kind != Object {
		defs = NewObject()
		g.root.Set("$defs", defs)
	}
	name = pointerUnescape.Replace(pointer[strings.LastIndexByte(pointer, '/')+1:])
	for base, n := name, 2; defs.Get(name) != nil; n++ {
		name = base + "_" + strconv.Itoa(n)
	}
	g.moved[pointer] = name
	copied := target.Clone()
	defs.Set(name, copied)
	g.schema(copied)
	return name, true
}

// isPlace reports whether a pointer leads through keywords only that hold schemas.
func isPlace(s *Value, pointer string) bool {
	if pointer == "" {
		return true
	}
	for _, sub := range Subschemas(s) {
		if rest, ok := strings.CutPrefix(pointer, sub.Path); ok && (rest == "" || rest[0] == '/') && isPlace(sub.Schema, rest) {
			return true
		}
	}
	return false
}
