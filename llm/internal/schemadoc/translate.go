package schemadoc

import (
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// Loss is a keyword that Translate removed, because no supported draft gives it
// a meaning.
type Loss struct {
	Schema  *Value // the schema that the keyword was in
	Path    string // its JSON Pointer
	Keyword string
	Reason  string // a predicate, such as "must be a string"
}

// Names of drafts, as $schema has them.
const (
	Draft07   = "http://json-schema.org/draft-07/schema#"
	Draft2020 = "https://json-schema.org/draft/2020-12/schema"
)

// Draft returns the draft that a schema names: "2020-12", "2019-09", "07", "06",
// "04" or "03". It is "" if the schema names no draft, and the name itself if it
// is another one.
func Draft(schema *Value) string {
	name := schema.Get("$schema")
	if name == nil || name.Kind != String {
		return ""
	}
	s := strings.TrimSuffix(name.Text, "#")
	s = strings.TrimPrefix(strings.TrimPrefix(s, "https://"), "http://")
	switch s {
	case "json-schema.org/draft/2020-12/schema":
		return "2020-12"
	case "json-schema.org/draft/2019-09/schema":
		return "2019-09"
	case "json-schema.org/draft-07/schema":
		return "07"
	case "json-schema.org/draft-06/schema":
		return "06"
	case "json-schema.org/draft-04/schema":
		return "04"
	case "json-schema.org/draft-03/schema":
		return "03"
	case "json-schema.org/schema": // the newest one
		return ""
	}
	return name.Text
}

// Translate rewrites a schema in place to draft 2020-12. A keyword of an older
// draft becomes the keyword that means the same now. A keyword whose value has the
// wrong form is removed. If the value is null, this is not a loss.
//
// If tuples is false, a list in items stays, as draft-07 has it.
func Translate(schema *Value, tuples bool) []Loss {
	t := translator{tuples: tuples, alone: true}
	Walk(schema, func(path string, s *Value) {
		if path != "" && (s.Get("$id") != nil || s.Get("$recursiveAnchor") != nil) {
			t.alone = false
		}
	})
	t.schema(schema, "")
	return t.losses
}

type translator struct {
	tuples bool
	alone  bool // no schema within the schema has an identity of its own
	losses []Loss
}

func (t *translator) lose(s *Value, path, keyword, reason string) {
	t.losses = append(t.losses, Loss{s, path, keyword, reason})
}

func (t *translator) schema(s *Value, path string) {
	if s.Kind != Object {
		return
	}
	t.exclusive(s, path, "exclusiveMinimum", "minimum")
	t.exclusive(s, path, "exclusiveMaximum", "maximum")
	t.recursive(s, path)
	kept := s.Members[:0:0]
	for _, m := range s.Members {
		f, known := keywords[m.Name]
		switch {
		case !known:
			kept = append(kept, m)
		case m.Value.Kind == Null && f != formAny:
		default:
			if reason := t.keyword(f, s, m.Value, path, m.Name); reason != "" {
				t.lose(s, path, m.Name, reason)
				continue
			}
			kept = append(kept, m)
		}
	}
	s.Members = kept
	if t.tuples {
		tuple(s)
	}
}

// exclusive translates draft-04, where exclusiveMinimum is a boolean about minimum.
func (t *translator) exclusive(s *Value, path, exclusive, limit string) {
	flag := s.Get(exclusive)
	if flag == nil || flag.Kind != Bool {
		return
	}
	value := s.Get(limit)
	if !flag.Bool || value == nil || value.Kind != Number {
		s.Delete(exclusive)
		return
	}
	s.Set(exclusive, value)
	s.Delete(limit)
}

// recursive translates draft 2019-09, where $recursiveRef is always "#". Without
// other resources in the schema, it means the schema itself.
func (t *translator) recursive(s *Value, path string) {
	ref := s.Get("$recursiveRef")
	switch {
	case ref == nil:
	case t.alone && ref.Kind == String && ref.Text == "#" && s.Get("$ref") == nil:
		for i := range s.Members {
			if s.Members[i].Name == "$recursiveRef" {
				s.Members[i].Name = "$ref"
			}
		}
	default:
		t.lose(s, path, "$recursiveRef", "is supported only in a schema without $id in its parts")
		s.Delete("$recursiveRef")
	}
	s.Delete("$recursiveAnchor")
}

// tuple translates a list in items to prefixItems.
func tuple(s *Value) {
	items, rest := s.Get("items"), s.Get("additionalItems")
	if items == nil || items.Kind != Array {
		return
	}
	s.Delete("additionalItems")
	if len(items.Items) == 0 || s.Get("prefixItems") != nil {
		s.Delete("items")
	} else {
		for i := range s.Members {
			if s.Members[i].Name == "items" {
				s.Members[i].Name = "prefixItems"
			}
		}
	}
	if rest != nil {
		s.Set("items", rest)
	}
}

// keyword checks the value of a keyword and translates the schemas in it. It
// returns why the keyword cannot be used, or "".
func (t *translator) keyword(f form, s, v *Value, path, name string) (reason string) {
	at := path + "/" + Escape(name)
	switch f {
	case formSchema:
		return t.sub(v, at)
	case formSchemas:
		return t.subs(v, at)
	case formItems:
		if v.Kind == Array {
			if len(v.Items) == 0 {
				return ""
			}
			return t.subs(v, at)
		}
		return t.sub(v, at)
	case formSchemaMap, formDependencies:
		return t.subsByName(f, s, v, path, name)
	case formString:
		return unless(v.Kind == String, "must be a string")
	case formBool:
		return unless(v.Kind == Bool, "must be a boolean")
	case formCount:
		return count(v)
	case formNumber:
		_, err := strconv.ParseFloat(v.Text, 64)
		return unless(v.Kind == Number && err == nil, "must be a number that is not too large")
	case formFactor:
		n, ok := new(big.Float).SetString(v.Text)
		_, err := strconv.ParseFloat(v.Text, 64)
		return unless(v.Kind == Number && ok && err == nil && n.Sign() > 0, "must be greater than 0")
	case formList:
		return unless(v.Kind == Array, "must be a list")
	case formNames:
		return names(v)
	case formNameMap:
		if v.Kind != Object {
			return "must be an object"
		}
		for _, m := range v.Members {
			if reason := names(m.Value); reason != "" {
				return reason
			}
		}
	case formType:
		return types(v)
	}
	return ""
}

func unless(ok bool, reason string) string {
	if ok {
		return ""
	}
	return reason
}

const notSchema = "must be a JSON object or a boolean"

func isSchema(v *Value) bool { return v.Kind == Object || v.Kind == Bool }

func (t *translator) sub(v *Value, at string) string {
	if !isSchema(v) {
		return notSchema
	}
	t.schema(v, at)
	return ""
}

func (t *translator) subs(v *Value, at string) string {
	if v.Kind != Array || len(v.Items) == 0 {
		return "must be a list of schemas"
	}
	for i, s := range v.Items {
		if !isSchema(s) {
			return "must be a list of schemas"
		}
		t.schema(s, at+"/"+strconv.Itoa(i))
	}
	return ""
}

// subsByName loses a schema that is not one, and keeps its name: a property with
// an unusable schema is a property still.
func (t *translator) subsByName(f form, s, v *Value, path, name string) string {
	if v.Kind != Object {
		return "must be an object"
	}
	for i, m := range v.Members {
		step := Escape(name) + "/" + Escape(m.Name)
		switch {
		case isSchema(m.Value):
			t.schema(m.Value, path+"/"+step)
		case f == formDependencies && names(m.Value) == "":
		default:
			t.lose(s, path, step, notSchema)
			v.Members[i].Value = NewObject()
		}
	}
	return ""
}

// count makes an integer of a number such as 1.0.
func count(v *Value) string {
	const reason = "must be an integer that is not negative"
	n, ok := new(big.Float).SetString(v.Text)
	if v.Kind != Number || !ok || !n.IsInt() || n.Sign() < 0 {
		return reason
	}
	i, accuracy := n.Int64()
	if accuracy != big.Exact {
		return reason
	}
	v.Text = strconv.FormatInt(i, 10)
	return ""
}

// names drops names that are listed twice.
func names(v *Value) string {
	if v.Kind != Array || len(v.Strings()) != len(v.Items) {
		return "must be a list of strings"
	}
	seen := map[string]bool{}
	v.Items = slices.DeleteFunc(v.Items, func(item *Value) bool {
		again := seen[item.Text]
		seen[item.Text] = true
		return again
	})
	return ""
}

var typeNames = []string{"null", "boolean", "object", "array", "number", "integer", "string"}

func types(v *Value) string {
	list := []*Value{v}
	if v.Kind == Array {
		if names(v) != "" || len(v.Items) == 0 {
			return "must be a type or a list of types"
		}
		list = v.Items
	}
	for _, item := range list {
		if item.Kind != String {
			return "must be a type or a list of types"
		}
		if !slices.Contains(typeNames, item.Text) {
			return "must not be " + strconv.Quote(cut(item.Text, 64)) + ", which is not a type"
		}
	}
	return ""
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
