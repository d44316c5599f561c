package openapi_test

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/openapi"
)

// TestMutations removes one field at a time from the document. Then responses have a
// field that the document does not have, and the check must find each such field in the
// transcripts or in live traffic.
func TestMutations(t *testing.T) {
	t.Parallel()
	all := append(transcripts(t), live(t)...)
	for _, name := range []string{"Accepted", "Status", "CancelRequested", "Event", "Problem"} {
		schema := dig(newContract(t, openapi.JSON()).document, "components", "schemas", name)
		for field := range dig(schema, "properties") {
			if name == "Problem" && field == "purged_to" {
				continue // needs events that were purged
			}
			var document map[string]any
			decoder := json.NewDecoder(bytes.NewReader(openapi.JSON()))
			decoder.UseNumber()
			require.NoError(t, decoder.Decode(&document))
			delete(dig(document, "components", "schemas", name, "properties"), field)
			mutated, err := json.Marshal(document)
			require.NoError(t, err)
			c := newContract(t, mutated)
			found := slices.ContainsFunc(all, func(x exchange) bool { return len(c.check(x)) > 0 })
			require.True(t, found, "no exchange has %s.%s", name, field)
		}
	}
}

// TestAddedField adds a field to every response with a body. The check must reject
// each.
func TestAddedField(t *testing.T) {
	t.Parallel()
	c := newContract(t, openapi.JSON())
	for _, x := range append(transcripts(t), live(t)...) {
		if x.method == "HEAD" || !bytes.Contains(x.answerBody, []byte("{")) {
			continue
		}
		x.answerBody = bytes.Replace(x.answerBody, []byte("{"), []byte(`{"new_field":null,`), 1)
		require.NotEmpty(t, c.check(x), x.name)
	}
}

// TestCodes holds the codes of the document to those of docs/errors.md, less
// those of the admin API alone.
func TestCodes(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/errors.md")
	require.NoError(t, err)
	var want []string
	for _, heading := range regexp.MustCompile(`(?m)^## (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		if !slices.Contains([]string{"cross_origin", "conflict", "precondition_failed"}, heading[1]) {
			want = append(want, heading[1])
		}
	}
	c := newContract(t, openapi.JSON())
	var listed []string
	for _, code := range dig(c.document, "components", "schemas", "Problem", "properties", "code")["enum"].([]any) {
		listed = append(listed, code.(string))
	}
	require.ElementsMatch(t, want, listed)
	var shown []string
	for name, response := range dig(c.document, "components", "responses") {
		where := []string{"components", "responses", name, "content", "application/problem+json"}
		for code, example := range dig(response.(map[string]any), "content", "application/problem+json", "examples") {
			shown = append(shown, code)
			value := dig(example.(map[string]any), "value")
			require.Equal(t, code, value["code"])
			require.True(t, strings.HasSuffix(value["type"].(string), "#"+code))
			require.Empty(t, c.value(append(where, "schema"), value, code))
		}
	}
	slices.Sort(shown)
	require.ElementsMatch(t, want, slices.Compact(shown))
}
