package stream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/stream"
)

var (
	errNotFound    = errors.New("not found")
	errUnavailable = errors.New("unavailable")
)

// fake is a source in memory. Its reads fail as the test sets it.
type fake struct {
	onEvents    func(call int) // after a read
	deaf        bool           // Watch notifies of nothing
	vague       bool           // hints hold no events
	garble      func([]stream.Event) []stream.Event
	blind       bool         // LastEventIDs fails
	unavailable atomic.Bool  // Events is unavailable
	calls       atomic.Int64 // of Events
	polls       atomic.Int64 // of LastEventIDs
	reads       atomic.Int64 // of RunRests
	watches     atomic.Int64 // under way

	unavailableAfter atomic.Int64 // Events is unavailable after this cursor; 0: no such
	brokenAfter      atomic.Int64 // Events fails for good after this cursor; 0: no such
	gone             atomic.Bool  // the conversations do not exist any more

	notifying sync.Mutex // calls of notify, one at a time; taken before mu
	watchers  map[int]func(stream.Hint)

	mu   sync.Mutex
	logs map[int64]*log // by conversation
	runs map[int64]*run
}

type log struct {
	events  []stream.Event // all, purged ones too
	purged  map[int64]bool
	running int // runs
}

type run struct {
	id, conversationID int64
	key                string
	sequence           int64
	asks               int64 // the id of its request for input; 0: none
	ended              bool
}

func newFake() *fake {
	return &fake{watchers: make(map[int]func(stream.Hint)), logs: make(map[int64]*log), runs: make(map[int64]*run)}
}

func (s *fake) Events(_ context.Context, q stream.Query) (stream.Page, error) {
	after := s.unavailableAfter.Load()
	if s.unavailable.Load() || after > 0 && q.AfterID == after {
		return stream.Page{}, fmt.Errorf("read events: %w", errUnavailable)
	}
	if after := s.brokenAfter.Load(); after > 0 && q.AfterID == after {
		return stream.Page{}, errors.New("broken")
	}
	page, err := s.page(q)
	if call := int(s.calls.Add(1)); s.onEvents != nil {
		s.onEvents(call)
	}
	return page, err
}

func (s *fake) page(q stream.Query) (page stream.Page, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := s.logs[q.ConversationID]
	if log == nil || s.gone.Load() {
		return page, errNotFound
	}
	if q.RunID != 0 && (s.runs[q.RunID] == nil || s.runs[q.RunID].conversationID != q.ConversationID) {
		return page, errNotFound
	}
	page.LastID, page.Ended = int64(len(log.events)), log.running == 0
	if q.RunID != 0 {
		page.Ended = s.runs[q.RunID].ended
	}
	size := 0
	for _, e := range log.events[min(q.AfterID, page.LastID):] {
		switch {
		case q.RunID != 0 && (e.RunID != q.RunID || e.Sequence <= q.AfterSequence):
		case log.purged[e.ID]:
			page.PurgedTo = e.ID
		case page.More && len(log.purged) == 0:
			return page, nil
		case page.More:
		case len(page.Events) > 0 && (len(page.Events) == q.Limit || size+len(e.Payload) > q.MaxBytes):
			page.More = true
		default:
			page.Events = append(page.Events, e)
			size += len(e.Payload)
		}
	}
	return page, nil
}

func (s *fake) LastEventIDs(_ context.Context, ids []int64) (map[int64]int64, error) {
	s.polls.Add(1)
	if s.blind {
		return nil, errors.New("blind")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	last := make(map[int64]int64)
	for _, id := range ids {
		if log := s.logs[id]; log != nil && !s.gone.Load() {
			last[id] = int64(len(log.events))
		}
	}
	return last, nil
}

func (s *fake) RunRests(_ context.Context, runID, known int64) (bool, error) {
	s.reads.Add(1)
	if s.unavailable.Load() {
		return false, errUnavailable
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.runs[runID]
	if r == nil {
		return false, errNotFound
	}
	return r.ended || r.asks != 0 && r.asks != known, nil
}

func (s *fake) Watch(notify func(stream.Hint)) (stop func()) {
	id := int(s.watches.Add(1))
	go func() {
		s.notifying.Lock()
		defer s.notifying.Unlock()
		s.watchers[id] = notify
	}()
	return func() {
		go func() {
			s.notifying.Lock()
			defer s.notifying.Unlock()
			delete(s.watchers, id)
			s.watches.Add(-1)
		}()
	}
}

// notify passes a hint on.
func (s *fake) notify(h stream.Hint) {
	s.notifying.Lock()
	defer s.notifying.Unlock()
	if s.vague {
		for _, e := range h.Events {
			h.Conversations = append(h.Conversations, e.ConversationID)
		}
		h.Events = nil
	}
	if s.garble != nil && len(h.Events) > 0 {
		h.Events = s.garble(h.Events)
	}
	for _, notify := range s.watchers {
		if !s.deaf {
			notify(h)
		}
	}
}

// store appends events to a run's log.
func (s *fake) store(r *run, ends bool, payloads ...string) []stream.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := s.logs[r.conversationID]
	first := len(log.events)
	for _, payload := range payloads {
		r.sequence++
		log.events = append(log.events, stream.Event{
			ID: int64(len(log.events) + 1), Sequence: r.sequence, RunID: r.id, RunKey: r.key, ConversationID: r.conversationID,
			Type: "x_step", Terminal: ends, Payload: json.RawMessage(payload), CreatedAt: time.Now(),
		})
	}
	if ends && !r.ended {
		r.ended = true
		log.running--
	}
	return append([]stream.Event(nil), log.events[first:]...)
}

// purge purges the events of a run with ids up to to.
func (s *fake) purge(runID, to int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := s.logs[s.runs[runID].conversationID]
	for _, e := range log.events {
		if e.RunID == runID && e.ID <= to {
			log.purged[e.ID] = true
		}
	}
}

// last is the id of a conversation's last event.
func (s *fake) last(conversationID int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(len(s.logs[conversationID].events))
}

// feed is a run whose events the test writes.
type feed struct {
	source *fake
	run    *run
}

// newFeed starts a run, in a new conversation for 0. It has two events then.
func newFeed(_ *testing.T, s *fake, conversationID int64) *feed {
	s.mu.Lock()
	if conversationID == 0 {
		conversationID = int64(len(s.logs) + 1)
		s.logs[conversationID] = &log{purged: make(map[int64]bool)}
	}
	id := int64(len(s.runs) + 1)
	r := &run{id: id, conversationID: conversationID, key: "key-" + strconv.FormatInt(id, 10)}
	s.runs[id] = r
	s.logs[conversationID].running++
	s.mu.Unlock()
	s.store(r, false, "{}", "{}")
	s.notify(stream.Hint{Conversations: []int64{conversationID}})
	return &feed{s, r}
}

// append stores n events in one batch.
func (f *feed) append(n int) { f.appendPayload(n, `{"html":"<b>&amp;</b>","n":1e22}`) }

func (f *feed) appendPayload(n int, payload string) {
	payloads := make([]string, n)
	for i := range payloads {
		payloads[i] = payload
	}
	f.source.notify(stream.Hint{Events: f.source.store(f.run, false, payloads...)})
}

func (f *feed) finish() {
	f.source.store(f.run, true, "{}")
	f.source.notify(stream.Hint{Conversations: []int64{f.run.conversationID}})
}

// ask makes the run wait for input, or, with 0, continues it.
func (f *feed) ask(inputID int64) {
	f.source.mu.Lock()
	f.run.asks = inputID
	f.source.mu.Unlock()
	f.source.store(f.run, false, "{}")
	f.source.notify(stream.Hint{Conversations: []int64{f.run.conversationID}})
}

func (f *feed) path(query string) string {
	return "/" + strconv.FormatInt(f.run.conversationID, 10) + query
}

// ofRun is the path of the run's own stream.
func (f *feed) ofRun(query string) string {
	return f.path("?run_id=" + strconv.FormatInt(f.run.id, 10) + query)
}
