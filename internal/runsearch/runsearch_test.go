package runsearch_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/runsearch"
)

func scalars(raw string) (list []string) {
	for path, value := range runsearch.Scalars([]byte(raw)) {
		list = append(list, path+"="+value)
	}
	return list
}

func TestScalars_byKind_yieldsPathAndLexeme(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string][]string{
		`{"customer": {"id": 4711, "name": "M\u00fcller", "vip": true, "x": null}}`: {"customer.id=4711", "customer.name=Müller", "customer.vip=true", "customer.x=null"},
		`{"items": [{"sku": "a"}, "b", []], "empty": {}}`:                           {"items.0.sku=a", "items.1=b"},
		`{"n": 1e1000000, "m": 1.50, "big": 12345678901234567890}`:                  {"n=1e1000000", "m=1.50", "big=12345678901234567890"},
		`{"a": 1, "a": 2}`:          {"a=1", "a=2"},
		`{"a.b": 1, "a": {"b": 2}}`: {"a.b=1", "a.b=2"},
		`"text"`:                    {"=text"},
		`17`:                        {"=17"},
		`{"a": "\ud800", "b": "🎈"}`: {"a=\ufffd", "b=🎈"},
		`{"a": 1, `:                 {"a=1"},
		``:                          nil,
	} {
		require.Equal(t, want, scalars(raw), raw)
	}
}

// Deep and long paths cost no more than their text.
func TestScalars_longPath_isCut(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"k":`, 9000) + `"bottom"` + strings.Repeat(`}`, 9000)
	require.True(t, json.Valid([]byte(deep)))
	require.Equal(t, []string{"\x00=bottom"}, scalars(deep))
	require.Equal(t, []string{"\x00=1", "ok=2"}, scalars(`{"`+strings.Repeat("k", 201)+`": 1, "ok": 2}`))
}

func TestContains_otherCase_matches(t *testing.T) {
	t.Parallel()
	require.True(t, runsearch.Contains("Frau MÜLLER, Order 4711", runsearch.Fold("müller, ORDER")))
	require.False(t, runsearch.Contains("Muller", runsearch.Fold("müller")))
	require.True(t, runsearch.Contains("100%_", "%_"))
}

func TestMayContain_escapes_areNotRuledOut(t *testing.T) {
	t.Parallel()
	require.True(t, runsearch.MayContain([]byte(`{"a": "M\u00fcller"}`), "müller"))
	require.True(t, runsearch.MayContain([]byte(`{"a": "ACME"}`), "acme"))
	require.False(t, runsearch.MayContain([]byte(`{"a": "ACME"}`), "müller"))
	require.False(t, runsearch.MayContain(nil, ""))
}

func FuzzScalars(f *testing.F) {
	f.Add([]byte(`{"a": [1, {"b": null}], "c": "\u00e4"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		n := 0
		for path, value := range runsearch.Scalars(raw) {
			require.LessOrEqual(t, len(path), runsearch.MaxPath)
			if utf8.Valid(raw) {
				require.True(t, runsearch.MayContain(raw, runsearch.Fold(value)))
			}
			n++
		}
		require.LessOrEqual(t, n, len(raw))
	})
}
