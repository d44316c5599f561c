package llm_test

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/llm"
)

// Whatever a schema and a value are: an answer comes back, an error is short and
// can be stored, and the same question has the same answer.
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
