package schemadoc

import (
	"slices"
	"strconv"
)

// form is what the value of a keyword must be.
type form int

const (
	formAny form = iota
	formSchema
	formSchemas      // a list of schemas, not empty
	formSchemaMap    // schemas by name
	formItems        // a schema, or in older drafts a list
	formDependencies // schemas or lists of names, by name
	formString
	formBool
	formCount  // a non-negative integer
	formNumber // a number
	formFactor // a number greater than 0
	formList
	formNames   // a list of different strings
	formNameMap // such lists by name
	formType
)

// keywords are those whose form draft 2020-12 defines, and those of older drafts
// that a validator still reads. Any other keyword may have any value.
var keywords = map[string]form{
	"additionalProperties": formSchema, "unevaluatedProperties": formSchema, "propertyNames": formSchema,
	"additionalItems": formSchema, "unevaluatedItems": formSchema, "contains": formSchema, "contentSchema": formSchema,
	"not": formSchema, "if": formSchema, "then": formSchema, "else": formSchema,
	"allOf": formSchemas, "anyOf": formSchemas, "oneOf": formSchemas, "prefixItems": formSchemas,
	"properties": formSchemaMap, "patternProperties": formSchemaMap, "$defs": formSchemaMap, "definitions": formSchemaMap,
	"dependentSchemas": formSchemaMap,
	"items":            formItems, "dependencies": formDependencies,
	"$schema": formString, "$id": formString, "$ref": formString, "$anchor": formString, "$dynamicRef": formString,
	"$dynamicAnchor": formString, "$recursiveRef": formString, "$comment": formString, "title": formString,
	"description": formString, "pattern": formString, "format": formString, "contentEncoding": formString,
	"contentMediaType": formString,
	"uniqueItems":      formBool, "deprecated": formBool, "readOnly": formBool, "writeOnly": formBool, "$recursiveAnchor": formBool,
	"minLength": formCount, "maxLength": formCount, "minItems": formCount, "maxItems": formCount, "minProperties": formCount,
	"maxProperties": formCount, "minContains": formCount, "maxContains": formCount,
	"minimum": formNumber, "maximum": formNumber, "exclusiveMinimum": formNumber, "exclusiveMaximum": formNumber,
	"multipleOf": formFactor,
	"enum":       formList, "examples": formList,
	"required": formNames, "dependentRequired": formNameMap, "type": formType,
}

// inPlace are the keywords whose schemas apply to the same value.
var inPlace = []string{"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies"}

// InPlace reports whether the schemas of a keyword apply to the value that the
// schema with this keyword applies to.
func InPlace(keyword string) bool { return slices.Contains(inPlace, keyword) }

// Sub is a schema within a schema.
type Sub struct {
	Keyword string
	Path    string // JSON Pointer from the schema that it is in
	Schema  *Value
}

// Subschemas returns the schemas directly within a schema, in the order written.
func Subschemas(schema *Value) (subs []Sub) {
	for _, m := range schema.Members {
		at := "/" + Escape(m.Name)
		switch form := keywords[m.Name]; form {
		case formSchema, formSchemas, formItems:
			if m.Value.Kind != Array {
				subs = append(subs, Sub{m.Name, at, m.Value})
				continue
			}
			for i, s := range m.Value.Items {
				subs = append(subs, Sub{m.Name, at + "/" + strconv.Itoa(i), s})
			}
		case formSchemaMap, formDependencies:
			for _, s := range m.Value.Members {
				if form == formSchemaMap || s.Value.Kind != Array {
					subs = append(subs, Sub{m.Name, at + "/" + Escape(s.Name), s.Value})
				}
			}
		}
	}
	return subs
}

// Walk calls visit for a schema and for all schemas within it, each with its JSON
// Pointer. A schema comes before the schemas in it.
func Walk(schema *Value, visit func(path string, schema *Value)) { walk(schema, "", visit) }

func walk(schema *Value, path string, visit func(path string, schema *Value)) {
	visit(path, schema)
	for _, sub := range Subschemas(schema) {
		walk(sub.Schema, path+sub.Path, visit)
	}
}
