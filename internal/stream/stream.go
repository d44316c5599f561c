// Package stream delivers the events of conversations to many readers, and lets
// requests wait for the end of a run. It reads the log of events through a small
// interface, [Source]; the protocol stands in tail.go.
package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/sse"
)

// Source is the log of events that a [Hub] reads, and the ends of runs.
type Source interface {
	// Events returns one page in the order of ids. Its error satisfies
	// Options.NotFound if the conversation, or the run of the query, does not exist.
	Events(ctx context.Context, query Query) (Page, error)

	// LastEventIDs returns the id of the last event of each conversation that
	// exists.
	LastEventIDs(ctx context.Context, conversationIDs []int64) (map[int64]int64, error)

	// RunRests reports whether the run has ended or waits for another request for input
	// than the one with the id known.
	RunRests(ctx context.Context, runID, known int64) (bool, error)

	// Watch begins to call notify with hints, and returns at once. Hints may be lost,
	// merged or repeated. Neither Watch nor stop calls or waits for notify.
	Watch(notify func(Hint)) (stop func())
}

// Event is one step of a run.
type Event struct {
	ID             int64 // rises within the conversation without a gap
	Sequence       int64 // within the run
	RunID          int64
	RunKey         string // may be empty in a hint
	ConversationID int64
	Type           string
	Terminal       bool // the last event of its run
	Payload        json.RawMessage
	CreatedAt      time.Time
}

// Query asks for a page of events.
type Query struct {
	ConversationID int64
	RunID          int64 // 0: all runs
	AfterID        int64 // only higher ids
	AfterSequence  int64 // only higher sequences; with RunID
	Limit          int
	MaxBytes       int // of payloads in a page, which has one event at least
}

// Page is one read of the log, at one instant.
type Page struct {
	Events   []Event
	More     bool  // Limit or MaxBytes ended the page
	LastID   int64 // the conversation's last event id, of any run
	Ended    bool  // every run that the query covers has ended
	PurgedTo int64 // the highest id of a purged event that the query selects; 0: none
}

// Hint names conversations that may have new events.
type Hint struct {
	Anything      bool    // any conversation may have moved
	Conversations []int64 // have new events, others than Events
	Events        []Event // new ones; those of one batch lie together
}

// Options configures a [Hub]. All fields are needed, except PerKey.
type Options struct {
	Log          *slog.Logger
	MemoryBytes  int           // of encoded events in all tails together
	PerKey       int           // streams and waits that an API key may have; not positive: no limit
	MaxWaits     int           // waits of the process
	WriteTimeout time.Duration // of a burst; at most MaxWriteTimeout

	NotFound    func(error) bool // the conversation or the run does not exist
	Unavailable func(error) bool // a later try may succeed
}

// MaxWriteTimeout bounds Options.WriteTimeout.
const MaxWriteTimeout = 10 * time.Second

const (
	pollInterval     = 2 * time.Second // the net under the hints
	statementTimeout = 10 * time.Second
)

// Serve answers a request with the events that pass the query, until they end, the
// reader leaves or the hub is closed. Its errors come before the first byte. It asks
// allowed again while the stream lasts. It calls opened when the stream begins, and
// what that returns at the end.
func (h *Hub) Serve(w http.ResponseWriter, r *http.Request, query Query, allowed func() error, opened func() (closed func())) error {
	tail, err := h.join(query.ConversationID)
	if err != nil {
		return err
	}
	defer h.leave(tail)
	sub := &subscriber{tail: tail, query: query}
	next, err := sub.first(r.Context())
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	if next.last && len(next.frames) == 0 {
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNoContent) // EventSource gives up at that
		return nil
	}
	if !canFlush(w) {
		return fmt.Errorf("stream events: %s cannot flush: %s", writerTypes(w), writerRemedy)
	}
	p := &pump{hub: h, r: r, w: w, sub: sub, allowed: allowed, controller: http.NewResponseController(w), timeout: h.opts.WriteTimeout}
	if err := p.setDeadline(true); err != nil {
		return fmt.Errorf("stream events: %s cannot set write deadlines: %s: %w", writerTypes(w), writerRemedy, err)
	}
	p.ctx, p.cancel = context.WithCancel(r.Context())
	defer p.close()
	if !h.begin(p) {
		return shuttingDown()
	}
	defer opened()()
	header := w.Header()
	header.Set("Content-Type", sse.ContentType)
	header.Set("Cache-Control", "no-store, no-transform")
	header.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		p.run(next)
	}
	return nil
}
