// Package schemadoc reads JSON Schemas of any draft as ordered documents and
// translates them to one draft.
//
// Package llm uses it in front of its validator, and package vendortool in front
// of the vendors' APIs. Both need the same knowledge: which keyword holds a
// schema, what a keyword of an older draft means now, and where a reference leads.
package schemadoc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Kind is the JSON type of a Value.
type Kind int

// The kinds of a Value.
const (
	Null Kind = iota
	Bool
	Number
	String
	Array
	Object
)

// Value is a JSON value. Its objects keep the order of their members, in which
// models write properties.
type Value struct {
	Kind    Kind
	Bool    bool
	Text    string // of a string, its content; of a number, its digits as written
	Items   []*Value
	Members []Member
}

// Member is one entry of an object.
type Member struct {
	Name  string
	Value *Value
}

// Parse reads one JSON value. Of two members with the same name, the last one
// counts, as it does for most readers.
func Parse(raw []byte) (*Value, error) {
	if !json.Valid(raw) { // also bounds the depth
		return nil, errors.New("not valid JSON")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	return parse(dec)
}

func parse(dec *json.Decoder) (*Value, error) {
	token, err := dec.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	switch token := token.(type) {
	case nil:
		return new(Value), nil
	case bool:
		return &Value{Kind: Bool, Bool: token}, nil
	case json.Number:
		return &Value{Kind: Number, Text: token.String()}, nil
	case string:
		return NewString(token), nil
	case json.Delim:
		if token == '[' {
			return parseArray(dec)
		}
		return parseObject(dec)
	}
	return nil, fmt.Errorf("unexpected token %v", token)
}

func parseArray(dec *json.Decoder) (*Value, error) {
	v := &Value{Kind: Array}
	for dec.More() {
		item, err := parse(dec)
		if err != nil {
			return nil, err
		}
		v.Items = append(v.Items, item)
	}
	_, err := dec.Token()
	return v, err
}

func parseObject(dec *json.Decoder) (*Value, error) {
	v := NewObject()
	place := map[string]int{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string) // a name is always a string
		value, err := parse(dec)
		if err != nil {
			return nil, err
		}
		if i, ok := place[name]; ok {
			v.Members[i].Value = value
			continue
		}
		place[name] = len(v.Members)
		v.Members = append(v.Members, Member{name, value})
	}
	_, err := dec.Token()
	return v, err
}

// NewString returns a string value.
func NewString(s string) *Value { return &Value{Kind: String, Text: s} }

// NewStrings returns an array of strings.
func NewStrings(list []string) *Value {
	v := &Value{Kind: Array}
	for _, s := range list {
		v.Items = append(v.Items, NewString(s))
	}
	return v
}

// NewArray returns an array.
func NewArray(items ...*Value) *Value { return &Value{Kind: Array, Items: items} }

// NewObject returns an object. As a schema, the empty object accepts everything.
func NewObject(members ...Member) *Value { return &Value{Kind: Object, Members: members} }

// Get returns a member of an object, or nil.
func (v *Value) Get(name string) *Value {
	if v == nil {
		return nil
	}
	for _, m := range v.Members {
		if m.Name == name {
			return m.Value
		}
	}
	return nil
}

// Set sets a member of an object. It replaces the member with that name.
func (v *Value) Set(name string, value *Value) {
	for i := range v.Members {
		if v.Members[i].Name == name {
			v.Members[i].Value = value
			return
		}
	}
	v.Members = append(v.Members, Member{name, value})
}

// Delete removes members of an object.
func (v *Value) Delete(names ...string) {
	v.Members = slices.DeleteFunc(v.Members, func(m Member) bool { return slices.Contains(names, m.Name) })
}

// Is reports whether v is a boolean of this value.
func (v *Value) Is(b bool) bool { return v != nil && v.Kind == Bool && v.Bool == b }

// Strings returns the strings of an array.
func (v *Value) Strings() (list []string) {
	if v == nil {
		return nil
	}
	for _, item := range v.Items {
		if item.Kind == String {
			list = append(list, item.Text)
		}
	}
	return list
}

// Clone returns a deep copy.
func (v *Value) Clone() *Value {
	c := *v
	c.Items, c.Members = slices.Clone(v.Items), slices.Clone(v.Members)
	for i, item := range c.Items {
		c.Items[i] = item.Clone()
	}
	for i, m := range c.Members {
		c.Members[i].Value = m.Value.Clone()
	}
	return &c
}

// JSON returns v as compact JSON.
func (v *Value) JSON() json.RawMessage { return v.append(nil) }

func (v *Value) append(b []byte) []byte {
	switch v.Kind {
	case Bool:
		return strconv.AppendBool(b, v.Bool)
	case Number:
		return append(b, v.Text...)
	case String:
		return appendString(b, v.Text)
	case Array:
		b = append(b, '[')
		for i, item := range v.Items {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.append(b)
		}
		return append(b, ']')
	case Object:
		b = append(b, '{')
		for i, m := range v.Members {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, m.Name), ':')
			b = m.Value.append(b)
		}
		return append(b, '}')
	}
	return append(b, "null"...)
}

func appendString(b []byte, s string) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always encodes
	return append(b, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...)
}

var pointerEscape, pointerUnescape = strings.NewReplacer("~", "~0", "/", "~1"), strings.NewReplacer("~1", "/", "~0", "~")

// Escape returns a name as a step of a JSON Pointer.
func Escape(name string) string { return pointerEscape.Replace(name) }

// At returns the value that a JSON Pointer leads to, or nil.
func (v *Value) At(pointer string) *Value {
	if pointer == "" {
		return v
	}
	for _, step := range strings.Split(pointer, "/")[1:] {
		if v == nil {
			return nil
		}
		step = pointerUnescape.Replace(step)
		if v.Kind != Array {
			v = v.Get(step)
			continue
		}
		i, err := strconv.Atoi(step)
		if err != nil || i < 0 || i >= len(v.Items) {
			return nil
		}
		v = v.Items[i]
	}
	return v
}
