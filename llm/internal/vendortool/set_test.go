package vendortool_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/internal/vendortool"
)

func TestFit_names_areValidAndUniqueAndLeadBack(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 70)
	names := []string{"files.read", "files/read", "files_read", "files read", "", " ", "é", long + "1", long + "2", "tab\t", "ok\n", "ok", "a-b", "twice", "twice"}
	var specs []llm.ToolSpec
	for _, name := range names {
		specs = append(specs, spec(name, `{}`))
	}
	want := []string{"files_read_2", "files_read_3", "files_read", "files_read_4", "unnamed_tool", "unnamed_tool_2", "unnamed_tool_3",
		long[:64], long[:62] + "_2", "tab", "ok_2", "ok", "a-b", "twice"}
	for vendor, rules := range vendors {
		set := rules.Fit(specs)
		require.NoError(t, accepts(vendor, set.Tools()))
		require.Equal(t, []vendortool.Skipped{{Name: "twice", Reason: "another tool has the same name"}}, set.Skipped())
		for i, tool := range set.Tools() {
			require.Equal(t, want[i], tool.Name, vendor)
			require.Equal(t, tool.Name, set.VendorName(names[i]))
			name, arguments := set.Call(tool.Name, json.RawMessage(`not JSON`))
			require.Equal(t, names[i], name)
			require.Equal(t, `not JSON`, string(arguments))
		}
	}
}

func TestVendorName_nameOfNoTool_isValidAndNotThatOfAnother(t *testing.T) {
	t.Parallel()
	set := vendortool.OpenAI.Fit([]llm.ToolSpec{spec("read_file", `{}`), spec("a.b", `{}`)})
	for name, want := range map[string]string{
		"unknown": "unknown", "read file": "read_file_2", "a b": "a_b_2", "a_b": "a_b_2", "": "unnamed_tool", "\xff": "unnamed_tool",
		"functions.read_file": "functions_read_file", "{\"name\":": "name", strings.Repeat("y", 99): strings.Repeat("y", 64),
	} {
		require.Equal(t, want, set.VendorName(name), "%q", name)
		require.NoError(t, accepts("openai", []vendortool.Tool{{Name: want, Schema: json.RawMessage(`{"type":"object","properties":{}}`)}}))
	}
	name, _ := set.Call("unknown", nil)
	require.Equal(t, "unknown", name)
}

func TestVendorArguments_anythingButAnObject_isAnEmptyObject(t *testing.T) {
	t.Parallel()
	set := vendortool.Anthropic.Fit([]llm.ToolSpec{spec("t", `{}`)})
	for arguments, want := range map[string]string{
		``: `{}`, `null`: `{}`, `[1]`: `{}`, `"x"`: `{}`, `{"a":`: `{}`, `{} {}`: `{}`, "{\"e\": \"say \"6*7\"\"}": `{}`,
		` {"a": 1.50} `: `{"a": 1.50}`, `{"n":12345678901234567890}`: `{"n":12345678901234567890}`,
		"{\"a\":\"\xff\"}": `{"a":"�"}`, `{"a":"\ud800"}`: `{"a":"�"}`, `{"a":"\ud83d\ude00","n":1.0}`: `{"a":"😀","n":1.0}`,
	} {
		for _, name := range []string{"t", "unknown"} {
			require.Equal(t, want, string(set.VendorArguments(name, json.RawMessage(arguments))), "%q", arguments)
		}
	}
}

func TestCall_renamedProperties_areMappedBothWays(t *testing.T) {
	t.Parallel()
	set := vendortool.Anthropic.Fit([]llm.ToolSpec{spec("list", `{"properties":{"$top":{},"$filter":{},"a b":{},"a_b":{}}}`)})
	vendor := `{ "top": 12345678901234567890, "a_b_2":{"top": 1.50 },"a_b":"\u0041", "other": null}`
	own := `{"$top":12345678901234567890,"a b":{"top": 1.50 },"a_b":"\u0041","other":null}`
	name, arguments := set.Call("list", json.RawMessage(vendor))
	require.Equal(t, "list", name)
	require.Equal(t, own, string(arguments), "values must keep their bytes")
	require.JSONEq(t, vendor, string(set.VendorArguments("list", arguments)))
	for _, odd := range []string{``, `null`, `[{"top":1}]`, `{"top":1`, `{"top":1} {}`} {
		_, arguments := set.Call("list", json.RawMessage(odd))
		require.Equal(t, odd, string(arguments), "what is not an object must stay as it is")
	}
}

func TestLog_reportsEachToolAndReasonOnce(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&out, nil))
	log := new(vendortool.Log)
	for range 3 {
		log.Report(logger, vendortool.OpenAI.Fit([]llm.ToolSpec{spec("bad", `{"type":"array"}`), spec("good", `{}`)}))
	}
	require.Equal(t, 1, strings.Count(out.String(), "tool skipped"))
	require.Contains(t, out.String(), `level=WARN msg="tool skipped" tool=bad vendor=OpenAI reason="its arguments are of type array`)
}

func FuzzFit(f *testing.F) {
	for _, schema := range []string{
		`{}`, `null`, `{"type":["object","null"],"properties":{"$top":{"type":"array"}},"required":["$top"]}`,
		`{"anyOf":[{"$ref":"#/$defs/a"},{"allOf":[{"required":["x"]},true]}],"$defs":{"a":{"properties":{"x":{"items":[{}]}},"not":{}}}}`,
		`{"$ref":"#/definitions/a","$defs":{"a":false},"definitions":{"a":{"enum":[1]}},"exclusiveMinimum":true}`,
		`{"oneOf":[{"properties":{"":{"type":"object"}}},{"properties":{"":{"$ref":"#"}}}],"if":{"properties":{"":true}}}`,
		`{"allOf":[{"$id":"http://a/b","$ref":"#/x/y","x":{"y":{"type":"array"}}},{"dependencies":{"a":["b"],"c":{}}}]}`,
		exponential(20),
	} {
		f.Add("a.b", "text", schema, `{"$top":1,"x":[1.0]}`)
	}
	f.Fuzz(func(t *testing.T, name, description, schema, arguments string) {
		specs := []llm.ToolSpec{
			{Name: name, Description: description, Parameters: json.RawMessage(schema)},
			{Name: "a_b", Parameters: json.RawMessage(`{"type":"object","properties":{"$top":{}}}`)},
		}
		for vendor, rules := range vendors {
			set := rules.Fit(specs)
			if err := accepts(vendor, set.Tools()); err != nil {
				t.Fatal(vendor, err)
			}
			if len(set.Tools())+len(set.Skipped()) != len(specs) {
				t.Fatal("a tool is neither offered nor skipped")
			}
			for _, tool := range set.Tools() {
				original, _ := set.Call(tool.Name, nil)
				if set.VendorName(original) != tool.Name {
					t.Fatalf("%q leads to %q", tool.Name, original)
				}
				if err := roundTrips(set, tool, original, arguments); err != nil {
					t.Fatal(vendor, err)
				}
			}
		}
	})
}

// roundTrips checks that arguments of the vendor's names are the same after both
// translations.
func roundTrips(set *vendortool.Set, tool vendortool.Tool, original, arguments string) error {
	var before map[string]any
	if json.Unmarshal([]byte(arguments), &before) != nil || before == nil {
		return nil
	}
	var schema struct{ Properties map[string]any }
	if err := json.Unmarshal(tool.Schema, &schema); err != nil {
		return err
	}
	for key := range schema.Properties { // besides what the input has
		if _, ok := before[key]; !ok {
			before[key] = key
		}
	}
	vendor := mustJSON(before)
	_, own := set.Call(tool.Name, vendor)
	var mapped map[string]any
	if err := json.Unmarshal(own, &mapped); err != nil {
		return err
	}
	if len(mapped) != len(before) { // the input has an original name besides its vendor name
		return nil
	}
	back := set.VendorArguments(original, own)
	var after map[string]any
	if err := json.Unmarshal(back, &after); err != nil {
		return err
	}
	for key := range before {
		if string(mustJSON(before[key])) != string(mustJSON(after[key])) && schema.Properties[key] != nil {
			return fmt.Errorf("%q: %v became %v through %s", key, before[key], after[key], own)
		}
	}
	return nil
}

func mustJSON(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}
