package strictjson

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// String unquotes a JSON string that Parse has accepted; ok is false when raw is anything else.
func String(raw json.RawMessage) (text string, ok bool) {
	s := scanner{data: raw}
	if s.peek() != '"' {
		return "", false
	}
	quoted, err := s.text()
	if err != nil || s.pos != len(raw) {
		return "", false
	}
	return unquote(quoted), true
}

// unquote decodes a string that scanner.text has read.
func unquote(quoted []byte) string {
	text := quoted[1 : len(quoted)-1]
	escape := bytes.IndexByte(text, '\\')
	if escape < 0 {
		return string(text)
	}
	var b strings.Builder
	b.Grow(len(text))
	for ; escape >= 0; escape = bytes.IndexByte(text, '\\') {
		b.Write(text[:escape])
		r, size := unescape(text[escape:])
		b.WriteRune(r)
		text = text[escape+size:]
	}
	b.Write(text)
	return b.String()
}

// IsNull reports whether raw, a value that Parse has accepted, is null.
func IsNull(raw json.RawMessage) bool { return len(raw) > 0 && raw[0] == 'n' }

// IsObject reports whether raw, a value that Parse has accepted, is an object.
func IsObject(raw json.RawMessage) bool { return len(raw) > 0 && raw[0] == '{' }

// PositiveInt64 reads an integer from 1 to 2^63-1 that is written as one: digits without a sign, a fraction or an
// exponent. 1.0 and 1e3 are integers to JSON Schema, but no id is written so.
func PositiveInt64(raw json.RawMessage) (n int64, ok bool) {
	if len(raw) == 0 || raw[0] < '1' || raw[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	return n, err == nil
}

// maxPointer is how many bytes of a pointer are shown, give or take one character. Without it, one long key over a
// hundred faults would be answered a hundred times.
const maxPointer = 1 << 10

// Pointer is the JSON Pointer (RFC 6901 §3) of the value that the tokens, object keys and array indices, lead to. It is
// made to be shown: NUL is written ␀ (U+2400), invalid UTF-8 as U+FFFD, and after 1 KiB it ends in … (U+2026). Such a
// pointer is for people and does not resolve.
func Pointer(tokens ...string) string {
	var pointer []byte
	for _, t := range tokens {
		pointer = appendToken(pointer, t)
	}
	return string(pointer)
}

func appendToken(pointer []byte, token string) []byte {
	if len(pointer) >= maxPointer {
		return pointer
	}
	pointer = append(pointer, '/')
	for _, r := range token {
		if len(pointer) >= maxPointer {
			return append(pointer, "…"...)
		}
		switch r {
		case '~':
			pointer = append(pointer, "~0"...)
		case '/':
			pointer = append(pointer, "~1"...)
		case 0:
			pointer = append(pointer, "␀"...)
		default:
			pointer = utf8.AppendRune(pointer, r)
		}
	}
	return pointer
}
