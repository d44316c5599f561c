package llm_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/llm"
)

// For any schema and value, validation ends, an error is short and can be stored, and
// a second validation returns the same result.
func FuzzCompileSchema(f *testing.F) {
	for _, seed := range [][2]string{
		{`true`, `1`},
		{totalSchema, `{"total":"many","x":1}`},
		{`{"$defs":{"n":{"type":"integer"}},"properties":{"a":{"$ref":"#/$defs/n"}}}`, `{"a":"1"}`},
		{`{"$ref":"#"}`, `1`},
		{`{"properties":{"next":{"$ref":"#"}}}`, `{"next":{"next":1}}`},
		{`{"$dynamicAnchor":"a","items":{"$dynamicRef":"#a"}}`, `[[1]]`},
		{`{"if":{"type":"string"},"then":{"minLength":3},"else":{"enum":[1,2]}}`, `"ab"`},
		{`{"patternProperties":{"^a":{"not":{}}},"unevaluatedProperties":false}`, `{"ab":1}`},
		{`{"dependencies":{"a":["b"]},"$schema":"http://json-schema.org/draft-07/schema#"}`, `{"a":1}`},
		{`{"$id":"https://example.com/a","$anchor":"x","allOf":[{"$ref":"#x"}]}`, `{}`},
		{`{"multipleOf":0.1,"minimum":-1e999}`, `1e999`},
		{`{"prefixItems":[null]}`, `[`},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, schema, value string) {
		if len(schema) > 1000 || len(value) > 1000 {
			t.Skip() // what a schema costs is its writer's to answer for
		}
		short := func(err error) {
			if err != nil {
				require.NotEmpty(t, err.Error())
				require.Less(t, len(err.Error()), 5<<10)
				require.True(t, utf8.ValidString(err.Error()))
			}
		}
		check, err := llm.CompileSchema(json.RawMessage(schema))
		short(err)
		if err != nil {
			return
		}
		first := check(json.RawMessage(value))
		short(first)
		again := check(json.RawMessage(value))
		require.Equal(t, first == nil, again == nil)
	})
}

// Where CompileSchema accepts a schema, the check of arguments accepts what its check
// accepts: a keyword may be ignored, but never turned around. Whatever the schema is,
// the tool can be used.
func FuzzArguments(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"properties":{"a":{"pattern":"(?=x)"}}}`, `{"a":"b"}`},
		{`{"$schema":"http://json-schema.org/draft-04/schema#","minimum":1,"exclusiveMinimum":true}`, `{}`},
		{`{"oneOf":[{"$ref":"https://example.com"},{"type":"any"}],"not":{"required":true}}`, `{"a":1}`},
		{`{"properties":{"a":{"$ref":"#/properties/a"}},"unevaluatedProperties":false}`, `{"b":1}`},
		{`{"definitions":{"a":{"type":"integer"}},"$defs":{},"properties":{"a":{"$ref":"#/definitions/a","nullable":true}}}`, `{"a":1}`},
		{`{"dependencies":{"a":["b"],"c":{"minProperties":2}},"items":[{}],"$id":"x","properties":{"a":{"$id":"#y"}}}`, `{"c":1}`},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, schema, arguments string) {
		if len(schema) > 1000 || len(arguments) > 1000 || !json.Valid([]byte(schema)) || strings.TrimLeft(schema, " \t\r\n")[0] != '{' {
			t.Skip()
		}
		called := false
		tool := llm.Tool{Name: "a", Parameters: json.RawMessage(schema), Call: func(context.Context, json.RawMessage) (string, error) {
			called = true
			return "", nil
		}}
		require.NoError(t, llm.CheckTool(tool))
		check, err := llm.CompileSchema(json.RawMessage(schema))
		if err != nil || check(json.RawMessage(arguments)) != nil || strings.TrimLeft(arguments, " \t\r\n")[0] != '{' {
			return
		}
		model := &answers{responses: []llm.Response{calls("a", arguments), says("ok")}}
		_, err = newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{tool}}).Run(t.Context(), task(nil), new(recorder).emit)
		require.NoError(t, err)
		require.True(t, called, "%s was rejected", arguments)
	})
}
