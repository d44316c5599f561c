package mcptools

import (
	"io"
	"time"
)

// Filter returns a reader of what the SDK gets of the output of a server.
func Filter(output io.Reader) io.Reader {
	return newLines(output, &filter{notes: newNotes(discard)}, maxAnswer)
}

// SetLimits sets the size of a response, and the time that a server may leave its
// input unread.
func SetLimits(answer int, patience time.Duration) { maxAnswer, writePatience = answer, patience }
