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
	g := gatherer{root: root, moved: map[string]string{}, numbers: map[string]int{}}
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

// maxMoved is how much Gather moves, in bytes. Schemas within each other move once for
// each, so without a limit a small document could fill the memory. A reference beyond it
// stays as it is.
const maxMoved = 2 << 20

type gatherer struct {
	root, hidden *Value
	moved        map[string]string // names in $defs by pointer
	numbers      map[string]int    // by name: how many schemas moved to it
	size         int               // of what was moved, in bytes
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

// move returns the name in $defs of the schema at a pointer, if that is not a position
// of a schema.
func (g *gatherer) move(pointer string) (name string, ok bool) {
	if name, ok = g.moved[pointer]; ok {
		return name, true
	}
	at := pointer
	if rest, found := strings.CutPrefix(pointer, "/definitions/"); found && g.hidden != nil {
		at = "/" + hiddenName + "/" + rest
	}
	target := g.root.At(at)
	if target == nil || !isSchema(target) || isPlace(g.root, at) || g.size > maxMoved {
		return "", false
	}
	if g.size += len(target.JSON()); g.size > maxMoved {
		return "", false
	}
	defs := g.root.Get("$defs")
	if defs == nil || defs.Kind != Object {
		defs = NewObject()
		g.root.Set("$defs", defs)
	}
	name = pointerUnescape.Replace(pointer[strings.LastIndexByte(pointer, '/')+1:])
	for base := name; defs.Get(name) != nil; name = base + "_" + strconv.Itoa(g.numbers[base]+1) {
		g.numbers[base]++ // the next schema of this name begins behind it
	}
	g.moved[pointer] = name
	copied := target.Clone()
	defs.Set(name, copied)
	g.schema(copied)
	return name, true
}

// isPlace reports whether a pointer leads through keywords only that hold schemas.
func isPlace(s *Value, pointer string) bool {
	steps := strings.Split(pointer, "/")[1:]
	for len(steps) > 0 {
		keyword := pointerUnescape.Replace(steps[0])
		held, form := s.Get(keyword), keywords[keyword]
		byName := form == formSchemaMap || form == formDependencies
		switch {
		case held == nil || !byName && form != formSchema && form != formSchemas && form != formItems:
			return false
		case !byName && held.Kind != Array:
			s, steps = held, steps[1:]
			continue
		case len(steps) == 1:
			return false
		}
		s, steps = held.At("/"+steps[1]), steps[2:]
		if s == nil || form == formDependencies && s.Kind == Array {
			return false
		}
	}
	return true
}
