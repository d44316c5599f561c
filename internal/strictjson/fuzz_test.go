package strictjson_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/strictjson"
	"github.com/webtrigger-go/webtrigger/internal/strictjson/corpus"
)

// FuzzParse compares Parse with a model that uses encoding/json and the rules in their simplest form.
func FuzzParse(f *testing.F) {
	for _, c := range corpus.Cases() {
		f.Add(c.Document)
	}
	f.Add([]byte(small))
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) > 5000 {
			t.Skip("encoding/json gives up at 10,000 levels")
		}
		original := bytes.Clone(data)
		members, faults, err := strictjson.Parse(data)
		require.Equal(t, original, data, "the input must not change")

		j := model{malformed: !utf8.Valid(data) || !json.Valid(data) || loneSurrogate(data)}
		if !j.malformed {
			j.dec = json.NewDecoder(bytes.NewReader(data))
			j.dec.UseNumber()
			j.document()
		}
		require.Equal(t, j.malformed, err != nil, "%v", err)
		if err != nil {
			requireSyntaxError(t, data, err)
			require.Nil(t, members)
			require.Nil(t, faults)
			return
		}
		require.Len(t, faults, min(len(j.pointers), 100))
		for i, fault := range faults {
			if len(j.pointers[i]) < 1024 {
				require.Equal(t, j.pointers[i], fault.Pointer)
			}
			require.True(t, utf8.ValidString(fault.Pointer))
		}
		require.Equal(t, j.members, members)
		for _, m := range members {
			var want *string
			isString := m.Raw[0] == '"'
			got, ok := strictjson.String(m.Raw)
			require.Equal(t, isString, ok)
			if isString {
				require.NoError(t, json.Unmarshal(m.Raw, &want))
				require.Equal(t, *want, got)
			}
			require.Equal(t, string(m.Raw) == "null", strictjson.IsNull(m.Raw))
			n, ok := strictjson.PositiveInt64(m.Raw)
			require.Equal(t, ok, ok && strconv.FormatInt(n, 10) == string(m.Raw) && n > 0)
		}
	})
}

// FuzzString checks that the readers of accepted values do not fall over others.
func FuzzString(f *testing.F) {
	for _, c := range corpus.Cases() {
		f.Add(c.Document)
		for _, m := range strictjson.Members(c.Document) {
			f.Add([]byte(m.Raw))
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		strictjson.PositiveInt64(raw)
		strictjson.Members(raw)
		got, ok := strictjson.String(raw)
		if !utf8.Valid(raw) {
			return // String is not asked to check
		}
		require.Equal(t, len(raw) > 0 && raw[0] == '"' && raw[len(raw)-1] == '"' && json.Valid(raw) && !loneSurrogate(raw), ok)
		if ok {
			var want string
			require.NoError(t, json.Unmarshal(raw, &want))
			require.Equal(t, want, got)
		}
	})
}

var (
	escapes = regexp.MustCompile(`(?s)\\(u[0-9a-fA-F]{4}|.)`)
	pairs   = regexp.MustCompile(`^(\\u[dD][89abAB]..\\u[dD][c-fC-F]..)+`)
	half    = regexp.MustCompile(`^\\u[dD][89a-fA-F]`)
)

// loneSurrogate looks through the escapes of a valid document, which has backslashes in strings only.
func loneSurrogate(data []byte) bool {
	for {
		at := escapes.FindIndex(data)
		if at == nil {
			return false
		}
		if pair := pairs.FindIndex(data[at[0]:]); pair != nil {
			data = data[at[0]+pair[1]:]
			continue
		}
		if half.Match(data[at[0]:at[1]]) {
			return true
		}
		data = data[at[1]:]
	}
}

// model walks a valid document by recursion over the tokens of encoding/json.
type model struct {
	dec       *json.Decoder
	malformed bool
	pointers  []string
	members   []strictjson.Member
}

func (j *model) document() {
	token, _ := j.dec.Token()
	if token != json.Delim('{') {
		j.pointers = append(j.pointers, "")
	}
	j.value(token, "", 0)
}

func (j *model) value(token json.Token, pointer string, depth int) {
	switch token := token.(type) {
	case string:
		if strings.Contains(token, "\x00") {
			j.pointers = append(j.pointers, pointer)
		}
	case json.Delim:
		if depth == 64 {
			j.pointers = append(j.pointers, pointer)
		}
		if token == '{' {
			j.object(pointer, depth+1)
			return
		}
		for i := 0; j.dec.More(); i++ {
			item, _ := j.dec.Token()
			j.value(item, pointer+"/"+strconv.Itoa(i), depth+1)
		}
		j.dec.Token()
	}
}

func (j *model) object(pointer string, depth int) {
	seen := map[string]bool{}
	if depth == 1 {
		j.members = []strictjson.Member{}
	}
	for j.dec.More() {
		token, _ := j.dec.Token()
		key := token.(string)
		j.malformed = j.malformed || seen[key]
		seen[key] = true
		place := pointer + "/" + strings.NewReplacer("~", "~0", "/", "~1", "\x00", "␀").Replace(key)
		if strings.Contains(key, "\x00") {
			j.pointers = append(j.pointers, place)
		}
		if depth > 1 {
			item, _ := j.dec.Token()
			j.value(item, place, depth)
			continue
		}
		var raw json.RawMessage
		if j.dec.Decode(&raw) != nil {
			panic("a valid document does not decode")
		}
		j.members = append(j.members, strictjson.Member{Key: key, Raw: raw})
		inner := model{dec: json.NewDecoder(bytes.NewReader(raw))}
		inner.dec.UseNumber()
		item, _ := inner.dec.Token()
		inner.value(item, place, depth)
		j.malformed = j.malformed || inner.malformed
		j.pointers = append(j.pointers, inner.pointers...)
	}
	j.dec.Token()
}
