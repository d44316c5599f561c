package sse_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/sse"
)

// chunked reads at most n bytes at a time.
type chunked struct {
	r io.Reader
	n int
}

func (c chunked) Read(p []byte) (int, error) { return c.r.Read(p[:min(c.n, len(p))]) }

func readAll(t *testing.T, r *sse.Reader) (got []message, err error) {
	for {
		e, err := r.Next()
		if err != nil {
			return got, err
		}
		got = append(got, message{e.ID, e.Name, string(e.Data)})
	}
}

func TestReader(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, stream string
		want         []message
	}{
		{"one event", "id: 7\ndata: a\n\n", []message{{"7", "", "a"}}},
		{"all line ends", "data: a\r\ndata: b\rdata: c\ndata\n\r\ndata: d\r\r", []message{{"", "", "a\nb\nc\n"}, {"", "", "d"}}},
		{"the id stays", "id: 1\n\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", []message{{"1", "", "a"}, {"1", "", "b"}, {"", "", "c"}}},
		{"an id with NUL", "id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\n", []message{{"1", "", "a"}, {"1", "", "b"}}},
		{"names", "event: gap\ndata: a\n\ndata: b\n\nevent: x\n\ndata: c\n\n", []message{{"", "gap", "a"}, {"", "", "b"}, {"", "", "c"}}},
		{"one space", "data:  a\n\ndata:b\n\n", []message{{"", "", " a"}, {"", "", "b"}}},
		{"a BOM at the start alone", "\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", []message{{"", "", "a"}}},
		{"comments and strange fields", ": x\n:\nfoo: bar\nDATA: x\ndata: a: b\n\n", []message{{"", "", "a: b"}}},
		{"empty data", "data\n\ndata:\n\n", []message{{"", "", ""}, {"", "", ""}}},
		{"incomplete", "data: a\n\ndata: b\n", []message{{"", "", "a"}}},
		{"nothing", "", nil},
	} {
		for n := 1; n <= 7; n++ {
			got, err := readAll(t, sse.NewReader(chunked{strings.NewReader(c.stream), n}, 100))
			require.ErrorIs(t, err, io.EOF, c.name)
			require.Equal(t, c.want, got, c.name)
		}
	}
}

func TestTolerantReader_beyondTheStandard_loseNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, stream string
		want         []message
	}{
		{"the standard", "\xef\xbb\xbf: x\r\nevent: a\r\ndata: 1\rdata: 2\n\ndata:3\n\n", []message{{"", "a", "1\n2"}, {"", "", "3"}}},
		{"no blank line at the end", "data: a\n\ndata: b\n", []message{{"", "", "a"}, {"", "", "b"}}},
		{"no line end at the end", "data: a\n\nevent: x\ndata: b", []message{{"", "", "a"}, {"", "x", "b"}}},
		{"a name without data at the end", "data: a\n\nevent: x", []message{{"", "", "a"}}},
		{"an error field", "error: {\"code\":400}\n\ndata: b\n\n", []message{{"", "error", `{"code":400}`}, {"", "", "b"}}},
		{"a bare line of JSON", "data: a\n\n{\"error\": \"x\"}\n", []message{{"", "", "a"}, {"", "", `{"error": "x"}`}}},
		{"nothing", "\n\n", nil},
	} {
		for n := 1; n <= 7; n++ {
			got, err := readAll(t, sse.NewTolerantReader(chunked{strings.NewReader(c.stream), n}, 100))
			require.ErrorIs(t, err, io.EOF, c.name)
			require.Equal(t, c.want, got, c.name)
		}
	}
	_, err := readAll(t, sse.NewTolerantReader(io.MultiReader(strings.NewReader("data: a"), iotest.ErrReader(io.ErrUnexpectedEOF)), 100))
	require.Equal(t, io.ErrUnexpectedEOF, err, "an event of a cut connection is not delivered")
	_, err = readAll(t, sse.NewTolerantReader(strings.NewReader("{"+strings.Repeat("x", 200)), 100))
	require.ErrorIs(t, err, sse.ErrTooLong)
}

func TestReaderRetry(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{"1500": 1500 * time.Millisecond, "x": 0, "+1": 0, "-1": 0, "1.5": 0, "": 0, "99999999999": 0} {
		r := sse.NewReader(strings.NewReader("retry: "+value+"\n\ndata: a\n\n"), 100)
		_, err := r.Next()
		require.NoError(t, err)
		require.Equal(t, want, r.Retry(), value)
	}
}

func TestReaderIsBounded(t *testing.T) {
	t.Parallel()
	for name, stream := range map[string]string{
		"a line":     "data: " + strings.Repeat("x", 10_000),
		"many lines": strings.Repeat("data: x\n", 1000),
		"a comment":  ":" + strings.Repeat("x", 10_000),
	} {
		_, err := sse.NewReader(strings.NewReader(stream), 1000).Next()
		require.ErrorIs(t, err, sse.ErrTooLong, name)
	}
	broken := errors.New("broken")
	_, err := sse.NewReader(io.MultiReader(strings.NewReader("data: a\n"), iotest.ErrReader(broken)), 1000).Next()
	require.ErrorIs(t, err, broken)
}

// A CR ends a line at once. The reader does not wait for a LF, which may never follow.
func TestReaderDoesNotWaitAfterCR(t *testing.T) {
	t.Parallel()
	in, out := io.Pipe()
	defer in.Close()
	go func() { _, _ = out.Write([]byte("data: a\r\r")) }()
	e, err := sse.NewReader(in, 100).Next()
	require.NoError(t, err)
	require.Equal(t, "a", string(e.Data))
}

// FuzzReader reads any stream as the test's own parser does, in chunks of 1 to 7
// bytes.
func FuzzReader(f *testing.F) {
	f.Add([]byte("id: 1\ndata: a\r\ndata\r\revent: gap\ndata: b\n\nretry: 5\n\n"), uint8(0))
	f.Add([]byte("data:\xe2\x80\xa8\x00\n\nid: \x00\nid\n:\n\n\n"), uint8(3))
	f.Fuzz(func(t *testing.T, stream []byte, chunk uint8) {
		var p parser
		_, _ = p.Write([]byte(strings.TrimPrefix(string(stream), "\xef\xbb\xbf")))
		got, err := readAll(t, sse.NewReader(chunked{strings.NewReader(string(stream)), int(chunk%7) + 1}, 1<<20))
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, p.got, got)
	})
}
