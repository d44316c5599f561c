package strictjson

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// text reads a string (RFC 8259 §7) and returns it in its quotes.
func (s *scanner) text() (quoted []byte, err error) {
	start := s.pos
	s.nul = false
	s.pos++
	for {
		s.pos += plain(s.data[s.pos:])
		switch s.peek() {
		case '"':
			s.pos++
			return s.data[start:s.pos], nil
		case '\\':
			if err := s.escape(); err != nil {
				return nil, err
			}
		default:
			return nil, s.unclosed()
		}
	}
}

// unclosed returns the error of a string that cannot continue at pos.
func (s *scanner) unclosed() error {
	if s.pos == len(s.data) {
		return s.expected("a closing quote")
	}
	switch c := s.data[s.pos]; c {
	case '\n', '\r':
		return s.fail(s.pos, `a string contains a raw line break: write \%c, or let a JSON library encode the text`, map[byte]byte{'\n': 'n', '\r': 'r'}[c])
	case '\t':
		return s.fail(s.pos, `a string contains a raw tab: write \t, or let a JSON library encode the text`)
	default:
		return s.fail(s.pos, `a string contains a raw control character: write \u%04x, or let a JSON library encode the text`, c)
	}
}

// plain counts the bytes before the first quote, backslash or control character.
func plain(b []byte) (n int) {
	const each, high = 0x0101010101010101, 0x8080808080808080
	for ; len(b)-n >= 8; n += 8 { // eight bytes at a time: x-each borrows into the high bit of a byte that is zero
		w := binary.LittleEndian.Uint64(b[n:])
		q, e := w^each*'"', w^each*'\\'
		if ((w-each*' ')&^w|(q-each)&^q|(e-each)&^e)&high != 0 {
			break
		}
	}
	for n < len(b) && b[n] >= ' ' && b[n] != '"' && b[n] != '\\' {
		n++
	}
	return n
}

// escape reads one escape, or the two of a surrogate pair.
func (s *scanner) escape() error {
	r, size := unescape(s.data[s.pos:])
	switch {
	case size == 0:
		return s.fail(s.pos, "this is not an escape")
	case utf16.IsSurrogate(r):
		return s.fail(s.pos, "a surrogate must be one half of a pair")
	case r == 0:
		s.nul = true
	}
	s.pos += size
	return nil
}

// unescape decodes the escape with which b begins, or the two of a surrogate pair, and returns their size in bytes. If b
// does not begin with an escape, the size is 0. It returns a surrogate without its pair unchanged.
func unescape(b []byte) (r rune, size int) {
	if len(b) < 2 {
		return 0, 0
	}
	if b[1] != 'u' {
		i := strings.IndexByte(`"\/bfnrt`, b[1])
		if i < 0 {
			return 0, 0
		}
		return rune("\"\\/\b\f\n\r\t"[i]), 2
	}
	r, ok := unit(b)
	if !ok {
		return 0, 0
	}
	if low, ok := unit(b[6:]); ok && utf16.IsSurrogate(r) {
		if pair := utf16.DecodeRune(r, low); pair != unicode.ReplacementChar {
			return pair, 12
		}
	}
	return r, 6
}

// unit decodes one \u escape: a UTF-16 code unit.
func unit(b []byte) (r rune, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var digits [2]byte
	_, err := hex.Decode(digits[:], b[2:6])
	return rune(binary.BigEndian.Uint16(digits[:])), err == nil
}

// number reads a number (RFC 8259 §6).
func (s *scanner) number() error {
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++ // and no digit after it
	} else if err := s.digits(); err != nil {
		return err
	}
	if s.peek() == '.' {
		s.pos++
		if err := s.digits(); err != nil {
			return err
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		return s.digits()
	}
	return nil
}

func (s *scanner) digits() error {
	start := s.pos
	for c := s.peek(); '0' <= c && c <= '9'; c = s.peek() {
		s.pos++
	}
	if s.pos == start {
		return s.expected("a digit")
	}
	return nil
}

func (s *scanner) literal(word string) error {
	if !bytes.HasPrefix(s.data[s.pos:], []byte(word)) {
		return s.expected("a value")
	}
	s.pos += len(word)
	return nil
}

func (s *scanner) space() {
	for c := s.peek(); c == ' ' || c == '\n' || c == '\r' || c == '\t'; c = s.peek() {
		s.pos++
	}
}

// peek returns the next byte, or 0 at the end. A NUL byte is invalid wherever peek is used.
func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *scanner) expected(what string) error {
	if s.pos == len(s.data) {
		what = "the text ends where " + what
	}
	return s.fail(s.pos, what+" is expected")
}

func (s *scanner) fail(offset int, reason string, args ...any) error {
	return &SyntaxError{int64(offset), fmt.Sprintf("Malformed JSON at offset %d: "+reason+".", append([]any{offset}, args...)...)}
}

// invalidUTF8 is the offset of the first byte that is not UTF-8.
func invalidUTF8(b []byte) (offset int) {
	for offset < len(b) {
		r, size := utf8.DecodeRune(b[offset:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		offset += size
	}
	return offset
}
