package webtrigger

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/sse"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// hub holds the tails of a process.
type hub struct {
	store        Store
	log          *slog.Logger
	windowFrames int
	windowBytes  int
	pageSize     int
	closing      chan struct{} // closed by close
	now          chan struct{} // always closed: look again at once

	mu     sync.Mutex // guards what follows, and the readers of tails; taken before a tail's
	closed bool
	tails  map[int64]*tail
	life   context.Context // ends with the last subscriber
	stop   context.CancelFunc
}

func (h *hub) init(store Store, log *slog.Logger) {
	h.store, h.log = store, log
	h.windowFrames, h.windowBytes, h.pageSize = windowFrames, windowBytes, eventPage
	h.closing, h.now = make(chan struct{}), make(chan struct{})
	close(h.now)
	h.tails = make(map[int64]*tail)
}

// close ends all streams, now and from now on.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.closed = true
		close(h.closing)
	}
}

// join returns the conversation's tail for one more subscriber, who leaves it.
func (h *hub) join(conversationID int64) (*tail, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, &wire.Problem{Status: http.StatusServiceUnavailable, Code: "shutting_down",
			Detail: "This server is shutting down. Try again later.", RetryAfter: time.Second}
	}
	if len(h.tails) == 0 {
		h.life, h.stop = context.WithCancel(context.Background())
		go h.watch(h.life)
		go h.pollLoop(h.life)
	}
	t := h.tails[conversationID]
	if t == nil {
		t = &tail{hub: h, life: h.life, conversationID: conversationID, wake: make(chan struct{})}
		h.tails[conversationID] = t
	}
	t.readers++
	return t, nil
}

func (h *hub) leave(t *tail) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.readers--; t.readers > 0 {
		return
	}
	delete(h.tails, t.conversationID)
	if len(h.tails) == 0 {
		h.stop()
	}
}

// watch hands the store's hints on until life ends.
func (h *hub) watch(life context.Context) {
	for {
		err := h.store.Watch(life, h.hint)
		if life.Err() != nil {
			return
		}
		h.log.Warn("watch store for streams", "error", err)
		select {
		case <-life.Done():
			return
		case <-time.After(pollInterval):
		}
	}
}

// hint marks the tails that moved, all of them when anything may have.
func (h *hub) hint(hint Hint) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !hint.Queued && !hint.Owed && len(hint.Conversations) == 0 && len(hint.Stopped) == 0 {
		for _, t := range h.tails {
			t.hint()
		}
		return
	}
	for _, id := range hint.Conversations {
		if t := h.tails[id]; t != nil {
			t.hint()
		}
	}
}

// pollLoop is the net under the hints.
func (h *hub) pollLoop(life context.Context) {
	for wait := firstPoll; ; wait = min(2*wait, pollInterval) {
		select {
		case <-life.Done():
			return
		case <-time.After(wait):
		}
		h.poll(life)
	}
}

// poll compares the ends of all watched logs with the heads of their tails.
func (h *hub) poll(life context.Context) {
	h.mu.Lock()
	ids := make([]int64, 0, len(h.tails))
	tails := make([]*tail, 0, len(h.tails))
	for id, t := range h.tails {
		ids, tails = append(ids, id), append(tails, t)
	}
	h.mu.Unlock()
	ctx, cancel := context.WithTimeout(life, statementTimeout)
	defer cancel()
	last, err := h.store.LastEventIDs(ctx, ids)
	if err != nil && life.Err() == nil {
		h.log.Warn("poll events for streams", "error", err)
	}
	for _, t := range tails {
		t.reaches(last[t.conversationID])
	}
}

// events is one read of the log.
func (h *hub) events(ctx context.Context, query EventQuery) (EventPage, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	return h.store.Events(ctx, query)
}

// frame encodes an event.
func (h *hub) frame(e *Event) frame {
	type shape struct {
		Type           EventType `json:"event_type"`
		Sequence       int64     `json:"sequence"`
		ID             int64     `json:"id"`
		RunID          int64     `json:"run_id"`
		RunKey         string    `json:"run_key"`
		ConversationID int64     `json:"conversation_id"`
		Payload        any       `json:"payload"`
		CreatedAt      string    `json:"created_at"`
	}
	v := shape{e.Type, e.Sequence, e.ID, e.RunID, e.RunKey, e.ConversationID, e.Payload, wire.FormatTime(e.CreatedAt)}
	data, err := wire.Marshal(v)
	if err != nil { // the store broke its word; the reader's cursor must not hang on it
		h.log.Error("event payload is not JSON", "run_id", e.RunID, "event_id", e.ID, "error", err)
		v.Payload = nil
		data, _ = wire.Marshal(v)
	}
	return frame{
		id: e.ID, runID: e.RunID, sequence: e.Sequence, terminal: e.Type.Terminal(),
		data: sse.AppendEvent(make([]byte, 0, len(data)+32), e.ID, data),
	}
}

func (h *hub) encode(events []Event) []frame {
	frames := make([]frame, len(events))
	for i := range events {
		frames[i] = h.frame(&events[i])
	}
	return frames
}
