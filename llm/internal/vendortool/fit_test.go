package vendortool_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendortool"
)

var vendors = map[string]*vendortool.Rules{"openai": vendortool.OpenAI, "anthropic": vendortool.Anthropic}

func spec(name, schema string) llm.ToolSpec {
	return llm.ToolSpec{Name: name, Description: "Tests.", Parameters: json.RawMessage(schema)}
}

func TestFit_schemaThatFits_keepsItsBytes(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{
		`{"type":"object","properties":{}}`,
		`{ "properties" : {"z":{"type":"string"}, "a":{"type":"integer"}}, "type":"object", "required":["z"] }`,
		`{"type":"object","properties":{"m":{"anyOf":[{"type":"string"},{"type":"null"}],"default":null}},"additionalProperties":false}`,
		`{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{"n":{"$ref":"#/definitions/n"}},"definitions":{"n":{"type":"number","default":1.50}}}`,
		`{"type":"object","properties":{"tree":{"type":"array","items":{"$ref":"#"}}},"x-own":[1,{"type":"array"}]}`,
		`{"type":"object","properties":{"q":{"type":"string","pattern":"^(?!x)\\u00e9"}},"if":{"required":["q"]},"then":{"minProperties":1}}`,
	} {
		for name, rules := range vendors {
			tools := rules.Fit([]llm.ToolSpec{spec("t", schema)}).Tools()
			require.Len(t, tools, 1, name)
			require.Equal(t, schema, string(tools[0].Schema), name)
			require.Equal(t, "Tests.", tools[0].Description)
		}
	}
}

func TestFit_schemaThatDoesNotFit_isAdapted(t *testing.T) {
	t.Parallel()
	const none = `{"type":"object","properties":{}}`
	for _, tt := range []struct{ name, schema, openai, anthropic, note string }{
		{"no schema", ``, none, none, ""},
		{"null", `null`, none, none, ""},
		{"true", `true`, none, none, ""},
		{"empty", `{}`, none, none, ""},
		{"no properties", `{"type":"object"}`, none, none, ""},
		{"closed without properties", `{"type":"object","additionalProperties":false}`,
			`{"type":"object","additionalProperties":false,"properties":{}}`, `{"type":"object","additionalProperties":false,"properties":{}}`, ""},
		{"properties null", `{"type":"object","properties":null}`, none, none, ""},
		{"no type", `{"properties":{"q":{"type":"string"}}}`,
			`{"type":"object","properties":{"q":{"type":"string"}}}`, `{"type":"object","properties":{"q":{"type":"string"}}}`, ""},
		{"type list", `{"type":["object","null"],"properties":{}}`, none, none, ""},
		{"unknown type", `{"type":"any","properties":{"a":{"type":"any"}}}`,
			`{"type":"object","properties":{"a":{}}}`, `{"type":"object","properties":{"a":{}}}`, ""},
		{"array without items", `{"type":"object","properties":{"l":{"type":"array"}}}`,
			`{"type":"object","properties":{"l":{"type":"array","items":{}}}}`, `{"type":"object","properties":{"l":{"type":"array"}}}`, ""},
		{"arrays without items, deeper", `{"type":"object","properties":{"l":{"type":["array","null"],"items":{"type":"array"}},"m":{"anyOf":[{"type":"array","items":null}]}},"$defs":{"d":{"type":"array","prefixItems":[{"type":"array"}]}}}`,
			`{"type":"object","properties":{"l":{"type":["array","null"],"items":{"type":"array","items":{}}},"m":{"anyOf":[{"type":"array","items":{}}]}},"$defs":{"d":{"type":"array","prefixItems":[{"type":"array","items":{}}],"items":{}}}}`,
			`{"type":"object","properties":{"l":{"type":["array","null"],"items":{"type":"array"}},"m":{"anyOf":[{"type":"array"}]}},"$defs":{"d":{"type":"array","prefixItems":[{"type":"array"}]}}}`, ""},
		{"boolean schemas", `{"type":"object","properties":{"a":true,"b":{"type":"array","items":true},"c":false},"additionalProperties":true}`,
			`{"type":"object","properties":{"a":{},"b":{"type":"array","items":{}},"c":{"not":{}}},"additionalProperties":true}`,
			`{"type":"object","properties":{"a":{},"b":{"type":"array","items":{}},"c":{"not":{}}},"additionalProperties":true}`, ""},
		{"tuple", `{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{"p":{"type":"array","items":[{"type":"string"},true],"additionalItems":false}}}`,
			`{"type":"object","properties":{"p":{"type":"array","prefixItems":[{"type":"string"},{}],"items":{"not":{}}}}}`,
			`{"type":"object","properties":{"p":{"type":"array","prefixItems":[{"type":"string"},{}],"items":{"not":{}}}}}`, ""},
		{"draft 04", `{"$schema":"http://json-schema.org/draft-04/schema#","type":"object","properties":{"n":{"type":"number","minimum":0,"exclusiveMinimum":true,"maximum":9,"exclusiveMaximum":false}}}`,
			`{"type":"object","properties":{"n":{"type":"number","exclusiveMinimum":0,"maximum":9}}}`,
			`{"type":"object","properties":{"n":{"type":"number","exclusiveMinimum":0,"maximum":9}}}`, ""},
		{"keywords of a wrong form", `{"type":"object","properties":{"q":{"type":"string","required":true,"enum":[],"minLength":1.0,"title":null},"r":null},"required":null}`,
			`{"type":"object","properties":{"q":{"type":"string","minLength":1},"r":{}}}`,
			`{"type":"object","properties":{"q":{"type":"string","minLength":1},"r":{}}}`, ""},
		{"listed twice", `{"type":"object","properties":{"q":{"enum":[1,1,2]}},"required":["q","q"]}`,
			`{"type":"object","properties":{"q":{"enum":[1,2]}},"required":["q"]}`, `{"type":"object","properties":{"q":{"enum":[1,2]}},"required":["q"]}`, ""},
		{"references that lead nowhere", `{"type":"object","properties":{"a":{"$ref":"https://example.com/a.json","title":"A"},"b":{"$ref":"#/$defs/none"},"c":{"$ref":"#/properties/c"}}}`,
			`{"type":"object","properties":{"a":{"title":"A"},"b":{},"c":{}}}`, `{"type":"object","properties":{"a":{"title":"A"},"b":{},"c":{}}}`, ""},
		{"OpenAPI's components", `{"type":"object","properties":{"a":{"$ref":"#/components/schemas/A"}},"components":{"schemas":{"A":{"type":"array","items":{"$ref":"#/components/schemas/A"}}}}}`,
			`{"type":"object","properties":{"a":{"$ref":"#/$defs/A"}},"components":{"schemas":{"A":{"type":"array","items":{"$ref":"#/components/schemas/A"}}}},"$defs":{"A":{"type":"array","items":{"$ref":"#/$defs/A"}}}}`,
			`{"type":"object","properties":{"a":{"$ref":"#/$defs/A"}},"components":{"schemas":{"A":{"type":"array","items":{"$ref":"#/components/schemas/A"}}}},"$defs":{"A":{"type":"array","items":{"$ref":"#/$defs/A"}}}}`, ""},
		{"anyOf", `{"type":"object","anyOf":[{"properties":{"content":{"type":"string"}},"required":["content"]},{"properties":{"url":{"type":"string"}},"required":["url"]}]}`,
			`{"type":"object","properties":{"content":{"type":"string"},"url":{"type":"string"}}}`,
			`{"type":"object","properties":{"content":{"type":"string"},"url":{"type":"string"}}}`,
			"The arguments must match at least one of these alternatives: (1) content; (2) url."},
		{"oneOf of required", `{"type":"object","properties":{"i":{"type":"integer"},"x":{"type":"integer"}},"oneOf":[{"required":["i"]},{"required":["x"]}]}`,
			`{"type":"object","properties":{"i":{"type":"integer"},"x":{"type":"integer"}}}`,
			`{"type":"object","properties":{"i":{"type":"integer"},"x":{"type":"integer"}}}`,
			"The arguments must match exactly one of these alternatives: (1) i; (2) x."},
		{"discriminated union", `{"oneOf":[{"$ref":"#/$defs/A"},{"$ref":"#/$defs/B"}],"$defs":{"A":{"type":"object","properties":{"kind":{"const":"a"},"x":{"type":"string"}},"required":["kind","x"],"additionalProperties":false},"B":{"type":"object","properties":{"kind":{"const":"b"}},"required":["kind"],"additionalProperties":false}}}`,
			`{"type":"object","$defs":{"A":{"type":"object","properties":{"kind":{"const":"a"},"x":{"type":"string"}},"required":["kind","x"],"additionalProperties":false},"B":{"type":"object","properties":{"kind":{"const":"b"}},"required":["kind"],"additionalProperties":false}},"properties":{"kind":{"anyOf":[{"const":"a"},{"const":"b"}]},"x":{"type":"string"}},"required":["kind"],"additionalProperties":false}`,
			"same", `The arguments must match exactly one of these alternatives: (1) kind = "a", x; (2) kind = "b".`},
		{"allOf", `{"allOf":[{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]},{"properties":{"a":{"minLength":1},"b":{}},"required":["b"]}]}`,
			`{"type":"object","properties":{"a":{"type":"string","minLength":1},"b":{}},"required":["a","b"]}`, "same", ""},
		{"top-level reference", `{"$ref":"#/definitions/In","definitions":{"In":{"type":"object","properties":{"next":{"$ref":"#/definitions/In"}},"required":["next"]}}}`,
			`{"type":"object","definitions":{"In":{"type":"object","properties":{"next":{"$ref":"#/definitions/In"}},"required":["next"]}},"properties":{"next":{"$ref":"#/definitions/In"}},"required":["next"]}`, "same", ""},
		{"alternatives that are not objects", `{"anyOf":[{"type":"null"},{"type":"object","properties":{"a":{}},"required":["a"],"not":{"required":["b"]}},{"type":"array"}]}`,
			`{"type":"object","properties":{"a":{}},"required":["a"]}`,
			`{"type":"object","properties":{"a":{}},"required":["a"],"not":{"required":["b"]}}`, "*"},
		{"recursion through the top level", `{"type":"object","properties":{"left":{"$ref":"#"},"l":{"$ref":"#/anyOf/0"}},"anyOf":[{"required":["left"]},{"required":["l"]}]}`,
			`{"type":"object","properties":{"left":{"$ref":"#/$defs/whole"},"l":{"$ref":"#/$defs/whole/anyOf/0"}},"$defs":{"whole":{"type":"object","properties":{"left":{"$ref":"#/$defs/whole"},"l":{"$ref":"#/$defs/whole/anyOf/0"}},"anyOf":[{"required":["left"]},{"required":["l"]}]}}}`,
			"same", "*"},
		{"recursion within the top level", `{"properties":{"a":{}},"allOf":[{"$ref":"#"}]}`, `{"type":"object","properties":{"a":{}}}`, "same", ""},
		{"enum", `{"type":"object","properties":{"a":{}},"enum":[{"a":1}]}`, `{"type":"object","properties":{"a":{}}}`, `{"type":"object","properties":{"a":{}},"enum":[{"a":1}]}`, "*"},
		{"property keys", `{"type":"object","properties":{"$top":{"type":"integer"},"top":{},"filter[id]":{"$ref":"#/properties/$top"}},"required":["$top"],"dependentRequired":{"$top":["filter[id]"]},"default":{"$top":1}}`,
			`{"type":"object","properties":{"$top":{"type":"integer"},"top":{},"filter[id]":{"$ref":"#/properties/$top"}},"required":["$top"],"dependentRequired":{"$top":["filter[id]"]},"default":{"$top":1}}`,
			`{"type":"object","properties":{"top_2":{"type":"integer"},"top":{},"filter_id":{"$ref":"#/$defs/whole/properties/$top"}},"required":["top_2"],"dependentRequired":{"top_2":["filter_id"]},"default":{"top_2":1},"$defs":{"whole":{"type":"object","properties":{"$top":{"type":"integer"},"top":{},"filter[id]":{"$ref":"#/$defs/whole/properties/$top"}},"required":["$top"],"dependentRequired":{"$top":["filter[id]"]},"default":{"$top":1}}}}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.anthropic == "same" {
				tt.anthropic = tt.openai
			}
			for name, want := range map[string]string{"openai": tt.openai, "anthropic": tt.anthropic} {
				set := vendors[name].Fit([]llm.ToolSpec{spec("t", tt.schema)})
				require.Empty(t, set.Skipped(), name)
				require.Equal(t, want, string(set.Tools()[0].Schema), name)
				require.NoError(t, accepts(name, set.Tools()), name)
				if tt.note != "*" {
					require.Equal(t, strings.TrimSuffix("Tests.\n"+tt.note, "\n"), set.Tools()[0].Description, name)
				}
			}
		})
	}
}

func TestFit_toolThatCannotBeAdapted_isSkipped(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, schema, reason string }{
		{"false", `false`, "accepts no arguments"},
		{"not JSON", `{"type"`, "not valid JSON"},
		{"list", `[]`, "not a JSON object"},
		{"array", `{"type":"array","items":{}}`, "of type array"},
		{"string or null", `{"type":["string","null"]}`, "string, null"},
		{"no alternative is an object", `{"anyOf":[{"type":"string"},{"type":"array"}]}`, "of type array"},
		{"part of it is never true", `{"allOf":[{},false]}`, "accepts no arguments"},
		{"reference to a list", `{"$ref":"#/$defs/l","$defs":{"l":{"type":"array"}}}`, "of type array"},
		{"deep", strings.Repeat(`{"properties":{"a":`, 60) + `{}` + strings.Repeat(`}}`, 60), "levels"},
		{"deep beyond reading", strings.Repeat(`{"properties":{"a":`, 9000) + `{}` + strings.Repeat(`}}`, 9000), "its schema"},
		{"huge", `{"type":"object","description":"` + strings.Repeat("x", 600<<10) + `"}`, "KiB"},
		{"exponential", exponential(30), "too many alternatives"},
		{"long chain", chain(5000, `{"$ref":"#/$defs/d0"}`, `{}`), "too many alternatives"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for name, rules := range vendors {
				set := rules.Fit([]llm.ToolSpec{spec("bad", tt.schema), spec("good", `{}`)})
				require.Len(t, set.Skipped(), 1, name)
				require.Equal(t, "bad", set.Skipped()[0].Name)
				require.Contains(t, set.Skipped()[0].Reason, tt.reason)
				require.Len(t, set.Tools(), 1)
				require.Equal(t, "good", set.Tools()[0].Name)
			}
		})
	}
}

// exponential is a schema that doubles with each of n references.
func exponential(n int) string {
	var defs strings.Builder
	for i := range n {
		fmt.Fprintf(&defs, `"d%d":{"allOf":[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]},`, i, i+1, i+1)
	}
	return fmt.Sprintf(`{"$ref":"#/$defs/d0","$defs":{%s"d%d":{}}}`, defs.String(), n)
}

func TestFit_longDescription_isCutAtACharacter(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 1500)
	for text, want := range map[string]string{
		long:                      strings.Repeat("é", 1023) + "…",
		strings.Repeat("é", 1024): strings.Repeat("é", 1024),
		"a\xffb":                  "a�b",
		"":                        "",
	} {
		s := spec("t", `{}`)
		s.Description = text
		require.Equal(t, want, vendortool.OpenAI.Fit([]llm.ToolSpec{s}).Tools()[0].Description)
	}
	s := spec("t", `{"anyOf":[{"required":["a"]},{"required":["b"]}]}`)
	s.Description = long
	tool := vendortool.OpenAI.Fit([]llm.ToolSpec{s}).Tools()[0]
	require.Equal(t, 1024, utf8.RuneCountInString(tool.Description), "the note must fit into the limit, too")
	require.Contains(t, tool.Description, "é…\nThe arguments must match")
	s.Parameters = json.RawMessage(`{}`)
	require.Equal(t, long, vendortool.Anthropic.Fit([]llm.ToolSpec{s}).Tools()[0].Description)
}

func TestFit_moreToolsThanAccepted_keepsTheFirst(t *testing.T) {
	t.Parallel()
	var specs []llm.ToolSpec
	for i := range 131 {
		specs = append(specs, spec(fmt.Sprintf("t%d", i), `{}`))
	}
	specs[0].Parameters = json.RawMessage(`false`)
	for range 3 {
		set := vendortool.OpenAI.Fit(specs)
		require.Len(t, set.Tools(), 128)
		require.Equal(t, "t128", set.Tools()[127].Name)
		require.Len(t, set.Skipped(), 3)
		require.Equal(t, vendortool.Skipped{Name: "t129", Reason: "OpenAI accepts at most 128 tools"}, set.Skipped()[1])
	}
	require.Len(t, vendortool.Anthropic.Fit(specs).Tools(), 130)
}

// chain is a schema with a list of definitions, each of which is a reference to the
// next one.
func chain(n int, first, last string) string {
	return strings.TrimSuffix(first, "}") + `,"$defs":{` + list(n, `"d%d":{"$ref":"#/$defs/d%d"}`) + fmt.Sprintf(`,"d%d":%s}}`, n, last)
}

// list is n entries, with their number and that of the next one in the format.
func list(n int, format string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(format, i, i+1)
	}
	return strings.Join(all, ",")
}

// A schema of an MCP server must not stop a process or fill its memory. Without the
// guards, each of these takes minutes or gigabytes.
func TestFit_manyReferences_costLittle(t *testing.T) {
	t.Parallel()
	const n = 4000
	const a = `{"type":"object","properties":{"a":{"$ref":"#/$defs/d0"}}}`
	nested := strings.Repeat(`{"y":`, 90) + `{"enum":[` + list(40000, `%[1]d`) + `]}` + strings.Repeat(`}`, 90)
	var pointers []string
	for i := range 90 {
		pointers = append(pointers, fmt.Sprintf(`"p%d":{"$ref":"#/x%s"}`, i, strings.Repeat("/y", i)))
	}
	for name, schema := range map[string]string{
		"a chain":               chain(n, a, `{"type":"string"}`),
		"a chain into a circle": chain(n, a, fmt.Sprintf(`{"$ref":"#/$defs/d%d"}`, n-1)),
		"a circle":              chain(n, a, `{"$ref":"#/$defs/d0"}`),
		"one target":            `{"type":"object","properties":{"z":{},` + list(n, `"p%[1]d":{"$ref":"#/properties/z"}`) + `}}`,
		"one name":              `{"type":"object","properties":{` + list(n, `"p%[1]d":{"$ref":"#/x/%[1]d/a"}`) + `},"x":{` + list(n, `"%[1]d":{"a":{}}`) + `}}`,
		"parts of each other":   `{"type":"object","properties":{` + strings.Join(pointers, ",") + `},"x":` + nested + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for vendor, rules := range vendors {
				began := time.Now()
				tools := rules.Fit([]llm.ToolSpec{spec("t", schema)}).Tools()
				require.Less(t, time.Since(began), 20*time.Second)
				require.Len(t, tools, 1)
				require.NoError(t, accepts(vendor, tools))
				require.Less(t, len(tools[0].Schema), 4<<20)
			}
		})
	}
}
