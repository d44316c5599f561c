package anthropic

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
)

// nativeSchema returns the schema in the form from which the API can make a grammar.
// If there is no such form, it returns nil, and only the prompt asks for the schema.
// The vendor's SDKs convert schemas in the same way; its Go SDK does so only for Go types.
//
// The result omits limits on values and closes objects. A value that meets it has the
// shape that the schema describes. The caller then checks the value against the original
// schema. For a schema whose shape depends on keywords that no grammar supports, it
// returns nil.
//
// https://platform.claude.com/docs/en/build-with-claude/structured-outputs
func nativeSchema(output llm.OutputFormat) json.RawMessage {
	if output.Type != webtrigger.OutputJSON || output.Schema == nil {
		return nil
	}
	schema, ok := shape(output.Schema, 1)
	if !ok {
		return nil
	}
	return schema
}

// maxDepth bounds how deep schemas may nest.
const maxDepth = 32

// shape is one schema, word by word in the order written.
func shape(schema json.RawMessage, depth int) (json.RawMessage, bool) {
	words, ok := members(schema)
	if !ok || depth > maxDepth {
		return nil, false
	}
	if words.value("$ref") != nil {
		for _, w := range words { // the API accepts it only alone
			if !slices.Contains([]string{"$ref", "description", "title", "$comment", "$defs"}, w.name) {
				return nil, false
			}
		}
	}
	var kept object
	for _, w := range words {
		switch w.name {
		case "type", "enum", "const", "description", "title", "$ref", "required":
			kept = append(kept, w)
		case "format":
			if slices.Contains(formats, string(w.value)) {
				kept = append(kept, w)
			}
		case "minItems":
			if s := string(w.value); s == "0" || s == "1" {
				kept = append(kept, w)
			}
		case "items":
			inner, ok := shape(w.value, depth+1)
			if !ok {
				return nil, false
			}
			kept = append(kept, member{w.name, inner})
		case "anyOf", "allOf", "oneOf":
			inner, ok := shapes(w.value, depth)
			if !ok || (w.name == "oneOf" && words.value("anyOf") != nil) {
				return nil, false
			}
			if w.name == "oneOf" {
				w.name = "anyOf"
			}
			kept = append(kept, member{w.name, inner})
		case "properties", "$defs", "definitions":
			inner, ok := shapesByName(w.value, depth)
			if !ok {
				return nil, false
			}
			kept = append(kept, member{w.name, inner})
		case "additionalProperties": // below
		default:
			if !slices.Contains(limits, w.name) {
				return nil, false
			}
		}
	}
	if string(words.value("type")) == `"object"` {
		if !closable(words) {
			return nil, false
		}
		kept = append(kept, member{"additionalProperties", json.RawMessage(`false`)})
	} else if words.value("properties") != nil || words.value("additionalProperties") != nil {
		return nil, false
	}
	if len(kept) == 0 { // anything at all
		return nil, false
	}
	return kept.marshal(), true
}

// closable reports whether an object may be kept to the properties it names: it
// names some, and all that it requires.
func closable(words object) bool {
	properties, _ := members(words.value("properties"))
	var required []string
	if raw := words.value("required"); raw != nil && json.Unmarshal(raw, &required) != nil {
		return false
	}
	return len(properties) > 0 && !slices.ContainsFunc(required, func(name string) bool { return properties.value(name) == nil })
}

func shapes(list json.RawMessage, depth int) (json.RawMessage, bool) {
	var schemas []json.RawMessage
	if json.Unmarshal(list, &schemas) != nil || len(schemas) == 0 {
		return nil, false
	}
	for i := range schemas {
		var ok bool
		if schemas[i], ok = shape(schemas[i], depth+1); !ok {
			return nil, false
		}
	}
	raw, err := json.Marshal(schemas)
	return raw, err == nil
}

func shapesByName(named json.RawMessage, depth int) (json.RawMessage, bool) {
	schemas, ok := members(named)
	if !ok {
		return nil, false
	}
	for i := range schemas {
		if schemas[i].value, ok = shape(schemas[i].value, depth+1); !ok {
			return nil, false
		}
	}
	return schemas.marshal(), true
}

// limits are keywords that do not restrict the shape of a value.
var limits = []string{
	"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
	"minLength", "maxLength", "pattern", "maxItems", "uniqueItems", "minProperties", "maxProperties",
	"$schema", "$id", "$comment", "default", "examples", "deprecated", "readOnly", "writeOnly",
}

// formats that the API supports, as JSON.
var formats = []string{
	`"date-time"`, `"time"`, `"date"`, `"duration"`, `"email"`, `"hostname"`, `"uri"`, `"ipv4"`, `"ipv6"`, `"uuid"`,
}

// object is a JSON object that keeps its order: models write properties in the
// order of the schema.
type object []member

type member struct {
	name  string
	value json.RawMessage
}

func (o object) value(name string) json.RawMessage {
	for _, m := range o {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

func (o object) marshal() json.RawMessage {
	b := []byte{'{'}
	for i, m := range o {
		if i > 0 {
			b = append(b, ',')
		}
		name, _ := json.Marshal(m.name) // a string always marshals
		b = append(append(append(b, name...), ':'), m.value...)
	}
	return append(b, '}')
}

// members reads an object; ok is false for anything else.
func members(raw json.RawMessage) (o object, ok bool) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') {
		return nil, false
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, false
		}
		m := member{name: name.(string)} // of an object, a name is a string
		if decoder.Decode(&m.value) != nil {
			return nil, false
		}
		o = append(o, m)
	}
	_, err := decoder.Token()
	return o, err == nil
}
