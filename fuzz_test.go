package webtrigger_test

import (
	"encoding/json"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// A body is either refused or means what encoding/json reads from it.
func FuzzTriggerBody(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `[]`, `null`, `{"message": "x"}`, `{"message": "x", "subject": null, "context": {"a": 1e22}}`,
		`{"message": "\ud83d\ude00", "metadata": [-0, "\u00e9"], "task_definition_id": 9223372036854775807}`,
		`{"message": "x", "message": "y"}`, `{"message": "\ud800"}`, `{"Message": "x"}`, `{"message": "x"} x`,
		`{"message": "x", "callback_url": ""}`, `{"message": "a\u0000"}`, "\xef\xbb\xbf{}", `{"message": "` + strings.Repeat("é", 300) + `"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		req, faults, err := webtrigger.DecodeTrigger(body)
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		require.True(t, json.Valid(body) && utf8.Valid(body), "malformed JSON was taken")
		if len(faults) > 0 {
			return
		}
		var plain struct {
			Message          string          `json:"message"`
			Subject          *string         `json:"subject"`
			Context          json.RawMessage `json:"context"`
			TaskDefinitionID *int64          `json:"task_definition_id"`
			CallbackURL      *string         `json:"callback_url"`
			Metadata         json.RawMessage `json:"metadata"`
		}
		require.NoError(t, json.Unmarshal(body, &plain))
		require.Equal(t, plain.Message, req.Message)
		require.Equal(t, value(plain.Subject), req.Subject)
		require.Equal(t, value(plain.CallbackURL), req.CallbackURL)
		require.Equal(t, value(plain.TaskDefinitionID), req.TaskDefinitionID)
		require.Equal(t, raw(plain.Metadata), string(req.Metadata))
		require.Equal(t, raw(plain.Context), string(req.Context))
		require.NotContains(t, req.Message, "\x00")
	})
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// raw is a member as it is kept: null means absent.
func raw(m json.RawMessage) string {
	if string(m) == "null" {
		return ""
	}
	return string(m)
}

// Only 64 lowercase hex characters after one Bearer make a key.
func FuzzAuthorization(f *testing.F) {
	key := strings.Repeat("0123456789abcdef", 4)
	for _, seed := range []string{"", "Bearer", "Bearer " + key, "bearer  " + key, "Basic " + key, "Bearer " + key + "0",
		"Bearer " + strings.ToUpper(key), "Bearer\t" + key, "Bearer " + key + " x"} {
		f.Add(seed, "")
	}
	f.Add("Bearer "+key, "Bearer "+key)
	shape := regexp.MustCompile(`^(?i:bearer) +[0-9a-f]{64} *$`)
	f.Fuzz(func(t *testing.T, first, second string) {
		headers := []string{first}
		if second != "" {
			headers = append(headers, second)
		}
		_, sent, ok := webtrigger.BearerKey(headers)
		require.Equal(t, len(headers) == 1 && shape.MatchString(first), ok)
		if ok {
			require.True(t, sent)
		}
	})
}

// A cursor is a non-negative 64-bit decimal.
func FuzzCursor(f *testing.F) {
	for _, seed := range []string{"", "0", "1", "-1", "+1", "01", "9223372036854775807", "9223372036854775808", " 1", "1_0", "0x1", "1e3", "٣"} {
		f.Add(seed)
	}
	digits := regexp.MustCompile(`^[0-9]+$`)
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := webtrigger.ParseCursor(s)
		want, err := strconv.ParseInt(s, 10, 64)
		require.Equal(t, digits.MatchString(s) && err == nil, ok)
		if ok {
			require.Equal(t, want, n)
		}
	})
}

// What an assistant sees begins with the message, and each pair of the context
// has one line.
func FuzzPrompt(f *testing.F) {
	f.Add("hello", `{"a": "b", "c": [1, 2]}`)
	f.Add("hello", `{"a": "x\ny: z", "line\nbreak": {"p":  "q"}, " outer ": " white "}`)
	f.Add("", `{"a": "\u0085\u2028"}`)
	f.Fuzz(func(t *testing.T, message, context string) {
		var pairs map[string]json.RawMessage
		_, faults, err := webtrigger.DecodeTrigger([]byte(`{"message": "x", "context": ` + context + `}`))
		if err != nil || len(faults) > 0 || json.Unmarshal([]byte(context), &pairs) != nil || pairs == nil {
			return
		}
		prompt := webtrigger.Prompt(message, []byte(context))
		rest, ok := strings.CutPrefix(prompt, message)
		require.True(t, ok)
		if len(pairs) == 0 {
			require.Empty(t, rest)
			return
		}
		rest, ok = strings.CutPrefix(rest, "\n\nContext:\n")
		require.True(t, ok)
		for _, v := range pairs { // nested values are as they were sent
			if s := string(v); s[0] != '"' && strings.ContainsAny(s, "\u0085\u2028\u2029\v\f") {
				return
			}
		}
		lines := strings.FieldsFunc(rest, func(r rune) bool { return strings.ContainsRune("\n\r\v\f\u0085\u2028\u2029", r) })
		require.Len(t, lines, len(pairs))
	})
}

func TestValuesFromGoMeetTheRulesOfTheIntake(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	for _, bad := range []string{`1,"x":2`, `{"a":1,"a":2}`, `{`, ``, `"\ud800"`, `{"a":"\u0000"}`, `{} {}`} {
		for _, req := range []webtrigger.TriggerRequest{
			{Message: "x", Metadata: json.RawMessage(bad)}, {Message: "x", Context: json.RawMessage(bad)},
		} {
			_, err := b.svc.Trigger(b.ctx, "1", req)
			var refused *webtrigger.RequestError
			require.True(t, errors.As(err, &refused), "%s: %v", bad, err)
		}
	}
}
