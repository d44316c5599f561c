package wire

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
)

// PreferWait returns the seconds of the preference wait (RFC 7240 §4.3), at most
// limit. If it is given more than once, the first counts (RFC 7240 §2). A malformed
// one is ignored, as that section requires.
func PreferWait(h http.Header, limit int) (seconds int, ok bool) {
	for _, line := range h.Values("Prefer") {
		for preference := range split(line, ',') {
			for first := range split(preference, ';') { // the rest are parameters
				if name, value, _ := strings.Cut(first, "="); strings.EqualFold(strings.TrimSpace(name), "wait") {
					return waitSeconds(value, limit)
				}
				break
			}
		}
	}
	return 0, false
}

func waitSeconds(value string, limit int) (int, bool) {
	value = strings.TrimSpace(value)
	if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
		value = value[1 : n-1]
	}
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, false
	}
	return int(min(n, uint64(limit))), true
}

// split yields the parts of a header value between separators. A separator inside
// of a quoted string (RFC 9110 §5.6.4) does not count.
func split(value string, separator byte) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		start, quoted := 0, false
		for i := 0; i < len(value); i++ {
			switch c := value[i]; {
			case quoted && c == '\\':
				i++
			case c == '"':
				quoted = !quoted
			case c == separator && !quoted:
				if !yield(value[start:i]) {
					return
				}
				start = i + 1
			}
		}
		yield(value[start:])
	}
}
