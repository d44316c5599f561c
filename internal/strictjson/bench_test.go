package strictjson_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/webtrigger-go/webtrigger/internal/strictjson"
)

const mebibyte = 1 << 20

// small is a usual request: some 300 bytes.
const small = `{
  "message": "Summarise yesterday's support tickets and post the result to the team channel.",
  "subject": "Nightly summary",
  "context": {"ticket_count": 42, "priority": "high", "customer": "Ærø \u00e9nergie"},
  "callback_url": "https://hooks.example.com/t/8f3a?run=1",
  "metadata": {"source": "cron", "attempt": 1, "tags": ["a", "b"]}
}`

// worst makes a mebibyte of every kind that could be slow, by name.
func worst() map[string]string {
	fill := func(unit string) string { return strings.Repeat(unit, mebibyte/len(unit)) }
	wide := func(n int, key func(i int) string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(`,"` + key(i) + `":0`)
		}
		return "{" + b.String()[1:] + "}"
	}
	shared := strings.Repeat("k", 1000)
	return map[string]string{
		"open arrays":      fill(`[`),
		"closed arrays":    strings.Repeat(`[`, mebibyte/2) + strings.Repeat(`]`, mebibyte/2),
		"open objects":     fill(`{"":`),
		"closed objects":   strings.Repeat(`{"":`, mebibyte/5) + "0" + strings.Repeat(`}`, mebibyte/5),
		"100k keys":        wide(100_000, strconv.Itoa),
		"long alike keys":  wide(1000, func(i int) string { return shared + strconv.Itoa(1000+i) }),
		"objects of 17":    "[" + strings.TrimSuffix(fill(wide(17, strconv.Itoa)+","), ",") + "]",
		"one text":         `{"message":"` + fill(`The quick brown fox. `) + `"}`,
		"CJK":              `{"message":"` + fill(`自動化の会話`) + `"}`,
		"escapes":          `{"message":"` + fill(`\n`) + `"}`,
		"surrogate pairs":  `{"message":"` + fill(`\ud83d\ude00`) + `"}`,
		"escaped keys":     wide(60_000, func(i int) string { return `\u0041` + strconv.Itoa(i) }),
		"numbers":          `[` + fill(`-1.5e+3,`) + `0]`,
		"empty texts":      `[` + fill(`"",`) + `0]`,
		"white space":      fill(" \n\t\r"),
		"NULs":             `[` + fill(`"\u0000",`) + `0]`,
		"NULs below a key": `{"` + strings.Repeat("k", mebibyte/2) + `":[` + strings.Repeat(`"\u0000",`, mebibyte/18) + `0]}`,
		"NULs in the deep": strings.Repeat(`[`, mebibyte/4) + strings.Repeat(`"\u0000",`, mebibyte/18) + "0" + strings.Repeat(`]`, mebibyte/4),
	}
}

func BenchmarkSmall(b *testing.B) {
	body := []byte(small)
	b.Run("Parse", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			strictjson.Parse(body)
		}
	})
	b.Run("Unmarshal into RawMessages", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			var v map[string]json.RawMessage
			json.Unmarshal(body, &v)
		}
	})
	b.Run("Unmarshal into a struct", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			var v struct {
				Message, Subject  string
				Context, Metadata json.RawMessage
				CallbackURL       string `json:"callback_url"`
			}
			json.Unmarshal(body, &v)
		}
	})
	b.Run("Valid", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			json.Valid(body)
		}
	})
}

func BenchmarkMessage50k(b *testing.B) {
	for name, text := range map[string]string{
		"ASCII":     strings.Repeat("The quick brown fox. ", 2400),
		"CJK":       strings.Repeat("自動化の会話", 2800),
		"with \\n":  strings.Repeat(`A line of some forty characters, or so.\n`, 1250),
		"escaped é": strings.Repeat(`d\u00e9j\u00e0 vu `, 2900),
	} {
		body := []byte(`{"message":"` + text + `"}`)
		b.Run(name+"/Parse and String", func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				members, _, _ := strictjson.Parse(body)
				strictjson.String(members[0].Raw)
			}
		})
		b.Run(name+"/Unmarshal", func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				var v struct{ Message string }
				json.Unmarshal(body, &v)
			}
		})
	}
}

func BenchmarkWorst(b *testing.B) {
	for name, text := range worst() {
		body := []byte(text)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				strictjson.Parse(body)
			}
		})
	}
}
