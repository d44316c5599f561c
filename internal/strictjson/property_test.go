package strictjson_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/webtrigger-go/webtrigger/internal/strictjson"
)

// For any spelling, Parse returns the lexemes of the document as members.
func TestParse_anySpelling_returnsLexemes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var keys, quoted, values []string
		for _, key := range rapid.SliceOfNDistinct(text, 0, 24, rapid.ID[string]).Draw(t, "keys") {
			keys = append(keys, key)
			quoted = append(quoted, spell(t, key))
			values = append(values, value(t, 4))
		}
		var b strings.Builder
		b.WriteString(space(t) + "{" + space(t))
		for i := range keys {
			if i > 0 {
				b.WriteString("," + space(t))
			}
			b.WriteString(quoted[i] + space(t) + ":" + space(t) + values[i] + space(t))
		}
		b.WriteString("}" + space(t))
		document := b.String()

		members, faults, err := strictjson.Parse([]byte(document))
		require.NoError(t, err, document)
		require.Empty(t, faults)
		require.Len(t, members, len(keys))
		for i, m := range members {
			require.Equal(t, keys[i], m.Key)
			require.Equal(t, values[i], string(m.Raw))
			faults, err := strictjson.Value(m.Raw)
			require.NoError(t, err)
			require.Empty(t, faults)
		}
		require.Equal(t, members, strictjson.Members([]byte(document)))
	})
}

func TestStringUndoesEverySpelling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := text.Draw(t, "text")
		got, ok := strictjson.String(json.RawMessage(spell(t, want)))
		require.True(t, ok)
		require.Equal(t, want, got)
	})
}

// The generators are shared, and rapid's first Draw of one writes to it: the
// tests that draw from them do not run in parallel.
var (
	text   = rapid.StringOfN(rapid.OneOf(rapid.Rune(), rapid.RuneFrom([]rune("\x01\b\t\n\f\r\x1f \"/\\~u{}[]:,0\x7f\u0080é\u2028自\ufffd\uffff😀"))).Filter(func(r rune) bool { return r != 0 }), 0, 20, -1)
	number = rapid.StringMatching(`-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?`)
	blanks = rapid.StringMatching(`[ \t\r\n]{0,3}`)
)

func space(t *rapid.T) string { return blanks.Draw(t, "space") }

// spell writes s as a JSON string in one of its many spellings.
func spell(t *rapid.T, s string) string {
	short := map[rune]string{'"': `\"`, '\\': `\\`, '/': `\/`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		plain := r >= ' ' && r != '"' && r != '\\'
		switch how := rapid.IntRange(0, 3).Draw(t, "how"); {
		case how <= 1 && plain:
			b.WriteRune(r)
		case how <= 2 && short[r] != "":
			b.WriteString(short[r])
		default:
			format := rapid.SampledFrom([]string{`\u%04x`, `\u%04X`}).Draw(t, "format")
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&b, format, unit)
			}
		}
	}
	return b.String() + `"`
}

// value writes a JSON value of at most depth levels.
func value(t *rapid.T, depth int) string {
	kinds := 3
	if depth > 0 {
		kinds = 5
	}
	switch rapid.IntRange(0, kinds).Draw(t, "kind") {
	case 0:
		return rapid.SampledFrom([]string{"true", "false", "null", "{}", "[]", `""`}).Draw(t, "literal")
	case 1:
		return number.Draw(t, "number")
	case 2, 3:
		return spell(t, text.Draw(t, "text"))
	case 4:
		var items []string
		for range rapid.IntRange(0, 4).Draw(t, "length") {
			items = append(items, space(t)+value(t, depth-1)+space(t))
		}
		return "[" + strings.Join(items, ",") + "]"
	}
	var items []string
	for _, key := range rapid.SliceOfNDistinct(text, 0, 4, rapid.ID[string]).Draw(t, "keys") {
		items = append(items, space(t)+spell(t, key)+space(t)+":"+space(t)+value(t, depth-1)+space(t))
	}
	return "{" + strings.Join(items, ",") + "}"
}
