package mcptools

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// lines reads the standard output of a server and delivers its messages, one a
// line. It skips everything else: banners, log lines, and lines that are too long.
// A message may be spread over several lines, or stand in a line with other text.
type lines struct {
	in     *bufio.Reader
	filter *filter
	max    int    // bytes of a message
	out    []byte // messages that were not read yet

	// open is the beginning of a JSON value that continues in the next line.
	open  []byte
	depth depth
}

func newLines(r io.Reader, f *filter, max int) *lines {
	return &lines{in: bufio.NewReaderSize(r, 64<<10), filter: f, max: max}
}

func (l *lines) Read(p []byte) (int, error) {
	for len(l.out) == 0 {
		line, size, err := l.line()
		if size > l.max {
			l.tooLong(line, size)
		} else {
			l.accept(bytes.TrimSpace(bytes.TrimPrefix(line, byteOrderMark)))
		}
		if err != nil && len(l.out) == 0 {
			return 0, err
		}
	}
	n := copy(p, l.out)
	l.out = l.out[n:]
	return n, nil
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// headSize is how much is kept of a line that is too long.
const headSize = 4096

// line reads a line and counts its bytes. If it is too long, line returns its
// beginning.
func (l *lines) line() (line []byte, size int, err error) {
	for {
		piece, err := l.in.ReadSlice('\n')
		size += len(piece)
		line = append(line, piece...)
		if size > l.max {
			line = line[:min(len(line), headSize)]
		}
		if err != bufio.ErrBufferFull {
			return line, size, err
		}
	}
}

// tooLong answers a call in the name of the server, so that the call does not wait
// until its deadline for a response that was skipped.
func (l *lines) tooLong(head []byte, size int) {
	l.discard()
	l.filter.notes.skipped("line too long", size)
	if id := idOf(head); id != nil {
		l.push(failure(id, fmt.Sprintf("response of the server has %d bytes, more than %d", size, l.max)))
	}
}

func (l *lines) accept(line []byte) {
	if len(line) == 0 {
		return
	}
	if messages := parse(line); messages != nil {
		l.discard() // a complete message: the open value will not continue
		l.deliver(messages)
		return
	}
	if len(l.open) > 0 {
		l.extend(line)
		return
	}
	if l.salvage(line) {
		return
	}
	if line[0] == '{' || line[0] == '[' {
		l.extend(line)
		return
	}
	l.filter.notes.skipped("not a JSON-RPC message", len(line))
}

// extend adds a line to the value that is open, and delivers the value if it is
// complete.
func (l *lines) extend(line []byte) {
	l.open = append(append(l.open, line...), '\n')
	l.depth.add(line)
	switch {
	case len(l.open) > l.max || l.depth.broken():
		l.discard()
	case l.depth.open > 0:
	default:
		messages := parse(l.open)
		if messages == nil {
			l.discard()
			return
		}
		l.open, l.depth = nil, depth{}
		l.deliver(messages)
	}
}

func (l *lines) discard() {
	if len(l.open) > 0 {
		l.filter.notes.skipped("not a JSON-RPC message", len(l.open))
	}
	l.open, l.depth = nil, depth{}
}

// maxSalvaged bounds the places in a line at which a message may begin.
const maxSalvaged = 32

// salvage delivers the messages that stand in a line with other text, such as a
// prompt without a line break.
func (l *lines) salvage(line []byte) (found bool) {
	rest := line
	for range maxSalvaged {
		start := bytes.IndexByte(rest, '{')
		if start < 0 {
			break
		}
		rest = rest[start:]
		var value json.RawMessage
		decoder := json.NewDecoder(bytes.NewReader(rest))
		if decoder.Decode(&value) != nil {
			rest = rest[1:]
			continue
		}
		if messages := parse(value); messages != nil {
			found = true
			l.deliver(messages)
		}
		rest = rest[decoder.InputOffset():]
	}
	if found {
		l.filter.notes.skipped("not a JSON-RPC message", len(line))
	}
	return found
}

func (l *lines) deliver(messages []message) {
	for _, one := range messages {
		l.push(l.filter.pass(one))
	}
}

func (l *lines) push(message []byte) {
	if message != nil {
		l.out = append(append(l.out, message...), '\n')
	}
}

// depth follows the nesting of a JSON value that arrives in pieces.
type depth struct {
	open              int
	inString, escaped bool
}

func (d *depth) add(piece []byte) {
	for _, b := range piece {
		switch {
		case d.escaped:
			d.escaped = false
		case d.inString:
			d.escaped = b == '\\'
			d.inString = b != '"'
		case b == '"':
			d.inString = true
		case b == '{' || b == '[':
			d.open++
		case b == '}' || b == ']':
			d.open--
		}
	}
}

// broken reports whether the value cannot continue in another line.
func (d *depth) broken() bool { return d.inString || d.open < 0 }
