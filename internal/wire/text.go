package wire

import (
	"strings"
	"unicode/utf8"
)

// CleanText reports whether s may be stored as it is: valid UTF-8, no NUL.
func CleanText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// ValidText sanitizes a text of a Runner, a tool, a model or a receiver: invalid
// UTF-8 and NUL become U+FFFD.
func ValidText(s string) string {
	if CleanText(s) {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// Truncate cuts s to at most n bytes without splitting a character.
func Truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
