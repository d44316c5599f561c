package webtrigger

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode"

	"github.com/webtrigger-go/webtrigger/internal/strictjson"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// prompt is what the assistant sees: the message and, when context has pairs, a
// blank line, "Context:" and one "key: value" line per pair in the order sent.
func prompt(message string, context json.RawMessage) string {
	if context == nil {
		return message
	}
	pairs := strictjson.Members(context)
	if len(pairs) == 0 {
		return message
	}
	var b strings.Builder
	b.WriteString(message)
	b.WriteString("\n\nContext:")
	for _, p := range pairs {
		b.WriteString("\n" + oneLine(p.Key) + ": " + contextValue(p.Raw))
	}
	return b.String()
}

// contextValue is a string as it is where that is harmless, else the JSON that
// was sent, on one line.
func contextValue(raw json.RawMessage) string {
	if s, ok := strictjson.String(raw); ok {
		return oneLine(s)
	}
	if bytes.ContainsAny(raw, "\r\n") { // white space between tokens
		var b bytes.Buffer
		if json.Compact(&b, raw) == nil {
			raw = b.Bytes()
		}
	}
	return string(raw)
}

// oneLine is s, or s as a JSON string when it has a line break, a control
// character or outer white space: nothing in a pair can look like another one.
func oneLine(s string) string {
	if s == strings.TrimSpace(s) && !strings.ContainsFunc(s, breaksLine) {
		return s
	}
	raw, err := wire.Marshal(s)
	if err != nil { // a string always marshals
		return ""
	}
	var b strings.Builder
	for _, r := range string(raw) {
		if breaksLine(r) { // C1 controls, which JSON lets stand
			const hex = "0123456789abcdef"
			b.WriteString(`\u00`)
			b.WriteByte(hex[r>>4&0xf])
			b.WriteByte(hex[r&0xf])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// breaksLine reports control characters (NEL and the other C1 ones included)
// and the Unicode line and paragraph separators.
func breaksLine(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029'
}
