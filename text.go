package webtrigger

import (
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/webtrigger-go/webtrigger/internal/strictjson"
)

// storedTime is a time as stores keep it.
func storedTime(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// blank reports whether s has nothing but white space.
func blank(s string) bool { return strings.TrimSpace(s) == "" }

// cleanText reports whether s may be stored as it is: valid UTF-8, no NUL.
func cleanText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// validText makes what a Runner, a tool, a model or a receiver said storable:
// invalid UTF-8 and NUL become U+FFFD.
func validText(s string) string {
	if cleanText(s) {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// truncateText cuts s to at most n bytes without splitting a character.
func truncateText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// checkJSON holds a JSON value that came from Go to the rules of the intake.
// pointer is its place in the request.
func checkJSON(pointer string, raw json.RawMessage, f *faults) {
	found, err := strictjson.Value(raw)
	var syntax *strictjson.SyntaxError
	if errors.As(err, &syntax) {
		f.add(pointer, "is not valid JSON: "+syntax.Detail)
	}
	for _, fault := range found {
		f.add(pointer+fault.Pointer, fault.Detail)
	}
}
