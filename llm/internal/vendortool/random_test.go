package vendortool_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/llm"
)

// Random schemas combine the keywords that Fit changes more often than a fuzzer
// finds them.
func TestFit_randomSchemas_areAcceptedOrSkipped(t *testing.T) {
	t.Parallel()
	offered := 0
	for seed := range uint64(1500) {
		r := rand.New(rand.NewPCG(1, seed))
		schema := randomSchema(r, 1+r.IntN(4))
		for vendor, rules := range vendors {
			set := rules.Fit([]llm.ToolSpec{spec("t", schema)})
			require.NoError(t, accepts(vendor, set.Tools()), "%s, seed %d: %s", vendor, seed, schema)
			require.Len(t, set.Skipped(), 1-len(set.Tools()))
			offered += len(set.Tools())
		}
	}
	require.Greater(t, offered, 2000, "most schemas must be adapted")
}

func randomSchema(r *rand.Rand, depth int) string {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	if depth == 0 {
		return pick(`{}`, `true`, `false`, `null`, `{"type":"array"}`, `{"const":1}`, `{"type":"object"}`)
	}
	several := func(entry func() string) string {
		var list []string
		for range r.IntN(4) {
			list = append(list, entry())
		}
		return strings.Join(list, ",")
	}
	return "{" + several(func() string {
		keyword := pick("anyOf", "oneOf", "allOf", "not", "if", "then", "properties", "required", "$ref", "items", "type", "$defs",
			"definitions", "enum", "additionalProperties", "dependentSchemas", "dependencies", "$id", "prefixItems", "exclusiveMinimum")
		value := ""
		switch keyword {
		case "anyOf", "oneOf", "allOf", "prefixItems":
			value = "[" + several(func() string { return randomSchema(r, depth-1) }) + "]"
		case "properties", "$defs", "definitions", "dependentSchemas", "dependencies":
			value = "{" + several(func() string { return fmt.Sprintf(`"%s":%s`, pick("a", "b", "$top", ""), randomSchema(r, depth-1)) }) + "}"
		case "required":
			value = `["a","$top","a"]`
		case "$ref":
			value = pick(`"#"`, `"#/$defs/a"`, `"#/definitions/b"`, `"#/anyOf/0"`, `"#/properties/$top"`, `"https://example.com/x"`, `"#/x"`)
		case "type":
			value = pick(`"object"`, `["object","array"]`, `"array"`, `"any"`, `null`)
		case "$id":
			value = `"https://example.com/x"`
		case "enum":
			value = `[{"$top":1}]`
		case "exclusiveMinimum":
			value = pick("true", "false", "1")
		default:
			value = randomSchema(r, depth-1)
		}
		if r.IntN(30) == 0 {
			value = pick("1", "[]", `"x"`)
		}
		return fmt.Sprintf(`"%s":%s`, keyword, value)
	}) + "}"
}
