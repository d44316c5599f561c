package streamtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// subscriber is one reader and what it has seen.
type subscriber struct {
	rig   *rig
	topic *topic
	run   *run                  // nil: the whole conversation
	first webtrigger.EventQuery // its first cursors
	byKey bool                  // run_id is the run_key

	ids  []int64
	last event
}

type event struct{ id, sequence int64 }

// newSubscriber returns a subscriber of whatever, or of everything.
func newSubscriber(r *rig, c *topic, everything bool) *subscriber {
	s := &subscriber{rig: r, topic: c, byKey: r.n(2) == 0}
	if everything {
		return s
	}
	perTopic := r.o.Events / r.o.Conversations
	if r.n(2) == 0 {
		s.run = c.runs[r.n(len(c.runs))]
		s.first.RunID = s.run.ID
		if r.n(3) == 0 {
			s.first.AfterSequence = int64(r.n(perTopic / 2))
		}
	}
	if r.n(3) == 0 {
		s.first.AfterID = int64(r.n(perTopic))
	}
	return s
}

// live connects again and again, then holds what was seen to the log.
func (s *subscriber) live() {
	for !s.rig.failed.Load() {
		if s.connect() == http.StatusNoContent {
			s.check()
			return
		}
	}
}

// connect makes one connection and returns the status of its answer.
func (s *subscriber) connect() int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop := context.AfterFunc(s.rig.t.Context(), cancel)
	defer stop()
	s.rig.connections.Add(1)
	c := &connection{sub: s, header: make(http.Header), cancel: cancel, left: 1 + s.rig.n(500)}
	handler := s.rig.replicas[s.rig.n(len(s.rig.replicas))]
	handler.ServeHTTP(c, s.request().WithContext(ctx))
	if c.broken != nil {
		s.rig.fail("%s: %v", s, c.broken)
	}
	switch c.status {
	case http.StatusOK, http.StatusNoContent, http.StatusServiceUnavailable:
	default:
		s.rig.fail("%s: status %d", s, c.status)
	}
	return c.status
}

// request is the next request: with the first cursors, as a browser's, and with
// the place that was reached as header, as query or as both.
func (s *subscriber) request() *http.Request {
	query := url.Values{}
	if s.run != nil {
		query.Set("run_id", strconv.FormatInt(s.run.ID, 10))
		if s.byKey {
			query.Set("run_id", s.run.Key)
		}
	}
	afterID, afterSequence := s.first.AfterID, s.first.AfterSequence
	header := http.Header{}
	if s.last.id > 0 {
		way := s.rig.n(4)
		if way != 1 {
			header.Set("Last-Event-ID", strconv.FormatInt(s.last.id, 10))
		}
		switch {
		case way == 1 && s.run != nil && s.rig.n(2) == 0:
			afterSequence = s.last.sequence
		case way == 1 || way == 2:
			afterID = s.last.id
		case way == 3: // an older place in the query, as of a page that was kept
			afterID = max(afterID, s.last.id-int64(s.rig.n(50)))
		}
	}
	if afterID > 0 {
		query.Set("after_event_id", strconv.FormatInt(afterID, 10))
	}
	if afterSequence > 0 {
		query.Set("after_sequence", strconv.FormatInt(afterSequence, 10))
	}
	r := &http.Request{Method: http.MethodGet, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	r.URL = &url.URL{Path: fmt.Sprintf("/conversations/%d/agent-events", s.topic.id), RawQuery: query.Encode()}
	return r
}

// check holds what was seen to what the log has behind the first cursors.
func (s *subscriber) check() {
	want, _, err := s.topic.log(s.first)
	if err != nil {
		s.rig.fail("read the log: %v", err)
		return
	}
	if !slices.Equal(want, s.ids) {
		s.rig.fail("%s saw %d events, there are %d: %s", s, len(s.ids), len(want), difference(want, s.ids))
	}
	s.rig.delivered.Add(int64(len(s.ids)))
}

func (s *subscriber) String() string {
	return fmt.Sprintf("subscriber of conversation %d, run %d, after event %d and sequence %d", s.topic.id, s.first.RunID, s.first.AfterID, s.first.AfterSequence)
}

func difference(want, got []int64) string {
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			return fmt.Sprintf("event %d came where %d was due", got[i], want[i])
		}
	}
	return "one is the other's beginning"
}

// connection is the far end of an answer: it reads frames as they are written,
// and drops after some.
type connection struct {
	sub    *subscriber
	header http.Header
	status int
	cancel context.CancelFunc
	left   int // events until it drops
	rest   []byte
	broken error
}

var errDropped = errors.New("the connection was dropped")

func (c *connection) Header() http.Header              { return c.header }
func (c *connection) WriteHeader(status int)           { c.status = status }
func (c *connection) Flush()                           {}
func (c *connection) SetWriteDeadline(time.Time) error { return nil }

func (c *connection) Write(p []byte) (int, error) {
	if c.status != http.StatusOK {
		return len(p), nil
	}
	c.rest = append(c.rest, p...)
	for {
		end := bytes.Index(c.rest, []byte("\n\n"))
		if end < 0 {
			return len(p), nil
		}
		if c.broken != nil || c.left <= 0 {
			return 0, errDropped
		}
		c.frame(c.rest[:end])
		c.rest = c.rest[end+2:]
	}
}

// frame takes one frame.
func (c *connection) frame(frame []byte) {
	if bytes.HasPrefix(frame, []byte("retry: ")) || bytes.HasPrefix(frame, []byte(": ")) {
		return
	}
	e, err := parse(frame)
	switch {
	case err != nil:
		c.broken = err
	case e.id <= c.sub.last.id:
		c.broken = fmt.Errorf("event %d came after %d", e.id, c.sub.last.id)
	case c.sub.run != nil && c.sub.last.id > 0 && e.sequence != c.sub.last.sequence+1:
		c.broken = fmt.Errorf("sequence %d came after %d", e.sequence, c.sub.last.sequence)
	}
	if c.broken == nil {
		c.sub.last = e
		c.sub.ids = append(c.sub.ids, e.id)
		c.sub.topic.reads(e.id)
	}
	if c.left--; c.left <= 0 || c.broken != nil {
		c.sub.rig.dropped.Add(1)
		c.cancel()
	}
}

// parse reads a frame of an event, as far as it is looked at.
func parse(frame []byte) (e event, err error) {
	id, data, ok := bytes.Cut(frame, []byte("\n"))
	id, hasID := bytes.CutPrefix(id, []byte("id: "))
	data, hasData := bytes.CutPrefix(data, []byte("data: {"))
	if !ok || !hasID || !hasData || bytes.ContainsAny(data, "\r\n") || !bytes.HasSuffix(data, []byte("}")) {
		return e, fmt.Errorf("not the frame of an event: %q", frame)
	}
	if e.id, err = strconv.ParseInt(string(id), 10, 64); err != nil {
		return e, fmt.Errorf("not an id: %q", id)
	}
	if e.sequence, err = number(data, `"sequence":`); err != nil {
		return e, err
	}
	if inside, err := number(data, `"id":`); err != nil || inside != e.id {
		return e, fmt.Errorf("event %d came as %d", inside, e.id)
	}
	return e, nil
}

// number reads the first number behind a name.
func number(data []byte, name string) (int64, error) {
	_, rest, ok := bytes.Cut(data, []byte(name))
	if end := bytes.IndexByte(rest, ','); ok && end > 0 {
		return strconv.ParseInt(string(rest[:end]), 10, 64)
	}
	return 0, fmt.Errorf("no %s in %q", name, data)
}
