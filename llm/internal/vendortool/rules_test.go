package vendortool_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"unicode/utf8"

	"github.com/webtrigger-go/webtrigger/llm/internal/vendortool"
)

// accepts is the vendors' rules as their errors state them, written without the
// package's own code.
func accepts(vendor string, tools []vendortool.Tool) error {
	names := map[string]bool{}
	for _, tool := range tools {
		if !regexp.MustCompile(`\A[a-zA-Z0-9_-]{1,64}\z`).MatchString(tool.Name) || names[tool.Name] {
			return fmt.Errorf("name %q", tool.Name)
		}
		names[tool.Name] = true
		if !utf8.ValidString(tool.Description) || !utf8.Valid(tool.Schema) {
			return fmt.Errorf("%s: not UTF-8", tool.Name)
		}
		var schema map[string]any
		if err := json.Unmarshal(tool.Schema, &schema); err != nil {
			return fmt.Errorf("%s: %w", tool.Name, err)
		}
		properties, ok := schema["properties"].(map[string]any)
		if schema["type"] != "object" || !ok {
			return fmt.Errorf("%s: not an object with properties: %s", tool.Name, tool.Schema)
		}
		forbidden := []string{"anyOf", "oneOf", "allOf"}
		if vendor == "openai" {
			forbidden = append(forbidden, "enum", "not")
			if utf8.RuneCountInString(tool.Description) > 1024 {
				return fmt.Errorf("%s: description", tool.Name)
			}
		}
		for _, keyword := range forbidden {
			if _, ok := schema[keyword]; ok {
				return fmt.Errorf("%s: %s at the top level", tool.Name, keyword)
			}
		}
		if vendor == "anthropic" {
			for key := range properties {
				if !regexp.MustCompile(`\A[a-zA-Z0-9_.-]{1,64}\z`).MatchString(key) {
					return fmt.Errorf("%s: property %q", tool.Name, key)
				}
			}
		}
		if err := acceptsSchema(vendor, schema, schema); err != nil {
			return fmt.Errorf("%s: %w in %s", tool.Name, err, tool.Schema)
		}
	}
	if vendor == "openai" && len(tools) > 128 {
		return fmt.Errorf("%d tools", len(tools))
	}
	return nil
}

// acceptsSchema checks one schema and those in it, as far as draft 2020-12 defines
// the forms of keywords.
func acceptsSchema(vendor string, root, s map[string]any) error {
	types, _ := s["type"].([]any)
	if one, ok := s["type"]; ok && types == nil {
		types = []any{one}
	}
	for _, t := range types {
		switch t {
		case "null", "boolean", "object", "array", "number", "integer", "string":
		default:
			return fmt.Errorf("type %v", t)
		}
		if _, ok := s["items"]; t == "array" && !ok && vendor == "openai" {
			return fmt.Errorf("array schema missing items")
		}
		if _, ok := s["properties"]; t == "object" && !ok && vendor == "openai" {
			return fmt.Errorf("object schema missing properties")
		}
	}
	for keyword, value := range s {
		var subs []any
		switch keyword {
		case "items", "contains", "not", "if", "then", "else", "propertyNames", "contentSchema":
			subs = []any{value}
		case "additionalProperties", "unevaluatedProperties", "unevaluatedItems":
			if _, ok := value.(bool); !ok {
				subs = []any{value}
			}
		case "anyOf", "oneOf", "allOf", "prefixItems":
			list, _ := value.([]any)
			if subs = list; len(list) == 0 {
				return fmt.Errorf("%s is not a list of schemas", keyword)
			}
		case "properties", "$defs", "definitions", "patternProperties", "dependentSchemas":
			named, ok := value.(map[string]any)
			if !ok {
				return fmt.Errorf("%s is not an object", keyword)
			}
			for _, sub := range named {
				subs = append(subs, sub)
			}
		case "required":
			list, ok := value.([]any)
			if seen := map[any]bool{}; !ok {
				return fmt.Errorf("required is not a list")
			} else {
				for _, name := range list {
					if _, ok := name.(string); !ok || seen[name] {
						return fmt.Errorf("required %v", list)
					}
					seen[name] = true
				}
			}
		case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minItems", "maxItems":
			if _, ok := value.(float64); !ok {
				return fmt.Errorf("%s is not a number", keyword)
			}
		case "title", "description", "pattern", "format", "$ref":
			if _, ok := value.(string); !ok {
				return fmt.Errorf("%s is not a string", keyword)
			}
		}
		for _, sub := range subs {
			inner, ok := sub.(map[string]any)
			if !ok {
				return fmt.Errorf("a schema in %s is not an object", keyword)
			}
			if err := acceptsSchema(vendor, root, inner); err != nil {
				return err
			}
		}
	}
	return nil
}
