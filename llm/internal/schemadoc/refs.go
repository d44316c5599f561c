package schemadoc

import (
	"net/url"
	"strings"
)

// Refs finds what the references of a schema lead to. Nothing is ever loaded from
// elsewhere.
type Refs struct {
	root      *Value
	bases     map[*Value]*url.URL
	resources map[string]*Value // by URI
	anchors   map[string]*Value // by URI and fragment
}

// NewRefs reads the identities of all schemas within a schema.
func NewRefs(root *Value) *Refs {
	r := &Refs{root: root, bases: map[*Value]*url.URL{}, resources: map[string]*Value{"": root}, anchors: map[string]*Value{}}
	r.add(root, &url.URL{})
	return r
}

func (r *Refs) add(s *Value, base *url.URL) {
	if id := s.Get("$id"); id != nil && id.Kind == String {
		if u, err := url.Parse(id.Text); err == nil && strings.HasPrefix(id.Text, "#") {
			r.anchors[base.String()+id.Text] = s // draft-07
		} else if err == nil {
			base = base.ResolveReference(u)
			base.Fragment, base.RawFragment = "", ""
			r.resources[base.String()] = s
		}
	}
	r.bases[s] = base
	for _, keyword := range []string{"$anchor", "$dynamicAnchor"} {
		if a := s.Get(keyword); a != nil && a.Kind == String {
			r.anchors[base.String()+"#"+a.Text] = s
		}
	}
	for _, sub := range Subschemas(s) {
		r.add(sub.Schema, base)
	}
}

// Resolve returns the schema that a reference in the schema from leads to, or nil.
func (r *Refs) Resolve(from *Value, ref string) *Value {
	u, err := url.Parse(ref)
	if err != nil {
		return nil
	}
	if base := r.bases[from]; base != nil {
		u = base.ResolveReference(u)
	}
	fragment := u.Fragment
	u.Fragment, u.RawFragment = "", ""
	resource := r.resources[u.String()]
	var target *Value
	switch {
	case resource == nil:
	case fragment == "" || strings.HasPrefix(fragment, "/"):
		target = resource.At(fragment)
	default:
		target = r.anchors[u.String()+"#"+fragment]
	}
	if target == nil || !isSchema(target) {
		return nil
	}
	return target
}
