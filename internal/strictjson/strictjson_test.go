package strictjson_test

import (
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/strictjson"
	"github.com/webtrigger-go/webtrigger/internal/strictjson/corpus"
)

func TestCorpus(t *testing.T) {
	t.Parallel()
	count := map[int]int{}
	for _, c := range corpus.Cases() {
		count[c.Status]++
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			members, faults, err := strictjson.Parse(c.Document)
			if c.Status == 400 {
				requireSyntaxError(t, c.Document, err)
				require.Nil(t, members)
				require.Nil(t, faults)
				return
			}
			require.NoError(t, err)
			require.True(t, json.Valid(c.Document))
			require.Equal(t, len(c.Pointers), len(faults))
			for i, f := range faults {
				require.Equal(t, c.Pointers[i], f.Pointer)
			}
		})
	}
	require.GreaterOrEqual(t, count[200], 90)
	require.GreaterOrEqual(t, count[400]+count[422], 180)
}

func requireSyntaxError(t *testing.T, document []byte, err error) {
	t.Helper()
	var syntax *strictjson.SyntaxError
	require.ErrorAs(t, err, &syntax)
	require.GreaterOrEqual(t, syntax.Offset, int64(0))
	require.LessOrEqual(t, syntax.Offset, int64(len(document)))
	require.Less(t, len(syntax.Detail), 1000)
	require.True(t, utf8.ValidString(syntax.Detail))
	require.NotContains(t, syntax.Detail, "\x00")
}

func TestParseReturnsMembersAsSent(t *testing.T) {
	t.Parallel()
	body := []byte(" {\n \"b\" : 1e22 , \"a\":-0,\"\\u00e9\":[ 1 , {\"x\" : 2} ],\"\":\"\\u0041\", \"n\":123456789012345678901234567890 } ")
	members, faults, err := strictjson.Parse(body)
	require.NoError(t, err)
	require.Empty(t, faults)
	require.Equal(t, []strictjson.Member{
		{"b", json.RawMessage(`1e22`)},
		{"a", json.RawMessage(`-0`)},
		{"é", json.RawMessage(`[ 1 , {"x" : 2} ]`)},
		{"", json.RawMessage(`"\u0041"`)},
		{"n", json.RawMessage(`123456789012345678901234567890`)},
	}, members)
	require.Equal(t, members[2].Raw, strictjson.Members(body)[2].Raw)

	at := strings.Index(string(body), "1e22")
	require.Same(t, &body[at], &members[0].Raw[0], "Raw aliases the input")
	require.Equal(t, len(members[0].Raw), cap(members[0].Raw), "appending to Raw leaves the input alone")
}

func TestParse_emptyObject_differsFromNoObject(t *testing.T) {
	t.Parallel()
	members, faults, err := strictjson.Parse([]byte(` { } `))
	require.NoError(t, err)
	require.Empty(t, faults)
	require.NotNil(t, members)
	require.Empty(t, members)

	members, faults, err = strictjson.Parse([]byte(`[{"a":1}]`))
	require.NoError(t, err)
	require.Nil(t, members)
	require.Equal(t, []strictjson.Fault{{"", "must be a JSON object"}}, faults)
}

func TestFaultsAreReportedAllAtOnceInOrder(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 64) + strings.Repeat("]", 64)
	members, faults, err := strictjson.Parse([]byte(`{"x\u0000":1,"d":` + deep + `,"e":[{"k":"\u0000"}]}`))
	require.NoError(t, err)
	require.Equal(t, []strictjson.Fault{
		{"/x␀", "must not have the character U+0000 in its key"},
		{"/d" + strings.Repeat("/0", 63), "is nested deeper than 64 levels"},
		{"/e/0/k", "must not contain the character U+0000"},
	}, faults)
	require.Len(t, members, 3, "members come along with faults")
}

func TestFaultsAreBounded(t *testing.T) {
	t.Parallel()
	key := strings.Repeat("~é", 40_000)
	_, faults, err := strictjson.Parse([]byte(`{"` + key + `":[` + strings.Repeat(`"\u0000",`, 1000) + `0]}`))
	require.NoError(t, err)
	require.Len(t, faults, 100)
	for _, f := range faults {
		require.LessOrEqual(t, len(f.Pointer), 1100)
		require.True(t, strings.HasPrefix(f.Pointer, "/~0é~0é") && strings.HasSuffix(f.Pointer, "…"))
		require.True(t, utf8.ValidString(f.Pointer))
	}
}

func TestSyntaxErrors(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 200)
	for body, want := range map[string]strictjson.SyntaxError{
		"  ":                  {2, "the text is empty"},
		"\ufeff{}":            {0, "a byte order mark is not allowed"},
		"{\"a\":\"é\xff\"}":   {8, "the text is not UTF-8"},
		"\"\ufffd\xe2\x82\"":  {4, "the text is not UTF-8"},
		`{"a":1`:              {6, "the text ends where a comma or a closing } is expected"},
		`[1 2]`:               {3, "a comma or a closing ] is expected"},
		`{"a" 1}`:             {5, "a colon is expected"},
		`{"a":1,}`:            {7, "a key in double quotes is expected"},
		`{"a":1} {}`:          {8, "unexpected data after the value"},
		`{"a":nul}`:           {5, "a value is expected"},
		`{"a":1.}`:            {7, "a digit is expected"},
		`{"a":01}`:            {6, "a comma or a closing } is expected"},
		`"a\x"`:               {2, "this is not an escape"},
		`"a\u12"`:             {2, "this is not an escape"},
		`"\ud83d\ude00\ud83d`: {13, "a surrogate must be one half of a pair"},
		"\"a\n\"":             {2, "a string contains a raw line break: write \\n, or let a JSON library encode the text"},
		"\"a\r\n\"":           {2, "a string contains a raw line break: write \\r, or let a JSON library encode the text"},
		"\"a\t\"":             {2, "a string contains a raw tab: write \\t, or let a JSON library encode the text"},
		"\"a\x01\"":           {2, "a string contains a raw control character: write \\u0001, or let a JSON library encode the text"},
		"\"a\x00\"":           {2, "a string contains a raw control character: write \\u0000, or let a JSON library encode the text"},
		`"a`:                  {2, "the text ends where a closing quote is expected"},
		`{"a":1,"\u0061":2}`:  {7, `the key "a" appears twice in the object at ""`},
		`{"a":[0,{"b/c":{"\u0000":1,"\u0000":2}}]}`:         {27, `the key "\x00" appears twice in the object at "/a/1/b~1c"`},
		`{"o":{"` + long + `":1,"x":[],"` + long + `":1}}`:  {418, `the key "` + long[:128] + `" appears twice in the object at "/o"`},
		`[{"` + long + `":{"a":1,"a":2}}]`:                  {412, `the key "a" appears twice in the object at "/0/` + long[:122] + `"`},
		strings.Repeat("[", 3000) + `{"a":1,"a":2`:          {3012, "the text ends where a comma or a closing } is expected"},
		strings.Repeat("[", 99) + `{"a":[{"b":1}],"a":2}]`:  {99 + 15, `the key "a" appears twice in the object at "` + strings.Repeat("/0", 32) + `"`},
		`{"a":1,"b":{"a":1,"c":{}},"c":[],"b":{"x":1,"x":1`: {49, "the text ends where a comma or a closing } is expected"},
	} {
		_, _, err := strictjson.Parse([]byte(body))
		requireSyntaxError(t, []byte(body), err)
		want.Detail = fmt.Sprintf("Malformed JSON at offset %d: %s.", want.Offset, want.Detail)
		require.Equal(t, &want, err, "%.100q", body)
		require.EqualError(t, err, "strictjson: "+want.Detail)
	}
}

// The scanner reads strings in words of eight bytes, so the test has every byte at every position.
func TestParse_anyByteInString_isChecked(t *testing.T) {
	t.Parallel()
	for c := range 256 {
		for at := range 18 {
			text := []byte(strings.Repeat("x", 18))
			text[at] = byte(c)
			body := []byte(`{"v":"` + string(text) + `"}`)
			_, faults, err := strictjson.Parse(body)
			require.Empty(t, faults)
			require.Equal(t, json.Valid(body) && utf8.Valid(body), err == nil, "%q", body)
		}
	}
}

func TestDuplicateKeysAmongMany(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 40; n++ {
		for twice := range n {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, `"%d":{"%d":[]},`, i, twice)
			}
			unique := `{"o":{` + b.String() + `"last":0}}`
			_, _, err := strictjson.Parse([]byte(unique))
			require.NoError(t, err)

			double := `{"o":{` + b.String() + `"\u003` + strconv.Itoa(twice%10) + `":0}}`
			_, _, err = strictjson.Parse([]byte(double))
			require.Equal(t, &strictjson.SyntaxError{
				Offset: int64(len(`{"o":{` + b.String())),
				Detail: fmt.Sprintf(`Malformed JSON at offset %d: the key "%d" appears twice in the object at "/o".`, len(`{"o":{`+b.String()), twice%10),
			}, err)
		}
	}
}

func TestHugeTexts(t *testing.T) { // not parallel: it looks at what the whole process allocates
	for name, body := range worst() {
		data := []byte(body)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, faults, err := strictjson.Parse(data)
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64*len(data)), name)
		require.LessOrEqual(t, len(faults), 100, name)
		require.Equal(t, strings.Contains(name, "open ") || name == "white space", err != nil, name)
	}
}

func TestValue(t *testing.T) {
	t.Parallel()
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for body, pointers := range map[string][]string{
		`null`:                           nil,
		` [1,"two"] `:                    nil,
		`"\u0000"`:                       {""},
		`{"a":["\u0000"]}`:               {"/a/0"},
		nested(63):                       nil,
		nested(64):                       {strings.Repeat("/0", 63)},
		`{"a":` + nested(63) + `,"b":0}`: {"/a" + strings.Repeat("/0", 62)},
	} {
		faults, err := strictjson.Value([]byte(body))
		require.NoError(t, err)
		var got []string
		for _, f := range faults {
			got = append(got, f.Pointer)
		}
		require.Equal(t, pointers, got, body)
	}
	for _, body := range []string{``, ` `, `1,"x":2`, `1}`, `{"a":1,"a":2}`, `"\ud800"`, "\"\xff\"", `[] []`} {
		faults, err := strictjson.Value([]byte(body))
		requireSyntaxError(t, []byte(body), err)
		require.Nil(t, faults)
	}
}

func TestParse_notAnObject_hasNoMembers(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{``, `null`, `[]`, `[{"a":1}]`, `"{}"`, `{`, `{"a":1,"a":2}`} {
		require.Nil(t, strictjson.Members(json.RawMessage(raw)), raw)
	}
	require.Equal(t, []strictjson.Member{}, strictjson.Members(json.RawMessage(`{}`)))
	require.Nil(t, strictjson.Members(nil))
}

func TestUnknown(t *testing.T) {
	t.Parallel()
	members, _, err := strictjson.Parse([]byte(`{"message":"m","Message":1,"a/b~":2,"subject":null,"\u0000":3,"":4}`))
	require.NoError(t, err)
	const detail = "is not a known field"
	require.Equal(t, []strictjson.Fault{{"/Message", detail}, {"/a~1b~0", detail}, {"/␀", detail}, {"/", detail}},
		strictjson.Unknown(members, "message", "subject"))
	require.Empty(t, strictjson.Unknown(members[:1], "message"))
	require.Len(t, strictjson.Unknown(members), 6)
	require.Empty(t, strictjson.Unknown(nil))
	require.Len(t, strictjson.Unknown(make([]strictjson.Member, 1000)), 100)
}

func TestString(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`""`:                         "",
		`"plain é 😀"`:                "plain é 😀",
		`"\"\\\/\b\f\n\r\t"`:         "\"\\/\b\f\n\r\t",
		`"\u0041\u00e9\u00E9\uffff"`: "Aéé\uffff",
		`"\ud83d\ude00\uDBFF\uDFFF"`: "😀\U0010ffff",
		`"\u0000"`:                   "\x00",
		`"\\u0041"`:                  `\u0041`,
		`"a\nb\u0041c"`:              "a\nbAc",
	} {
		got, ok := strictjson.String(json.RawMessage(raw))
		require.True(t, ok, raw)
		require.Equal(t, want, got)
	}
	for _, raw := range []string{``, `"`, `"\"`, `"\u00"`, `"a"x`, `"a`, `null`, `1`, `{}`, `["a"]`, "\"\n\"", `"\ud800"`, `a"`, ` "a"`} {
		got, ok := strictjson.String(json.RawMessage(raw))
		require.False(t, ok, raw)
		require.Empty(t, got)
	}
}

func TestIsNullIsObject(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{``, `null`, `{}`, `{"a":1}`, `[]`, `"null"`, `"{}"`, `0`, `true`} {
		require.Equal(t, raw == "null", strictjson.IsNull(json.RawMessage(raw)), raw)
		require.Equal(t, strings.HasPrefix(raw, "{"), strictjson.IsObject(json.RawMessage(raw)), raw)
	}
}

func TestPositiveInt64(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]int64{
		"1": 1, "9": 9, "10": 10, "42": 42, "9007199254740993": 9007199254740993, "9223372036854775807": math.MaxInt64,
	} {
		got, ok := strictjson.PositiveInt64(json.RawMessage(raw))
		require.True(t, ok, raw)
		require.Equal(t, want, got)
	}
	for _, raw := range []string{"", "0", "-0", "-1", "+1", "01", "1.0", "1e0", "1E3", "1.5", "9223372036854775808", "18446744073709551617",
		"123456789012345678901234567890", `"1"`, "null", "true", "{}", "[1]", "1 ", "1_0", "0x1", "１"} {
		_, ok := strictjson.PositiveInt64(json.RawMessage(raw))
		require.False(t, ok, raw)
	}
}

func TestPointer(t *testing.T) {
	t.Parallel()
	require.Equal(t, "", strictjson.Pointer())
	// RFC 6901 §5
	for want, token := range map[string]string{"/": "", "/a~1b": "a/b", "/c%d": "c%d", "/e^f": "e^f", "/g|h": "g|h", `/i\j`: `i\j`, `/k"l`: `k"l`, "/ ": " ", "/m~0n": "m~n"} {
		require.Equal(t, want, strictjson.Pointer(token))
	}
	require.Equal(t, "/foo/0", strictjson.Pointer("foo", "0"))
	require.Equal(t, "/~01/~1~0//x", strictjson.Pointer("~1", "/~", "", "x"))
	require.Equal(t, "/a␀b/\uFFFD", strictjson.Pointer("a\x00b", "\xff"))

	fits := strings.Repeat("x", 1022)
	require.Equal(t, "/"+fits, strictjson.Pointer(fits))
	require.Equal(t, "/"+fits+"/", strictjson.Pointer(fits, ""))
	require.Equal(t, "/"+fits+"/", strictjson.Pointer(fits, "", "y", "z"), "what is left is an ancestor")
	require.Equal(t, "/"+fits+"x…", strictjson.Pointer(fits+"xyz", "y"))
	require.Equal(t, "/"+fits+"~0…", strictjson.Pointer(fits+"~~"), "no half escapes")
}
