package stream_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/ssetest"
)

// A payload with line breaks stays one frame; an event without JSON is shown
// with null, so that no reader waits for it forever.
func TestStreamFramesAnyPayload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, siteConfig{})
		f := newFeed(t, s.source, 0)
		f.appendPayload(1, "{\"a\":\r\n\n[1,\r2],\"b\":\"\u2028 \\u0000\"}")
		f.appendPayload(1, "{broken")
		f.finish()
		r := s.Open(f.path("?after_event_id=2"))
		e, err := r.Event()
		require.NoError(t, err)
		require.Equal(t, "{\"a\":[1,2],\"b\":\"\u2028 \\u0000\"}", string(e.Payload))
		e, err = r.Event()
		require.NoError(t, err)
		require.Equal(t, "null", string(e.Payload))
		require.Equal(t, ssetest.IDs(5, 5), r.Rest(t))
	})
}

// A cursor beyond what there is hides what comes, and does not keep the stream
// open after the end.
func TestStreamEndsBehindAFutureCursor(t *testing.T) {
	t.Parallel()
	for _, cursor := range []string{"&after_event_id=1000", "&after_sequence=1000", "&after_event_id=9223372036854775807"} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, siteConfig{})
			f := newFeed(t, s.source, 0)
			other := newFeed(t, s.source, f.run.conversationID)
			r := s.Open(f.ofRun(cursor))
			require.Equal(t, 200, r.Response.StatusCode)
			f.append(2)
			synctest.Wait()
			f.finish()
			require.Empty(t, r.Rest(t))
			require.Equal(t, 204, s.Open(f.ofRun(cursor)).Response.StatusCode)
			other.finish()
			require.Equal(t, 204, s.Open(f.path("?after_event_id=1000")).Response.StatusCode)
		})
	}
}

func TestStreamOfAConversation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, siteConfig{})
		a := newFeed(t, s.source, 0) // 1, 2
		b := newFeed(t, s.source, a.run.conversationID)
		whole, onlyA, onlyB := s.Open(a.path("")), s.Open(a.ofRun("")), s.Open(b.ofRun(""))
		a.append(1) // 5
		b.append(1) // 6
		a.finish()  // 7
		require.Equal(t, []int64{1, 2, 5, 7}, onlyA.Rest(t))
		require.Equal(t, ssetest.IDs(1, 7), whole.Take(t, 7))
		b.append(1) // 8
		b.finish()  // 9
		require.Equal(t, []int64{8, 9}, whole.Rest(t))
		require.Equal(t, []int64{3, 4, 6, 8, 9}, onlyB.Rest(t))
		require.Equal(t, 204, s.Open(a.path("?after_event_id=9")).Response.StatusCode)

		c := newFeed(t, s.source, a.run.conversationID) // 10, 11: the conversation continues
		again := s.Open(a.path("?after_event_id=9"))
		c.finish()
		require.Equal(t, ssetest.IDs(10, 12), again.Rest(t))
	})
}

// hiding is a writer of a middleware that shows nothing but the three methods.
type hiding struct{ inner http.ResponseWriter }

func (w hiding) Header() http.Header         { return w.inner.Header() }
func (w hiding) Write(b []byte) (int, error) { return w.inner.Write(b) }
func (w hiding) WriteHeader(status int)      { w.inner.WriteHeader(status) }

type flushing struct{ hiding }

func (w flushing) Flush() { w.inner.(http.Flusher).Flush() }

type deadlines struct{ hiding }

func (w deadlines) SetWriteDeadline(at time.Time) error {
	return http.NewResponseController(w.inner).SetWriteDeadline(at)
}

type unwrapping struct{ hiding }

func (w unwrapping) Unwrap() http.ResponseWriter { return w.inner }

func TestStreamNeedsAWriterThatFlushesAndHasDeadlines(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		wrap   func(http.ResponseWriter) http.ResponseWriter
		status int
	}{
		"neither":        {func(w http.ResponseWriter) http.ResponseWriter { return hiding{w} }, 500},
		"only flush":     {func(w http.ResponseWriter) http.ResponseWriter { return flushing{hiding{w}} }, 500},
		"only deadlines": {func(w http.ResponseWriter) http.ResponseWriter { return deadlines{hiding{w}} }, 500},
		"through Unwrap": {func(w http.ResponseWriter) http.ResponseWriter { return unwrapping{hiding{unwrapping{hiding{w}}}} }, 200},
	} {
		s := newSite(t, siteConfig{wrap: c.wrap})
		f := newFeed(t, s.source, 0)
		f.finish()
		r := s.Open(f.path(""))
		require.Equal(t, c.status, r.Response.StatusCode, name)
		if c.status == 200 {
			require.Equal(t, ssetest.IDs(1, 3), r.Rest(t))
			continue
		}
		require.Empty(t, r.Response.Header.Get("Content-Type"), name)
		require.Equal(t, 204, s.Open(f.path("?after_event_id=3")).Response.StatusCode, "a 204 needs neither")
	}
}

func TestStreamOutlivesServerTimeouts(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, siteConfig{http2: http2, timeouts: 2 * time.Second, allowed: func() error {
				time.Sleep(4 * time.Second) // a slow one
				return nil
			}})
			f := newFeed(t, s.source, 0)
			r := s.Open(f.path("?after_event_id=2"))
			_, err := r.Next()
			require.ErrorIs(t, err, ssetest.ErrHeartbeat, "after a silence longer than any timeout")
			go func() {
				for range 12 {
					time.Sleep(5 * time.Second) // fake time
					f.append(1)
				}
				f.finish()
			}()
			start := time.Now()
			require.Equal(t, ssetest.IDs(3, 15), r.Rest(t))
			require.InDelta(t, 60, time.Since(start).Seconds(), 4)
		})
	}
}

// One reader stalls: it is cut by the write deadline, and the other gets
// everything at once.
func TestStreamCutsAStalledReader(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, siteConfig{http2: http2})
			f, quick := newFeed(t, s.source, 0), newSite(t, siteConfig{source: s.source})
			stalled, reading := s.Open(f.path("")), s.Open(f.path(""))
			if http2 { // one connection must not be shared with the stalled one
				reading = quick.Open(f.path(""))
			}
			synctest.Wait()
			start := time.Now()
			for range 8 {
				f.appendPayload(5, `{"text":"`+strings.Repeat("x", 20_000)+`"}`)
			}
			f.finish()
			require.Equal(t, ssetest.IDs(1, 43), reading.Rest(t))
			require.Zero(t, time.Since(start))
			for s.hub.Tails() > 0 { // the handler has returned when there is no tail
				time.Sleep(time.Second)
			}
			require.InDelta(t, 10, time.Since(start).Seconds(), 1)
			for {
				if _, err := stalled.Event(); err != nil {
					require.NotErrorIs(t, errors.Join(err), io.EOF, "an aborted stream does not look like an ended one")
					break
				}
			}
		})
	}
}
