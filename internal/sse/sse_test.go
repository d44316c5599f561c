package sse_test

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/sse"
)

func TestFrames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, got, want string }{
		{"event", string(sse.AppendEvent(nil, 7, []byte(`{"a":1}`))), "id: 7\ndata: {\"a\":1}\n\n"},
		{"appends", string(sse.AppendEvent([]byte("x"), 9223372036854775807, []byte(`y`))), "xid: 9223372036854775807\ndata: y\n\n"},
		{"all three line breaks", string(sse.AppendEvent(nil, 1, []byte("a\nb\rc\r\nd\n\re"))), "id: 1\ndata: a\ndata: b\ndata: c\ndata: d\ndata: \ndata: e\n\n"},
		{"no data", string(sse.AppendEvent(nil, 1, nil)), "id: 1\ndata: \n\n"},
		{"named", string(sse.AppendNamed(nil, "gap", []byte("a\nb"))), "event: gap\ndata: a\ndata: b\n\n"},
		{"comment", string(sse.AppendComment(nil, "heartbeat")), ": heartbeat\n\n"},
		{"comment cannot break out", string(sse.AppendComment(nil, "a\ndata: b")), ": a\n: data: b\n\n"},
		{"retry", string(sse.AppendRetry(nil, 3*time.Second)), "retry: 3000\n\n"},
	} {
		require.Equal(t, c.want, c.got, c.name)
	}
}

// message is what a reader of a stream gets to see.
type message struct{ id, name, data string }

// parser interprets a stream by the HTML standard ("Interpreting an event stream"), a
// character at a time. It does not use the encoder.
type parser struct {
	line     []byte
	afterCR  bool
	id, name string
	data     strings.Builder
	retry    int
	comments int
	got      []message
}

func (p *parser) Write(chunk []byte) (int, error) {
	for _, c := range chunk {
		switch {
		case c == '\n' && p.afterCR:
			p.afterCR = false
		case c == '\n' || c == '\r':
			p.afterCR = c == '\r'
			p.endLine(string(p.line))
			p.line = p.line[:0]
		default:
			p.afterCR = false
			p.line = append(p.line, c)
		}
	}
	return len(chunk), nil
}

func (p *parser) endLine(line string) {
	if line == "" {
		if p.data.Len() > 0 {
			p.got = append(p.got, message{p.id, p.name, strings.TrimSuffix(p.data.String(), "\n")})
		}
		p.data.Reset()
		p.name = ""
		return
	}
	field, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch field {
	case "":
		p.comments++
	case "event":
		p.name = value
	case "data":
		p.data.WriteString(value + "\n")
	case "id":
		if !strings.Contains(value, "\x00") {
			p.id = value
		}
	case "retry":
		if n, err := strconv.Atoi(value); err == nil {
			p.retry = n
		}
	}
}

// FuzzAppend reads what the encoder wrote in chunks of 1 to 7 bytes, with the
// parser of this test and with Reader.
func FuzzAppend(f *testing.F) {
	f.Add(int64(1), []byte(`{"event_type":"x_step"}`), "heartbeat", uint8(0))
	f.Add(int64(9223372036854775807), []byte("a\r\nb\n\nid: 3\rdata: \u2028\x00"), "x\n\ndata: y", uint8(3))
	f.Add(int64(0), []byte(" \r"), "\r", uint8(6))
	f.Add(int64(2), []byte("\xef\xbb\xbf{}"), "\xef\xbb\xbf", uint8(1))
	f.Add(int64(3), []byte("\ndata: x\n\nid: 9\nevent: gap\nretry: 1\n:"), "event: gap", uint8(4))
	f.Fuzz(func(t *testing.T, id int64, data []byte, comment string, chunk uint8) {
		stream := sse.AppendRetry(nil, 3*time.Second)
		stream = sse.AppendComment(stream, comment)
		stream = sse.AppendEvent(stream, id, data)
		stream = sse.AppendComment(stream, comment)
		stream = sse.AppendEvent(stream, id, data)

		var p parser
		for rest, size := stream, int(chunk%7)+1; len(rest) > 0; {
			n := min(size, len(rest))
			_, _ = p.Write(rest[:n])
			rest = rest[n:]
		}
		text := strings.ReplaceAll(strings.ReplaceAll(string(data), "\r\n", "\n"), "\r", "\n")
		want := message{strconv.FormatInt(id, 10), "", text}
		require.Equal(t, []message{want, want}, p.got)
		got, err := readAll(t, sse.NewReader(chunked{bytes.NewReader(stream), int(chunk%7) + 1}, 1<<20))
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, p.got, got)
		require.Equal(t, 3000, p.retry)
		require.GreaterOrEqual(t, p.comments, 2)
		require.Empty(t, p.line, "the stream ends between two frames")
	})
}
