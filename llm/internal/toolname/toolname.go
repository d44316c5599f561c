// Package toolname maps tools to names that vendors accept.
package toolname

import (
	"regexp"
	"strconv"
	"strings"
)

// Max is the length of the longest name.
const Max = 64

var rule = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Valid reports whether every vendor accepts a name: 1 to 64 of A-Z a-z 0-9 _ -.
func Valid(name string) bool { return rule.MatchString(name) }

// Fit returns a valid name for any name. free reports whether a candidate may be
// used; Fit numbers candidates until one may.
func Fit(name string, free func(string) bool) string {
	if !Valid(name) {
		name = Plain(name, "unnamed_tool", "_-")
	}
	return Unique(name, free)
}

// Plain returns a name with an underscore for each character that is not an ASCII
// letter, a digit or one of also. If nothing else is left, it returns empty.
func Plain(name, empty, also string) string {
	name = strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(also, c) {
			return c
		}
		return '_'
	}, name)
	if name = strings.Trim(name, "_"); name == "" {
		return empty
	}
	return name
}

// Unique cuts a name of ASCII characters to Max characters and numbers it until it
// is free.
func Unique(name string, free func(string) bool) string {
	name = name[:min(len(name), Max)]
	for candidate, n := name, 2; ; n++ {
		if free(candidate) {
			return candidate
		}
		suffix := "_" + strconv.Itoa(n)
		candidate = name[:min(len(name), Max-len(suffix))] + suffix
	}
}
