package stream

import (
	"context"
	"iter"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// Hub holds the tails, the open streams and the awaited runs of a process. It is
// safe for concurrent use.
type Hub struct {
	source       Source
	opts         Options
	windowFrames int           // how many frames a tail keeps
	windowBytes  int           // and of how many bytes
	tailPage     Query         // Limit and MaxBytes of a tail's reads
	ownPage      Query         // and of a subscriber's own
	now          chan struct{} // always closed: look again at once

	held    atomic.Int64 // bytes of frames in all tails, at most opts.MemoryBytes
	holders atomic.Int64 // tails that keep any

	mu      sync.Mutex // guards what follows, and the readers of tails; taken before a tail's
	closed  bool
	tails   map[int64]*tail
	awaited map[int64][]*awaited // by conversation
	open    map[*pump]struct{}
	perKey  map[int64]int   // streams and waits by API key
	waits   int             // of all callers
	life    context.Context // ends with the last subscriber and waiter
	endLife context.CancelFunc
	unwatch func()
}

// New returns a hub without streams. It starts nothing.
func New(source Source, opts Options) *Hub {
	h := &Hub{
		source: source, opts: opts,
		windowFrames: windowFrames, windowBytes: windowBytes,
		tailPage: Query{Limit: tailEvents, MaxBytes: tailBytes},
		ownPage:  Query{Limit: ownEvents, MaxBytes: ownBytes},
		now:      make(chan struct{}),
		tails:    make(map[int64]*tail),
		awaited:  make(map[int64][]*awaited),
		open:     make(map[*pump]struct{}),
		perKey:   make(map[int64]int),
	}
	close(h.now)
	return h
}

// Close ends all streams and waits, and rejects new ones from now on. A stream ends
// between two events; a reader that stalls gets two seconds more.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for p := range h.open {
		p.hurry()
	}
	for _, runs := range h.awaited {
		for _, a := range runs {
			a.end()
		}
	}
}

// begin registers a stream that close must end. If the hub is closed already, it
// returns false.
func (h *Hub) begin(p *pump) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.open[p] = struct{}{}
	}
	return !h.closed
}

func (h *Hub) end(p *pump) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.open, p)
}

// Take counts one more stream of an API key, until Return. It reports false if the
// key has as many streams and waits as it may have.
func (h *Hub) Take(keyID int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.take(keyID)
}

// TakeWait counts one more wait, until ReturnWait. It reports false if the process
// has as many waits as it may have, or the API key as many streams and waits. Key 0
// stands for callers without a key: only the process has a bound for them.
func (h *Hub) TakeWait(keyID int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waits >= h.opts.MaxWaits || keyID != 0 && !h.take(keyID) {
		return false
	}
	h.waits++
	return true
}

// ReturnWait ends what TakeWait began.
func (h *Hub) ReturnWait(keyID int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waits--
	if keyID != 0 {
		h.giveBack(keyID)
	}
}

// take is Take; mu is held.
func (h *Hub) take(keyID int64) bool {
	if h.opts.PerKey > 0 && h.perKey[keyID] >= h.opts.PerKey {
		return false
	}
	h.perKey[keyID]++
	return true
}

// Return ends what Take began.
func (h *Hub) Return(keyID int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.giveBack(keyID)
}

// giveBack is Return; mu is held.
func (h *Hub) giveBack(keyID int64) {
	if h.perKey[keyID]--; h.perKey[keyID] == 0 {
		delete(h.perKey, keyID)
	}
}

// join returns the conversation's tail for one more subscriber, who leaves it.
func (h *Hub) join(conversationID int64) (*tail, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, shuttingDown()
	}
	h.begins()
	t := h.tails[conversationID]
	if t == nil {
		t = &tail{hub: h, life: h.life, conversationID: conversationID, wake: make(chan struct{})}
		h.tails[conversationID] = t
	}
	t.readers++
	return t, nil
}

// begins starts watching before the first tail or awaited run is added; mu is held.
func (h *Hub) begins() {
	if len(h.tails)+len(h.awaited) == 0 {
		h.life, h.endLife = context.WithCancel(context.Background())
		h.unwatch = h.source.Watch(h.hint)
		go h.pollLoop(h.life)
	}
}

// ends stops watching after the last one has been removed; mu is held.
func (h *Hub) ends() {
	if len(h.tails)+len(h.awaited) == 0 {
		h.endLife()
		h.unwatch()
	}
}

func shuttingDown() error {
	return &wire.Problem{Status: http.StatusServiceUnavailable, Code: "shutting_down",
		Detail: "This server is shutting down. Try again later.", RetryAfter: time.Second}
}

func (h *Hub) leave(t *tail) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.readers--; t.readers > 0 {
		return
	}
	delete(h.tails, t.conversationID)
	t.abandon()
	h.ends()
}

// share is how many bytes of frames a tail may keep beside the others that keep
// some.
func (h *Hub) share() int {
	return min(h.windowBytes, h.opts.MemoryBytes/max(int(h.holders.Load()), 1))
}

// full reports whether tails keep more than they may together, less bytes.
func (h *Hub) full(less int) bool {
	return h.held.Load()-int64(less) > int64(h.opts.MemoryBytes)
}

// hint marks the tails that moved, all of them when anything may have.
func (h *Hub) hint(hint Hint) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if hint.Anything {
		for _, t := range h.tails {
			t.hint()
		}
		for _, runs := range h.awaited {
			for _, a := range runs {
				h.lookAt(a)
			}
		}
		return
	}
	for events := range batches(hint.Events) {
		if t := h.tails[events[0].ConversationID]; t != nil {
			t.appended(events)
		}
	}
	for _, id := range hint.Conversations {
		if t := h.tails[id]; t != nil {
			t.hint()
		}
		for _, a := range h.awaited[id] {
			h.lookAt(a)
		}
	}
}

// batches parts events where they do not follow each other in one conversation.
func batches(events []Event) iter.Seq[[]Event] {
	return func(yield func([]Event) bool) {
		first := 0
		for i := 1; i <= len(events); i++ {
			if i < len(events) && events[i].ConversationID == events[i-1].ConversationID && events[i].ID == events[i-1].ID+1 {
				continue
			}
			if !yield(events[first:i]) {
				return
			}
			first = i
		}
	}
}

// pollLoop is the net under the hints.
func (h *Hub) pollLoop(life context.Context) {
	for wait := firstPoll; ; wait = min(2*wait, pollInterval) {
		select {
		case <-life.Done():
			return
		case <-time.After(wait):
		}
		h.poll(life)
	}
}

// poll compares the ends of all watched logs with the heads of their tails. Idle
// tails release their frames.
func (h *Hub) poll(life context.Context) {
	h.mu.Lock()
	ids := make([]int64, 0, len(h.tails))
	tails := make([]*tail, 0, len(h.tails))
	for id, t := range h.tails {
		ids, tails = append(ids, id), append(tails, t)
	}
	for id := range h.awaited {
		if h.tails[id] == nil {
			ids = append(ids, id)
		}
	}
	h.mu.Unlock()
	ctx, cancel := context.WithTimeout(life, statementTimeout)
	defer cancel()
	last, err := h.source.LastEventIDs(ctx, ids)
	if err != nil && life.Err() == nil {
		h.opts.Log.Warn("event poll failed", "error", err)
	}
	for _, t := range tails {
		end, exists := last[t.conversationID]
		t.polled(end, err == nil && !exists)
	}
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, runs := range h.awaited {
		for _, a := range runs {
			if end := last[id]; end != a.last {
				a.last = end
				h.lookAt(a)
			}
		}
	}
}

// events is one read of the log.
func (h *Hub) events(ctx context.Context, query Query) (Page, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	return h.source.Events(ctx, query)
}
