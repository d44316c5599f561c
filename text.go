package webtrigger

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

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
