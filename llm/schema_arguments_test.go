package llm_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// email is how zod 4 writes the pattern of an e-mail address.
const email = `^(?!\\.)(?!.*\\.\\.)([A-Za-z0-9_'+\\-\\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\\-]*\\.)+[A-Za-z]{2,}$`

// tryArguments has a model call a tool of a schema with arguments. It returns the
// error of the call, and what was logged.
func tryArguments(t *testing.T, schema, arguments string) (failed string, log string) {
	t.Helper()
	var out bytes.Buffer
	model := &answers{responses: []llm.Response{calls("a", arguments), says("ok")}}
	good := llm.Tool{Name: "a", Parameters: json.RawMessage(schema), Call: func(context.Context, json.RawMessage) (string, error) { return "1", nil }}
	require.NoError(t, llm.CheckTool(good))
	agent := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{good}, Logger: slog.New(slog.NewTextHandler(&out, nil))})
	_, err := agent.Run(t.Context(), task(nil), new(recorder).emit)
	require.NoError(t, err)
	if text, ok := strings.CutPrefix(model.last().Content, "Error: "); ok {
		failed = text
	}
	return failed, out.String()
}

func TestArguments_unsupportedKeyword_isIgnoredAlone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, schema string
		good, bad    string // bad violates a part that is supported; "": none
		logged       string // "": nothing is ignored
	}{
		{"look-ahead", `{"type":"object","properties":{"to":{"type":"string","pattern":"` + email + `"}},"required":["to"]}`, `{"to":"a@example.com"}`, `{"to":1}`, "tool=a place=/properties/to keyword=pattern"},
		{"look-behind", `{"properties":{"a":{"pattern":"(?<=x)y","minLength":2}}}`, `{"a":"ab"}`, `{"a":"a"}`, "keyword=pattern"},
		{"back reference", `{"properties":{"a":{"pattern":"(a)\\1"}}}`, `{"a":"b"}`, ``, "keyword=pattern"},
		{"large repetition", `{"properties":{"a":{"pattern":"^x{1,5000}$"}}}`, `{"a":"b"}`, ``, "keyword=pattern"},
		{"unicode escape", `{"properties":{"q":{"pattern":"^[\\u0020-\\u007e]*$"}}}`, `{"q":"a~"}`, `{"q":"é"}`, ""},
		{"surrogate pair", `{"properties":{"q":{"pattern":"^\\ud83d\\ude00$"}}}`, `{"q":"😀"}`, `{"q":"x"}`, ""},
		{"unicode escape in braces", `{"properties":{"q":{"pattern":"^\\u{1F600}$"}}}`, `{"q":"😀"}`, `{"q":"x"}`, ""},
		{"half a pair", `{"properties":{"q":{"pattern":"^\\ud83d$"}}}`, `{"q":"x"}`, ``, "keyword=pattern"},
		{"escaped backslash", `{"properties":{"q":{"pattern":"^\\\\u0041$"}}}`, `{"q":"\\u0041"}`, `{"q":"A"}`, ""},
		{"pattern of names", `{"patternProperties":{"^(?!x)":{"type":"string"},"^\\u0061":{"type":"integer"}},"additionalProperties":false}`, `{"b":"s","a":1}`, `{"a":"s"}`, "keyword=patternProperties/"},
		{"draft 04", `{"$schema":"http://json-schema.org/draft-04/schema#","id":"https://example.com/x","properties":{"n":{"minimum":0,"exclusiveMinimum":true},"id":{"type":"string"}}}`, `{"n":1,"id":"x"}`, `{"n":0}`, ""},
		{"draft 04 without its name", `{"properties":{"n":{"maximum":9,"exclusiveMaximum":true}}}`, `{"n":8}`, `{"n":9}`, ""},
		{"draft 04, definitions and ids", `{"$schema":"http://json-schema.org/draft-04/schema#","definitions":{"q":{"id":"#q","type":"string"}},"properties":{"q":{"$ref":"#q"}}}`, `{"q":"x"}`, `{"q":1}`, ""},
		{"draft 06", `{"$schema":"http://json-schema.org/draft-06/schema#","properties":{"q":{"const":1}}}`, `{"q":1}`, `{"q":2}`, ""},
		{"draft 07 without hash", `{"$schema":"http://json-schema.org/draft-07/schema","properties":{"q":{"items":[{"type":"string"}],"additionalItems":false}}}`, `{"q":["x"]}`, `{"q":["x","y"]}`, ""},
		{"draft 2019-09", `{"$schema":"https://json-schema.org/draft/2019-09/schema","$recursiveAnchor":true,"properties":{"next":{"$recursiveRef":"#"},"n":{"type":"integer"},"t":{"items":[{"type":"string"}]}}}`, `{"next":{"n":1},"t":["x",1]}`, `{"next":{"n":"x"}}`, ""},
		{"unknown draft", `{"$schema":"https://example.com/schema","properties":{"n":{"type":"integer"}}}`, `{"n":1}`, `{"n":"x"}`, ""},
		{"tuple without a draft", `{"properties":{"t":{"items":[{"type":"string"}],"additionalItems":{"type":"integer"}}}}`, `{"t":["x",1]}`, `{"t":["x","y"]}`, ""},
		{"dependencies", `{"dependencies":{"a":["b"],"c":{"required":["d"]}}}`, `{"a":1,"b":1}`, `{"a":1}`, ""},
		{"required null", `{"properties":{"q":{"type":"string"}},"required":null}`, `{}`, `{"q":1}`, ""},
		{"required true", `{"properties":{"q":{"type":"string","required":true}}}`, `{}`, `{"q":1}`, "place=/properties/q keyword=required"},
		{"type any", `{"properties":{"q":{"type":"any","minLength":2}}}`, `{"q":1}`, `{"q":"x"}`, "place=/properties/q keyword=type"},
		{"integer as a float", `{"properties":{"q":{"minLength":2.0}}}`, `{"q":"xy"}`, `{"q":"x"}`, ""},
		{"properties null", `{"type":"object","properties":null}`, `{}`, ``, ""},
		{"no type", `{"properties":{"q":{"type":"string"}}}`, `{}`, `{"q":1}`, ""},
		{"empty", `{}`, `{"x":1}`, ``, ""},
		{"null property", `{"properties":{"a":null,"b":{"type":"string"}}}`, `{"a":1}`, `{"b":1}`, "keyword=properties/a"},
		{"remote reference", `{"properties":{"q":{"$ref":"https://schemas.example.com/q.json","minLength":2}}}`, `{"q":1}`, `{"q":"x"}`, "place=/properties/q keyword=$ref"},
		{"remote reference in draft 07", `{"$schema":"http://json-schema.org/draft-07/schema#","properties":{"q":{"$ref":"https://schemas.example.com/q.json","minLength":2}}}`, `{"q":"x"}`, ``, "keyword=$ref"},
		{"reference to nowhere", `{"properties":{"q":{"$ref":"#/$defs/none"},"n":{"type":"integer"}}}`, `{"q":1}`, `{"n":"x"}`, "keyword=$ref"},
		{"reference to itself", `{"properties":{"q":{"$ref":"#/properties/q"},"n":{"type":"integer"}}}`, `{"q":1}`, `{"n":"x"}`, "place=/properties/q keyword=$ref"},
		{"circle", `{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"allOf":[{"$ref":"#/$defs/a"}],"type":"integer"}},"properties":{"q":{"$ref":"#/$defs/a"}}}`, `{"q":1}`, `{"q":"x"}`, "keyword=$ref"},
		{"components", `{"components":{"schemas":{"Q":{"type":"string"}}},"properties":{"q":{"$ref":"#/components/schemas/Q"}}}`, `{"q":"x"}`, `{"q":1}`, ""},
		{"definitions besides $defs", `{"$defs":{"q":{"type":"string"}},"definitions":{"q":{"type":"integer"}},"properties":{"q":{"$ref":"#/$defs/q"},"n":{"$ref":"#/definitions/q"}}}`, `{"q":"x","n":1}`, `{"q":"x","n":"x"}`, ""},
		{"relative id", `{"$id":"tool.json","properties":{"q":{"$ref":"#/$defs/q"}},"$defs":{"q":{"$id":"q.json","type":"string"}}}`, `{"q":"x"}`, `{"q":1}`, ""},
		{"unknown format", `{"properties":{"q":{"type":"string","format":"phone"}}}`, `{"q":"x"}`, `{"q":1}`, ""},
		{"nullable", `{"properties":{"q":{"type":"string","nullable":true}}}`, `{"q":null}`, `{"q":1}`, ""},
		{"vocabulary", `{"$vocabulary":{"https://example.com/v":true},"properties":{"q":{"type":"string"}}}`, `{"q":"x"}`, ``, "place=\"the top level\" keyword=*"},
		// What is ignored must not turn a good call into a bad one.
		{"not", `{"properties":{"q":{"type":"string","not":{"pattern":"(?=x)x"}}}}`, `{"q":"a"}`, `{"q":1}`, "keyword=pattern"},
		{"not, by reference", `{"$defs":{"x":{"pattern":"(?=x)x"}},"properties":{"q":{"not":{"anyOf":[{"$ref":"#/$defs/x"}]}}}}`, `{"q":"a"}`, ``, "keyword=pattern"},
		{"oneOf", `{"properties":{"q":{"oneOf":[{"type":"string","pattern":"(?=x)x"},{"type":"string","maxLength":3}]}}}`, `{"q":"a"}`, `{"q":1}`, "keyword=pattern"},
		{"if", `{"if":{"properties":{"q":{"pattern":"(?=x)x"}}},"then":{"required":["x"]},"minProperties":1}`, `{"q":"a"}`, `{}`, "keyword=pattern"},
		{"contains", `{"properties":{"q":{"contains":{"type":"string","pattern":"(?=x)x"},"maxContains":1}}}`, `{"q":["x","a"]}`, `{"q":[1]}`, "keyword=pattern"},
		{"unevaluated", `{"$ref":"https://example.com/a.json","properties":{"q":{"type":"string"}},"unevaluatedProperties":false}`, `{"other":1}`, `{"q":1}`, "keyword=$ref"},
		{"properties of a wrong form", `{"properties":["q"],"additionalProperties":false}`, `{"q":1}`, ``, "keyword=properties"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			failed, log := tryArguments(t, tt.schema, tt.good)
			require.Empty(t, failed)
			if tt.logged == "" {
				require.Empty(t, log)
			} else {
				require.Contains(t, log, `level=INFO msg="schema keyword ignored" tool=a`)
				require.Contains(t, log, tt.logged)
				require.Equal(t, 1, strings.Count(log, "\n"), log)
			}
			if tt.bad != "" {
				failed, _ = tryArguments(t, tt.schema, tt.bad)
				require.Contains(t, failed, "the arguments are not valid", "the rest of the schema must be checked")
			}
		})
	}
}

// The output schema of a task definition is rejected when it is saved, with the
// place and the keyword.
func TestCompileSchema_unsupportedKeyword_isRejectedWithItsPlace(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, schema, want string }{
		{"look-ahead", `{"properties":{"to":{"items":{"pattern":"` + email + `"}}}}`, "/properties/to/items: pattern is not supported by Go's regexp: invalid or unsupported Perl syntax: `(?!`"},
		{"pattern of names", `{"patternProperties":{"(?!x)/":{}}}`, "the top level: patternProperties/(?!x)~1 is not supported"},
		{"draft 04", `{"$schema":"http://json-schema.org/draft-04/schema#"}`, `the top level: $schema "http://json-schema.org/draft-04/schema#" is not supported: use draft 2020-12`},
		{"draft 2019-09", `{"$schema":"https://json-schema.org/draft/2019-09/schema"}`, "is not supported: use draft 2020-12"},
		{"remote reference", `{"properties":{"a":{"$ref":"https://example.com/a.json"}}}`, `/properties/a: $ref: "https://example.com/a.json" is not within the schema`},
		{"boolean limit without a number", `{"properties":{"a":{"exclusiveMinimum":"x"}}}`, "/properties/a: exclusiveMinimum must be a number"},
		{"required true", `{"properties":{"a":{"required":true}}}`, "/properties/a: required must be a list of strings"},
		{"type any", `{"items":{"type":["string","any"]}}`, `/items: type must not be "any", which is not a type`},
		{"negative length", `{"allOf":[{"minLength":-1}]}`, "/allOf/0: minLength must be an integer that is not negative"},
		{"null property", `{"properties":{"a":null}}`, "the top level: properties/a must be a JSON object or a boolean"},
		{"anyOf of nothing", `{"anyOf":[]}`, "anyOf must be a list of schemas"},
		{"number too large", `{"minimum":1e999}`, "minimum must be a number that is not too large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := llm.CompileSchema(json.RawMessage(tt.schema))
			require.ErrorContains(t, err, tt.want)

			svc, err := webtrigger.New(memstore.New(nil), newAgent(t, new(answers), nil), &webtrigger.Options{CompileSchema: llm.CompileSchema})
			require.NoError(t, err)
			def := webtrigger.TaskDefinition{AssistantID: "1", Name: "n", Instructions: "Do it.", OutputType: webtrigger.OutputJSON, Active: true}
			stored, err := svc.CreateTaskDefinition(t.Context(), def)
			require.NoError(t, err)
			def.OutputSchema, stored.OutputSchema = json.RawMessage(tt.schema), json.RawMessage(tt.schema)
			_, created := svc.CreateTaskDefinition(t.Context(), def)
			_, updated := svc.UpdateTaskDefinition(t.Context(), stored)
			for _, err := range []error{created, updated} {
				var fault *webtrigger.RequestError
				require.True(t, errors.As(err, &fault), "%v", err)
				require.Equal(t, "/output_schema", fault.Faults[0].Pointer)
				require.Contains(t, fault.Faults[0].Detail, tt.want)
			}
		})
	}
}

func TestCompileSchema_exactTranslation_isChecked(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ schema, good, bad string }{
		{`{"minimum":1,"exclusiveMinimum":true}`, `2`, `1`},
		{`{"maximum":1,"exclusiveMaximum":false}`, `1`, `2`},
		{`{"pattern":"^\\u00e9+$"}`, `"éé"`, `"e"`},
		{`{"items":[{"type":"string"}],"additionalItems":false}`, `["x"]`, `["x",1]`},
		{`{"$schema":"http://json-schema.org/draft-07/schema","items":[{"type":"string"}],"additionalItems":false}`, `["x"]`, `["x",1]`},
		{`{"$schema":"https://json-schema.org/draft/2020-12/schema#","type":"string"}`, `"x"`, `1`},
		{`{"x":{"y":{"type":"string"}},"$ref":"#/x/y"}`, `"x"`, `1`},
		{`{"enum":[9007199254740993],"minimum":1,"exclusiveMinimum":true}`, `9007199254740993`, `9007199254740992`},
	} {
		check, err := llm.CompileSchema(json.RawMessage(tt.schema))
		require.NoError(t, err, tt.schema)
		require.NoError(t, check(json.RawMessage(tt.good)), tt.schema)
		require.Error(t, check(json.RawMessage(tt.bad)), tt.schema)
	}
}
