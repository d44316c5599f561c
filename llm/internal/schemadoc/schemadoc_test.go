package schemadoc_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/llm/internal/schemadoc"
)

func parse(t *testing.T, schema string) *schemadoc.Value {
	t.Helper()
	v, err := schemadoc.Parse([]byte(schema))
	require.NoError(t, err)
	return v
}

func TestParse_validJSON_isWrittenAsItWas(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{"b":1.50,"a":[true,false,null,"<é>"],"":{}}`, `12345678901234567890`, `[]`, strings.Repeat(`[`, 9000) + strings.Repeat(`]`, 9000),
	} {
		require.Equal(t, text, string(parse(t, text).JSON()))
	}
	require.Equal(t, `{"a":2,"b":1}`, string(parse(t, `{"a":1,"b":1,"a":2}`).JSON()), "the last of two members must count")
	for _, bad := range []string{``, `{`, `{} {}`, `{"a"}`, strings.Repeat(`[`, 20000) + strings.Repeat(`]`, 20000)} {
		_, err := schemadoc.Parse([]byte(bad))
		require.Error(t, err)
	}
}

func TestTranslate_keywordsOfOtherDrafts_becomeThoseOf2020(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, schema, want string }{
		{"nothing to do", `{"type":["string","null"],"x-own":{"items":[]},"const":null,"enum":[null]}`, `{"type":["string","null"],"x-own":{"items":[]},"const":null,"enum":[null]}`},
		{"draft 04", `{"minimum":1,"exclusiveMinimum":true,"maximum":2,"exclusiveMaximum":false}`, `{"exclusiveMinimum":1,"maximum":2}`},
		{"draft 04 without a limit", `{"exclusiveMinimum":true}`, `{}`},
		{"tuple", `{"items":[{},{"items":[true]}],"additionalItems":{"type":"string"}}`, `{"prefixItems":[{},{"prefixItems":[true]}],"items":{"type":"string"}}`},
		{"empty tuple", `{"items":[],"additionalItems":false}`, `{"items":false}`},
		{"draft 2019-09", `{"$recursiveAnchor":true,"properties":{"next":{"$recursiveRef":"#"}}}`, `{"properties":{"next":{"$ref":"#"}}}`},
		{"null is absent", `{"properties":null,"required":null,"items":null,"title":null,"type":null}`, `{}`},
		{"integers", `{"minLength":1.0,"maxItems":2e1}`, `{"minLength":1,"maxItems":20}`},
		{"a name twice", `{"required":["a","b","a"]}`, `{"required":["a","b"]}`},
		{"both forms of dependencies", `{"dependencies":{"a":["b"],"c":{"minimum":0,"exclusiveMinimum":true}}}`, `{"dependencies":{"a":["b"],"c":{"exclusiveMinimum":0}}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := parse(t, tt.schema)
			require.Empty(t, schemadoc.Translate(v, true))
			require.Equal(t, tt.want, string(v.JSON()))
		})
	}
}

func TestTranslate_keywordOfWrongForm_isLostWithItsPlace(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ schema, path, keyword, want string }{
		{`{"properties":{"a/b":{"required":true,"title":"t"}}}`, "/properties/a~1b", "required", `{"properties":{"a/b":{"title":"t"}}}`},
		{`{"type":"any"}`, "", "type", `{}`},
		{`{"type":["string",{}]}`, "", "type", `{}`},
		{`{"items":{"minLength":-1}}`, "/items", "minLength", `{"items":{}}`},
		{`{"items":{"minLength":"1"}}`, "/items", "minLength", `{"items":{}}`},
		{`{"multipleOf":0}`, "", "multipleOf", `{}`},
		{`{"anyOf":[]}`, "", "anyOf", `{}`},
		{`{"anyOf":[1]}`, "", "anyOf", `{}`},
		{`{"properties":{"a":null}}`, "", "properties/a", `{"properties":{"a":{}}}`},
		{`{"properties":[]}`, "", "properties", `{}`},
		{`{"items":"string"}`, "", "items", `{}`},
		{`{"uniqueItems":1}`, "", "uniqueItems", `{}`},
		{`{"pattern":1}`, "", "pattern", `{}`},
		{`{"maximum":"9"}`, "", "maximum", `{}`},
		{`{"enum":{}}`, "", "enum", `{}`},
		{`{"$recursiveRef":"#","$defs":{"a":{"$id":"https://example.com/a"}}}`, "", "$recursiveRef", `{"$defs":{"a":{"$id":"https://example.com/a"}}}`},
		{`{"dependentRequired":{"a":[1]}}`, "", "dependentRequired", `{}`},
	} {
		v := parse(t, tt.schema)
		losses := schemadoc.Translate(v, true)
		require.Len(t, losses, 1, tt.schema)
		require.Equal(t, tt.path, losses[0].Path)
		require.Equal(t, tt.keyword, losses[0].Keyword)
		require.NotEmpty(t, losses[0].Reason)
		require.Equal(t, tt.want, string(v.JSON()))
	}
}

func TestGather_schemasInOtherPlaces_moveToDefs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, schema, want string }{
		{"at a position of a schema", `{"$ref":"#/definitions/a","definitions":{"a":{"$ref":"#/properties/b"}},"properties":{"b":{}}}`,
			`{"$ref":"#/definitions/a","definitions":{"a":{"$ref":"#/properties/b"}},"properties":{"b":{}}}`},
		{"components", `{"$ref":"#/components/schemas/A%3CB%3E","components":{"schemas":{"A<B>":{"items":{"$ref":"#/components/schemas/A<B>"}}}}}`,
			`{"$ref":"#/$defs/A%3CB%3E","components":{"schemas":{"A<B>":{"items":{"$ref":"#/components/schemas/A<B>"}}}},"$defs":{"A<B>":{"items":{"$ref":"#/$defs/A%3CB%3E"}}}}`},
		{"definitions besides $defs", `{"allOf":[{"$ref":"#/definitions/a"},{"$ref":"#/$defs/a"}],"$defs":{"a":{"type":"string"}},"definitions":{"a":{"$ref":"#/definitions/b"},"b":{}}}`,
			`{"allOf":[{"$ref":"#/$defs/a_2"},{"$ref":"#/$defs/a"}],"$defs":{"a":{"type":"string"},"a_2":{"$ref":"#/$defs/b"},"b":{}}}`},
		{"nowhere", `{"$ref":"#/x/y"}`, `{"$ref":"#/x/y"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := parse(t, tt.schema)
			schemadoc.Gather(v)
			require.Equal(t, tt.want, string(v.JSON()))
		})
	}
}

func TestResolve_findsWhatAReferenceNames(t *testing.T) {
	t.Parallel()
	root := parse(t, `{"$id":"https://example.com/root.json","$defs":{"a":{"$anchor":"x","title":"a"},"b":{"$id":"b.json","title":"b","$defs":{"c":{"$id":"#c","title":"c"}}},"e/f":{"title":"e"}},"enum":[1]}`)
	refs := schemadoc.NewRefs(root)
	for ref, title := range map[string]string{
		"#/$defs/a": "a", "#x": "a", "b.json": "b", "https://example.com/b.json": "b", "b.json#/$defs/c": "c", "b.json#c": "c",
		"root.json#/$defs/e~1f": "e", "#/$defs/none": "", "https://example.com/other.json": "", "#/enum": "", "#/enum/0": "", "%": "", "#y": "",
	} {
		target := refs.Resolve(root, ref)
		if title == "" {
			require.Nil(t, target, ref)
			continue
		}
		require.NotNil(t, target, ref)
		require.Equal(t, title, target.Get("title").Text, ref)
	}
	require.Same(t, root, refs.Resolve(root, "#"))
}
