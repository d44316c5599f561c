package llm_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/llm"
)

func TestCompiledSchemaChecks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, schema, value string
		want                []string // parts of the error; nil: passes
	}{
		{"true", `true`, `1`, nil},
		{"false", `false`, `1`, []string{"the top level"}},
		{"empty", `{}`, `null`, nil},
		{"type", `{"type":"object"}`, `{}`, nil},
		{"wrong type", `{"type":"object"}`, `[]`, []string{"the top level", "must be object"}},
		{"property", `{"properties":{"a":{"type":"string"}}}`, `{"a":1}`, []string{"at /a: ", "must be string"}},
		{"nested", `{"properties":{"a":{"items":{"properties":{"b":{"minimum":3}}}}}}`, `{"a":[{"b":3},{"b":2}]}`, []string{"at /a/1/b: ", "minimum"}},
		{"escaped place", `{"properties":{"a/b~":{"type":"string"}}}`, `{"a/b~":1}`, []string{"at /a~1b~0: "}},
		{"required", `{"required":["total"]}`, `{}`, []string{"total"}},
		{"two places", `{"properties":{"a":{"type":"string"},"b":{"type":"string"}}}`, `{"a":1,"b":2}`, []string{"at /a: ", "at /b: "}},
		{"additional", `{"properties":{"a":true},"additionalProperties":false}`, `{"a":1,"zz":1}`, []string{"zz"}},
		{"enum", `{"properties":{"a":{"enum":["x","y"]}}}`, `{"a":"z"}`, []string{"at /a: ", "enum"}},
		{"const exact", `{"const":9007199254740993}`, `9007199254740992`, []string{"const"}},
		{"const exact, good", `{"const":9007199254740993}`, `9007199254740993`, nil},
		{"pattern", `{"properties":{"a":{"pattern":"^x"}}}`, `{"a":"y"}`, []string{"at /a: ", "pattern"}},
		{"local ref", `{"$defs":{"n":{"type":"integer"}},"properties":{"a":{"$ref":"#/$defs/n"}}}`, `{"a":"1"}`, []string{"at /a: "}},
		{"recursive", `{"properties":{"next":{"$ref":"#"},"v":{"type":"integer"}}}`, `{"next":{"next":{"v":"x"}}}`, []string{"at /next/next/v: "}},
		{"anyOf", `{"anyOf":[{"type":"string"},{"type":"null"}]}`, `1`, []string{"anyOf"}},
		{"if then", `{"if":{"required":["a"]},"then":{"required":["b"]}}`, `{"a":1}`, []string{"b"}},
		{"no JSON", `true`, `{`, []string{"not valid JSON"}},
		{"trailing", `true`, `{} {}`, []string{"unexpected data after the value"}},
		{"a key twice", `true`, `{"a":1,"\u0061":2}`, []string{"not valid JSON", `"a"`}},
		{"half a surrogate pair", `true`, `"\ud800"`, []string{"not valid JSON"}},
		{"invalid UTF-8", `true`, "\"\xff\"", []string{"not valid JSON"}},
		{"too deep", `true`, strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001), []string{"not valid JSON"}},
		{"deep", `true`, strings.Repeat("[", 9_999) + strings.Repeat("]", 9_999), nil},
		{"huge number", `{"type":"number"}`, `1e400`, []string{"too large"}},
		{"integral float", `{"type":"integer"}`, `1.0`, nil},
		{"draft-07", `{"$schema":"http://json-schema.org/draft-07/schema#","type":"string"}`, `"x"`, nil},
		{"format is not checked", `{"format":"email"}`, `"x"`, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			check, err := llm.CompileSchema(json.RawMessage(tt.schema))
			require.NoError(t, err)
			err = check(json.RawMessage(tt.value))
			if tt.want == nil {
				require.NoError(t, err)
				return
			}
			for _, want := range tt.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

func TestCompileSchema_invalidSchema_returnsError(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, schema, want string }{
		{"empty", ``, "JSON object or a boolean"},
		{"number", `1`, "JSON object or a boolean"},
		{"string", `"x"`, "JSON object or a boolean"},
		{"array", `[]`, "JSON object or a boolean"},
		{"null", `null`, "JSON object or a boolean"},
		{"no JSON", `{"type":`, "not valid JSON"},
		{"trailing", `{} {}`, "unexpected data after the value"},
		{"unresolvable", `{"$ref":"#/$defs/none"}`, "points to no schema"},
		{"unresolvable deep", `{"properties":{"a":{"$ref":"#/$defs/none"}}}`, "/properties/a"},
		{"elsewhere", `{"$ref":"https://example.com/schema.json"}`, "nothing is loaded"},
		{"file", `{"$ref":"file:///etc/hosts"}`, "nothing is loaded"},
		{"itself", `{"$ref":"#"}`, "without end"},
		{"in a circle", `{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"allOf":[{"$ref":"#/$defs/a"}]}}}`, "without end"},
		{"unknown type", `{"type":"strin"}`, `type must not be "strin"`},
		{"wrong keyword type", `{"type":1}`, ""},
		{"bad pattern", `{"pattern":"("}`, ""},
		{"other draft", `{"$schema":"http://json-schema.org/draft-04/schema#"}`, "not supported"},
		{"multipleOf 0", `{"multipleOf":0}`, "multipleOf"},
		{"null subschema", `{"properties":{"a":null}}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := llm.CompileSchema(json.RawMessage(tt.schema))
			require.Error(t, err)
			require.Contains(t, err.Error(), tt.want)
		})
	}
}

func TestSchemaErrorsAreBounded(t *testing.T) {
	t.Parallel()
	check, err := llm.CompileSchema(json.RawMessage(`{"additionalProperties":{"type":"integer"}}`))
	require.NoError(t, err)
	var value strings.Builder
	value.WriteString(`{"a":"\ufffd"`)
	for i := range 1000 {
		fmt.Fprintf(&value, `,"%s%d":"x"`, strings.Repeat("é", 300), i)
	}
	value.WriteString("}")
	err = check(json.RawMessage(value.String()))
	require.Error(t, err)
	require.Less(t, len(err.Error()), 5<<10)
	require.True(t, utf8.ValidString(err.Error()))
	require.LessOrEqual(t, strings.Count(err.Error(), "at /"), 5)

	_, err = llm.CompileSchema(json.RawMessage(`{"$ref":"` + strings.Repeat("x", 1<<20) + `"}`))
	require.Error(t, err)
	require.Less(t, len(err.Error()), 5<<10)
}

func TestCheckIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	check, err := llm.CompileSchema(json.RawMessage(`{"properties":{"a":{"type":"string"}}}`))
	require.NoError(t, err)
	errs := make([]error, 32)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { errs[i] = check(json.RawMessage(`{"a":1}`)) })
	}
	all.Wait()
	for _, err := range errs {
		require.ErrorContains(t, err, "/a")
	}
}
