package llm

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// graph is a schema with its subschemas and their references. It serves two purposes
// that the jsonschema package does not: to reject a reference that leads back to itself
// without descending into the value (the validator would recurse until the process
// exits), and to find the place of a violation in the value.
type graph struct {
	nodes     []*node
	byPath    map[string]*node
	resources map[string]*node   // by URI: the root and what has an $id
	anchors   map[string]*node   // by URI and fragment
	dynamic   map[string][]*node // by $dynamicAnchor
}

// node is one schema of a graph.
type node struct {
	*jsonschema.Schema
	path    string   // JSON Pointer from the root
	base    *url.URL // what its references are relative to
	root    string   // the path of the schema that base names
	subs    []sub
	ref     *node
	inPlace []*node // schemas that apply to the same value: references and applicators
}

// sub is a schema within a schema. Those in place apply to the same value.
type sub struct {
	keyword string
	name    string // its key or index within the keyword; "": the keyword is the schema
	*jsonschema.Schema
	inPlace bool
	node    *node
}

func newGraph(root *jsonschema.Schema, raw any) (*graph, error) {
	g := &graph{byPath: map[string]*node{}, resources: map[string]*node{}, anchors: map[string]*node{}, dynamic: map[string][]*node{}}
	if _, err := g.add(root, raw, "", &url.URL{}, ""); err != nil {
		return nil, err
	}
	for _, n := range g.nodes {
		if err := g.link(n); err != nil {
			return nil, err
		}
	}
	return g, g.checkCycles()
}

// add enters a schema and what is in it. raw is the same in plain JSON values.
func (g *graph) add(s *jsonschema.Schema, raw any, path string, base *url.URL, rootPath string) (*node, error) {
	if s == nil {
		return nil, fmt.Errorf("%s: must be a JSON object or a boolean, not null", place(path))
	}
	n := &node{Schema: s, path: path, base: base, root: rootPath}
	if s.ID != "" && !strings.HasPrefix(s.ID, "#") {
		id, err := url.Parse(s.ID)
		if err != nil {
			return nil, fmt.Errorf("%s: $id: %w", place(path), err)
		}
		n.base, n.root = base.ResolveReference(id), path
	}
	g.nodes = append(g.nodes, n)
	g.byPath[path] = n
	if path == "" {
		g.resources[base.String()] = n
	}
	if n.root == path {
		g.resources[n.base.String()] = n
	}
	for _, anchor := range []string{s.Anchor, s.DynamicAnchor, strings.TrimPrefix(s.ID, "#")} {
		g.anchors[n.root+"#"+anchor] = n
	}
	if s.DynamicAnchor != "" {
		g.dynamic[s.DynamicAnchor] = append(g.dynamic[s.DynamicAnchor], n)
	}
	object, _ := raw.(map[string]any)
	if err := checkKeywords(s, path); err != nil {
		return nil, err
	}
	exact(s, object)
	n.subs = subschemas(s)
	for i, child := range n.subs {
		at, value := path+"/"+child.keyword, object[child.keyword]
		if child.name != "" {
			at += "/" + escapePointer(child.name)
			value = member(value, child.name)
		}
		added, err := g.add(child.Schema, value, at, n.base, n.root)
		if err != nil {
			return nil, err
		}
		n.subs[i].node = added
		if child.inPlace {
			n.inPlace = append(n.inPlace, added)
		}
	}
	return n, nil
}

// checkKeywords rejects keywords that the jsonschema package accepts although no
// value can pass them.
func checkKeywords(s *jsonschema.Schema, path string) error {
	for _, t := range append([]string{s.Type}, s.Types...) {
		switch t {
		case "", "null", "boolean", "object", "array", "number", "integer", "string":
		default:
			return fmt.Errorf("%s: there is no type %q", place(path), wire.Truncate(t, 64))
		}
	}
	if s.MultipleOf != nil && *s.MultipleOf <= 0 {
		return fmt.Errorf("%s: multipleOf must be greater than 0", place(path))
	}
	return nil
}

// exact puts the numbers of enum and const as they were written; the jsonschema
// package has read them as float64.
func exact(s *jsonschema.Schema, raw map[string]any) {
	if enum, ok := raw["enum"].([]any); ok && len(enum) == len(s.Enum) {
		s.Enum = enum
	}
	if value, ok := raw["const"]; ok && s.Const != nil {
		s.Const = &value
	}
}

// member is an entry of an object or array; nil when there is none.
func member(v any, name string) any {
	switch v := v.(type) {
	case map[string]any:
		return v[name]
	case []any:
		if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(v) {
			return v[i]
		}
	}
	return nil
}

// link resolves what n refers to.
func (g *graph) link(n *node) error {
	if n.Ref != "" {
		target, err := g.resolve(n, n.Ref)
		if err != nil {
			return fmt.Errorf("%s: $ref: %w", place(n.path), err)
		}
		n.ref = target
		n.inPlace = append(n.inPlace, target)
	}
	if n.DynamicRef != "" {
		target, err := g.resolve(n, n.DynamicRef)
		if err != nil {
			return fmt.Errorf("%s: $dynamicRef: %w", place(n.path), err)
		}
		// The value decides which of the anchors applies.
		n.inPlace = append(append(n.inPlace, target), g.dynamic[target.DynamicAnchor]...)
	}
	return nil
}

func (g *graph) resolve(n *node, ref string) (*node, error) {
	u, err := url.Parse(ref)
	if err != nil {
		return nil, err
	}
	u = n.base.ResolveReference(u)
	fragment := u.Fragment
	u.Fragment, u.RawFragment = "", ""
	resource := g.resources[u.String()]
	if resource == nil {
		return nil, fmt.Errorf("%q is not within the schema, and nothing is loaded from elsewhere", wire.Truncate(ref, 256))
	}
	target := resource
	if strings.HasPrefix(fragment, "/") {
		target = g.byPath[resource.path+normalPointer(fragment)]
	} else if fragment != "" {
		target = g.anchors[resource.path+"#"+fragment]
	}
	if target == nil {
		return nil, fmt.Errorf("%q points to no schema", wire.Truncate(ref, 256))
	}
	return target, nil
}

// checkCycles rejects a schema that applies to a value by applying to the same value.
func (g *graph) checkCycles() error {
	const underWay, done = 1, 2
	state := make(map[*node]int, len(g.nodes))
	var visit func(n *node) error
	visit = func(n *node) error {
		switch state[n] {
		case underWay:
			return fmt.Errorf("%s: refers to itself without end", place(n.path))
		case done:
			return nil
		}
		state[n] = underWay
		for _, next := range n.inPlace {
			if err := visit(next); err != nil {
				return err
			}
		}
		state[n] = done
		return nil
	}
	for _, n := range g.nodes {
		if err := visit(n); err != nil {
			return err
		}
	}
	return nil
}

// subschemas lists the schemas within s in a fixed order.
func subschemas(s *jsonschema.Schema) (subs []sub) {
	one := func(keyword string, child *jsonschema.Schema, inPlace bool) {
		if child != nil {
			subs = append(subs, sub{keyword: keyword, Schema: child, inPlace: inPlace})
		}
	}
	list := func(keyword string, children []*jsonschema.Schema, inPlace bool) {
		for i, child := range children {
			subs = append(subs, sub{keyword: keyword, name: strconv.Itoa(i), Schema: child, inPlace: inPlace})
		}
	}
	byName := func(keyword string, children map[string]*jsonschema.Schema, inPlace bool) {
		for _, name := range slices.Sorted(maps.Keys(children)) {
			subs = append(subs, sub{keyword: keyword, name: name, Schema: children[name], inPlace: inPlace})
		}
	}
	list("allOf", s.AllOf, true)
	list("anyOf", s.AnyOf, true)
	list("oneOf", s.OneOf, true)
	one("not", s.Not, true)
	one("if", s.If, true)
	one("then", s.Then, true)
	one("else", s.Else, true)
	byName("dependentSchemas", s.DependentSchemas, true)
	byName("dependencies", s.DependencySchemas, true)
	byName("properties", s.Properties, false)
	byName("patternProperties", s.PatternProperties, false)
	one("additionalProperties", s.AdditionalProperties, false)
	one("unevaluatedProperties", s.UnevaluatedProperties, false)
	one("propertyNames", s.PropertyNames, false)
	list("prefixItems", s.PrefixItems, false)
	list("items", s.ItemsArray, false)
	one("items", s.Items, false)
	one("additionalItems", s.AdditionalItems, false)
	one("unevaluatedItems", s.UnevaluatedItems, false)
	one("contains", s.Contains, false)
	one("contentSchema", s.ContentSchema, false)
	byName("$defs", s.Defs, false)
	byName("definitions", s.Definitions, false)
	return subs
}

func escapePointer(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// normalPointer is a JSON Pointer in the one spelling that paths have.
func normalPointer(pointer string) string {
	parts := strings.Split(pointer, "/")
	for i, part := range parts {
		parts[i] = escapePointer(strings.NewReplacer("~0", "~", "~1", "/").Replace(part))
	}
	return strings.Join(parts, "/")
}

// place describes a position for people.
func place(pointer string) string {
	if pointer == "" {
		return "the top level"
	}
	return wire.Truncate(pointer, 256)
}
