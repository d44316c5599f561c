// Package sse writes the text/event-stream format (WHATWG HTML, "Server-sent
// events"). Every function appends one whole frame to dst and returns it, so
// that what is written between two frames is always a clean cut.
package sse

import (
	"bytes"
	"strconv"
	"time"
)

// ContentType is the media type of a stream.
const ContentType = "text/event-stream"

// AppendEvent appends an event with an id and no name, so that onmessage sees
// it. Line breaks in data, of any of the three kinds, reach the reader as \n.
func AppendEvent(dst []byte, id int64, data []byte) []byte {
	dst = append(dst, "id: "...)
	dst = strconv.AppendInt(dst, id, 10)
	dst = append(dst, '\n')
	dst = appendLines(dst, "data: ", data)
	return append(dst, '\n')
}

// AppendNamed appends an event with a name and no id, so that onmessage does not
// see it and the reader's cursor stays where it is. The name has no line break.
func AppendNamed(dst []byte, name string, data []byte) []byte {
	dst = append(dst, "event: "...)
	dst = append(dst, name...)
	dst = append(dst, '\n')
	dst = appendLines(dst, "data: ", data)
	return append(dst, '\n')
}

// AppendComment appends a comment, which readers ignore.
func AppendComment(dst []byte, text string) []byte {
	dst = appendLines(dst, ": ", []byte(text))
	return append(dst, '\n')
}

// AppendRetry appends how long a reader must wait before it reconnects.
func AppendRetry(dst []byte, d time.Duration) []byte {
	dst = append(dst, "retry: "...)
	dst = strconv.AppendInt(dst, d.Milliseconds(), 10)
	return append(dst, "\n\n"...)
}

// appendLines appends each line of text behind prefix.
func appendLines(dst []byte, prefix string, text []byte) []byte {
	for {
		dst = append(dst, prefix...)
		end := bytes.IndexAny(text, "\r\n")
		if end < 0 {
			dst = append(dst, text...)
			return append(dst, '\n')
		}
		dst = append(dst, text[:end]...)
		dst = append(dst, '\n')
		if text[end] == '\r' && end+1 < len(text) && text[end+1] == '\n' {
			end++
		}
		text = text[end+1:]
	}
}
