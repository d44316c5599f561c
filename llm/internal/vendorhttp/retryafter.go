package vendorhttp

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// RetryAfter is how long a response asks to wait: Retry-After of RFC 9110 section
// 10.2.3, in seconds (fractions too, which some servers send) or as a date, and
// before it Retry-After-Ms, the vendors' own finer form. It is 0 if the header
// is missing or invalid.
func RetryAfter(header http.Header) time.Duration {
	if d, ok := number(header.Get("Retry-After-Ms"), time.Millisecond); ok {
		return d
	}
	value := strings.TrimSpace(header.Get("Retry-After"))
	if d, ok := number(value, time.Second); ok {
		return d
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(time.Until(date), 0)
	}
	return 0
}

func number(s string, unit time.Duration) (time.Duration, bool) {
	n, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || math.IsNaN(n) || n < 0 {
		return 0, false
	}
	n *= float64(unit)
	if n >= math.MaxInt64 { // +Inf too
		return math.MaxInt64, true
	}
	return time.Duration(n), true
}
