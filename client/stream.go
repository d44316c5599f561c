package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/sse"
)

const (
	streamRetry = 3 * time.Second  // unless the stream sends another
	idleTimeout = 45 * time.Second // a heartbeat comes at least every 15 s
	maxEvent    = 4 << 20          // bytes; a payload has at most 256 KiB
)

// Stream yields the events of a trigger's conversation, from the first event until
// all its runs have ended. Each event comes once, in order and without a gap: after
// a lost connection or a temporary error, Stream reconnects and resumes after the
// last event that it yielded. A [TextCollector] makes the text of the runs from it.
//
// A [*GapError] reports purged events; if the loop continues, so does the stream.
// Any other error is the last value: the cause of ctx's end, an [*Error] that is
// not temporary, or the last error when [Options.MaxRetries] are used up.
func (c *Client) Stream(ctx context.Context, triggerID int64) iter.Seq2[Event, error] {
	return c.StreamAfter(ctx, triggerID, 0)
}

// StreamAfter is Stream from the first event after the event with the id after. If
// after is zero, it yields all events.
func (c *Client) StreamAfter(ctx context.Context, triggerID, after int64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		s := &stream{
			c: c, url: c.trigger(triggerID, "events"), yield: yield,
			cursor: after, whole: after == 0, sequences: make(map[int64]int64),
			retry: streamRetry,
		}
		s.http = c.http
		s.http.Timeout = 0
		if err := s.run(ctx); err != nil && !errors.Is(err, errStop) {
			yield(Event{}, err)
		}
	}
}

// stream is one loop over a Stream.
type stream struct {
	c     *Client
	http  http.Client
	url   string
	yield func(Event, error) bool

	cursor    int64           // the id of the last event yielded
	whole     bool            // no event was skipped: a new run begins with sequence 1
	sequences map[int64]int64 // of the last event of each run that has not ended
	reported  int64           // the highest id in a gap that was yielded
	skipped   int64           // the cursor at which a connection had a gap, plus 1; 0: none

	retry    time.Duration
	failures int // in a row
}

var (
	errStop = errors.New("loop ended")
	errEnd  = errors.New("stream ended")
)

// run connects until stream ended.
func (s *stream) run(ctx context.Context) error {
	for {
		err := s.connect(ctx)
		var a *again
		switch {
		case errors.Is(err, errEnd):
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !errors.As(err, &a):
			return err
		}
		if s.failures++; s.c.exhausted(s.failures) {
			return a.err
		}
		wait := s.pause(a)
		s.c.opts.Logger.InfoContext(ctx, "event stream interrupted", "after_event_id", s.cursor, "retry_in", wait, "error", a.err)
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// pause returns the pause before the next connection.
func (s *stream) pause(a *again) time.Duration {
	if a.now {
		return 0
	}
	return backoff(s.retry, s.failures, a.after)
}

// connect opens one connection and yields its events.
func (s *stream) connect(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(idleTimeout, func() { cancel(fmt.Errorf("no data for %v", idleTimeout)) })
	defer idle.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.c.key)
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", "identity")
	if s.cursor > 0 {
		req.Header.Set("Last-Event-ID", strconv.FormatInt(s.cursor, 10))
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return unanswered(because(ctx, err))
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
		if media != sse.ContentType {
			return fmt.Errorf("client: response of %s has the type %q, not an event stream: check the base URL", s.url, media)
		}
		err := s.read(sse.NewReader(alive{resp.Body, idle}, maxEvent))
		var a *again
		if errors.As(err, &a) {
			a.err = because(ctx, a.err)
		}
		return err
	case http.StatusNoContent:
		return errEnd
	}
	p := readProblem(resp)
	switch {
	case resp.StatusCode == http.StatusGone && p.purgedTo > s.cursor:
		return s.leap(p.purgedTo)
	case p.err.temporary():
		return &again{err: p.err, after: p.err.RetryAfter}
	}
	return p.err
}

// because returns the cause of ctx's end, if ctx has ended, and err otherwise.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("client: event stream: %w", err)
}

// alive resets a timer at each read.
type alive struct {
	r    io.Reader
	idle *time.Timer
}

func (a alive) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	if n > 0 {
		a.idle.Reset(idleTimeout)
	}
	return n, err
}

// leap yields the gap in front of the oldest stored event, and resumes after it.
func (s *stream) leap(to int64) error {
	gap := &GapError{FromID: max(s.cursor, s.reported) + 1, ToID: to}
	s.cursor, s.failures = to, 0
	s.lose()
	if to > s.reported {
		s.reported = to
		if !s.yield(Event{}, gap) {
			return errStop
		}
	}
	return &again{err: gap, now: true}
}

// lose drops the sequences of all runs, which are unknown after a gap.
func (s *stream) lose() {
	s.whole = false
	clear(s.sequences)
}

// read yields the events of a connection until its end.
func (s *stream) read(r *sse.Reader) error {
	ended := false // the last event was terminal
	for {
		frame, err := r.Next()
		if r.Retry() > 0 {
			s.retry = min(r.Retry(), maxPause)
			s.failures = 0 // the service responds
		}
		if err != nil {
			return &again{err: err, now: ended && errors.Is(err, io.EOF)}
		}
		switch frame.Name {
		case "":
			if ended, err = s.event(frame); err != nil {
				return err
			}
		case "gap":
			if err := s.gap(frame.Data); err != nil {
				return err
			}
		}
	}
}

// gap yields the gap of a gap frame. The cursor stays: events inside the gap that
// are still stored follow.
func (s *stream) gap(data []byte) error {
	gap := &GapError{}
	if err := json.Unmarshal(data, gap); err != nil {
		return &again{err: fmt.Errorf("malformed gap frame: %w", err)}
	}
	s.lose()
	if gap.ToID <= s.reported {
		return nil
	}
	s.reported = gap.ToID
	if !s.yield(Event{}, gap) {
		return errStop
	}
	return nil
}

// event yields the event of a frame, unless it was yielded before.
func (s *stream) event(frame sse.Event) (last bool, err error) {
	var e Event
	if err := json.Unmarshal(frame.Data, &e); err != nil {
		return false, &again{err: fmt.Errorf("malformed event: %w", err)}
	}
	if strconv.FormatInt(e.ID, 10) != frame.ID {
		return false, &again{err: fmt.Errorf("event %d has the frame id %q", e.ID, frame.ID)}
	}
	if e.ID <= s.cursor {
		return false, nil
	}
	if err := s.follow(&e); err != nil {
		return false, err
	}
	s.cursor = e.ID
	if !s.yield(e, nil) {
		return false, errStop
	}
	return e.Terminal(), nil
}

// follow checks the sequence of an event. A gap ends the connection. If the next
// connection has the same gap, it is yielded.
func (s *stream) follow(e *Event) error {
	before, known := s.sequences[e.RunID]
	if (known || s.whole) && e.Sequence != before+1 {
		if e.Sequence <= before || e.ID == s.cursor+1 {
			return fmt.Errorf("client: event %d of run %d has the sequence %d after %d", e.ID, e.RunID, e.Sequence, before)
		}
		if s.skipped != s.cursor+1 {
			s.skipped = s.cursor + 1
			return &again{err: fmt.Errorf("event %d of run %d has the sequence %d, not %d", e.ID, e.RunID, e.Sequence, before+1)}
		}
		s.lose()
		if !s.yield(Event{}, &GapError{FromID: s.cursor + 1, ToID: e.ID - 1}) {
			return errStop
		}
	}
	if e.Terminal() || e.ID <= s.reported { // inside a gap, later events may be missing too
		delete(s.sequences, e.RunID)
	} else {
		s.sequences[e.RunID] = e.Sequence
	}
	return nil
}
