package openai

import (
	"encoding/json"
	"maps"
	"slices"
)

// node is a JSON Schema, or a part of one, word by word.
type node map[string]json.RawMessage

func (n node) isObject() bool { return string(n["type"]) == `"object"` }

// isObject reports whether a schema describes an object and nothing else.
func isObject(schema json.RawMessage) bool {
	var n node
	return json.Unmarshal(schema, &n) == nil && n.isObject()
}

// isStrict reports whether a schema is surely of the part of JSON Schema that the
// API enforces (strict): every object closed and all of its properties required,
// and no word but those below. Any other schema is sent as a guide that the model
// may miss; to bend it until it fits would change what it means.
//
// https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
func isStrict(schema json.RawMessage) bool {
	var n node
	return json.Unmarshal(schema, &n) == nil && n.isObject() && n.strict(1)
}

// maxStrictDepth is how deep the API permits schemas to nest.
const maxStrictDepth = 10

func (n node) strict(depth int) bool {
	if n == nil || depth > maxStrictDepth {
		return false
	}
	for word, value := range n {
		switch word {
		case "type", "title", "description", "enum", "const", "$ref", "pattern", "format", "minItems", "maxItems",
			"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf":
		case "properties", "required", "additionalProperties":
			if !n.isObject() {
				return false
			}
		case "items":
			var items node
			if json.Unmarshal(value, &items) != nil || !items.strict(depth+1) {
				return false
			}
		case "anyOf":
			var of []node
			if depth == 1 || json.Unmarshal(value, &of) != nil || !allStrict(of, depth) {
				return false
			}
		case "$defs":
			var defs map[string]node
			if json.Unmarshal(value, &defs) != nil || !allStrict(slices.Collect(maps.Values(defs)), depth) {
				return false
			}
		default:
			return false
		}
	}
	return !n.isObject() || n.closed(depth)
}

// closed reports whether an object's properties are all required, all strict, and
// all there are.
func (n node) closed(depth int) bool {
	var properties map[string]node
	var required []string
	if json.Unmarshal(n["properties"], &properties) != nil || json.Unmarshal(n["required"], &required) != nil ||
		string(n["additionalProperties"]) != "false" || len(required) != len(properties) {
		return false
	}
	for name := range properties {
		if !slices.Contains(required, name) {
			return false
		}
	}
	return allStrict(slices.Collect(maps.Values(properties)), depth)
}

func allStrict(nodes []node, depth int) bool {
	return !slices.ContainsFunc(nodes, func(n node) bool { return !n.strict(depth + 1) })
}
