package llm

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/webtrigger-go/webtrigger/llm/internal/schemadoc"
)

// goPatterns rewrites the patterns of a schema, which are ECMAScript's, for Go's
// regexp. It removes those that Go's regexp does not support, and returns them.
func goPatterns(root *schemadoc.Value) (losses []schemadoc.Loss) {
	schemadoc.Walk(root, func(path string, s *schemadoc.Value) {
		if p := s.Get("pattern"); p != nil {
			if pattern, err := goPattern(p.Text); err == nil {
				p.Text = pattern
			} else {
				s.Delete("pattern")
				losses = append(losses, schemadoc.Loss{Schema: s, Path: path, Keyword: "pattern", Reason: err.Error()})
			}
		}
		named := s.Get("patternProperties")
		if named == nil {
			return
		}
		kept := schemadoc.NewObject()
		for _, m := range named.Members {
			pattern, err := goPattern(m.Name)
			switch {
			case err != nil:
				losses = append(losses, schemadoc.Loss{Schema: s, Path: path, Keyword: "patternProperties/" + schemadoc.Escape(m.Name), Reason: err.Error()})
			case kept.Get(pattern) != nil: // another spelling of the same one
				kept.Set(pattern, schemadoc.NewObject(schemadoc.Member{Name: "allOf", Value: schemadoc.NewArray(kept.Get(pattern), m.Value)}))
			default:
				kept.Set(pattern, m.Value)
			}
		}
		named.Members = kept.Members
	})
	return losses
}

// goPattern returns an ECMAScript pattern in the syntax of Go's regexp.
func goPattern(pattern string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '\\' || i+1 == len(pattern) {
			b.WriteByte(pattern[i])
			continue
		}
		if c, n := unicodeEscape(pattern[i:]); n > 0 {
			fmt.Fprintf(&b, `\x{%X}`, c)
			i += n - 1
			continue
		}
		b.WriteString(pattern[i : i+2]) // an escaped backslash, too
		i++
	}
	if _, err := regexp.Compile(b.String()); err != nil {
		var fault *syntax.Error
		if errors.As(err, &fault) {
			err = fmt.Errorf("%s: `%s`", fault.Code, fault.Expr)
		}
		return "", fmt.Errorf("is not supported by Go's regexp: %w", err)
	}
	return b.String(), nil
}

// unicodeEscape reads a \u escape, a pair of these or \u{…} at the beginning of s. n is
// its length, 0 if there is none.
func unicodeEscape(s string) (c rune, n int) {
	if braced, ok := strings.CutPrefix(s, `\u{`); ok {
		digits, _, closed := strings.Cut(braced, "}")
		if v, err := strconv.ParseUint(digits, 16, 21); closed && err == nil {
			return rune(v), len(`\u{}`) + len(digits)
		}
		return 0, 0
	}
	first, ok := codeUnit(s)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(first) {
		return first, 6
	}
	if second, ok := codeUnit(s[6:]); ok {
		if c := utf16.DecodeRune(first, second); c != '\uFFFD' {
			return c, 12
		}
	}
	return 0, 0
}

// codeUnit reads a \u escape of four digits at the beginning of s.
func codeUnit(s string) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	v, err := strconv.ParseUint(s[2:6], 16, 16)
	return rune(v), err == nil
}
