package stream

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// How a stream reads the log, and why it has no gap.
//
// The store's event log is the only source of events. Nothing is pushed through a
// subscriber. Each has a position, the id of the last event that it has sent, and
// reads the events after it. Ids become visible in their order, so a position is
// enough.
//
//	the log of one conversation, in the store
//	 1   2   3   4   5   6   7   8   9  10  11  12
//	├───────────────────────────┤
//	            │               └ head: as far as the tail has read
//	            └ base            ─────────────────────► refresh
//	            ├── the window ─┤ encoded once, shared by all
//	    ▲               ▲       ▲
//	    │               │       └ C has everything: it waits for the wake
//	    │               └ B is inside: it takes the frames after 5
//	    └ A fell behind: it reads its own pages until it is inside
//
// A tail is a process's window on the end of one log, while it has subscribers: the
// frames of the last events, all of those with base < id ≤ head. A subscriber inside
// the window takes frames from it. A subscriber behind the window reads the store by
// itself, in small pages. So a slow reader costs a few reads of its own and delays no
// other reader.
//
// A window has a bound, and so have all windows together: where many
// conversations move at once each keeps less, down to nothing, and more readers
// read by themselves. A tail that has rested for a while gives its window up: a
// quiet conversation costs its connections and one id in the poll.
//
// Where the first read of a subscriber finds the end of the log, an unanchored
// tail is anchored: base = head = that end. From then on refresh moves it: one
// goroutine at a time, none while nothing moves, which reads pages after head,
// appends their frames and wakes everyone by closing the wake channel. Events that
// this process has stored itself come with the store's hint, and where they follow
// head, and no read is due, the tail takes them in as if it had read them.
//
// What starts a refresh is a hint: the store's Watch names conversations that
// moved, and every two seconds one query for all watched conversations looks for
// ends beyond the heads, because hints may be lost. Three rules keep them from
// falling between two stools:
//
//   - A subscriber takes the wake channel and looks under one lock, so no wake
//     falls between its look and its wait.
//   - A tail counts its hints, and a refresh is due while that count differs
//     from the one at the start of the last whole read. A hint during a read
//     therefore leads to another.
//   - A subscriber joins its tail before its first read, and anchoring takes the
//     count from before that read. A hint between the read and the anchoring is
//     still due then.
//
// Watch and the poll are two goroutines per process, there while there is any
// subscriber at all.
//
// Retention may purge events that a reader has not received. The page that should
// have contained them reports it (Page.PurgedTo). If it is a
// subscriber's first page, the response is a 410. A later page causes a gap frame, and
// the stream continues. A tail that reads such a page drops it. All of its subscribers
// are behind then, and find the gap in reads of their own.

const (
	windowFrames = 512     // how many frames a tail keeps
	windowBytes  = 1 << 20 // and of how many bytes

	// A tail's read is soon over and shared, a subscriber's own page stays with a
	// reader that stalls.
	tailEvents, tailBytes = 256, 256 << 10
	ownEvents, ownBytes   = 48, 12 << 10

	// Watch does not report when it has begun to listen, so the first polls follow
	// sooner. Each waits twice as long as the previous one, up to pollInterval.
	firstPoll = 20 * time.Millisecond

	restAfter = pollInterval // without a new event
)

// tail is the end of one conversation's log: see the top of this file.
type tail struct {
	hub            *Hub
	life           context.Context
	conversationID int64
	readers        int // guarded by the hub's mu

	mu         sync.Mutex // guards what follows
	anchored   bool
	base, head int64
	ended      bool    // every run had ended when the log ended at head
	gone       bool    // the conversation exists no more
	abandoned  bool    // the last subscriber has left
	frames     []frame // base < id ≤ head; readers share the array, which is only appended to
	size       int     // cost of frames, which is in hub.held
	moved      time.Time
	runID      int64 // of the last event that was read
	runKey     string
	hints      int
	read       int // hints when the last whole read began
	refreshing bool
	wake       chan struct{} // closed and replaced when the tail has moved
}

// view is what a subscriber sees of a tail at one instant.
type view struct {
	inside bool          // the position is in the window
	gone   bool          // there is nothing to read any more
	frames []frame       // what comes after it
	head   int64         // where they end
	ended  bool          // no run covered adds anything after head
	wake   chan struct{} // closed when there is more to see
	hints  int           // see anchor
}

// look is the tail from the position pos on.
func (t *tail) look(pos int64) view {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := view{inside: t.anchored && pos >= t.base, gone: t.gone, head: t.head, ended: t.ended, wake: t.wake, hints: t.hints}
	if v.inside {
		i, _ := slices.BinarySearchFunc(t.frames, pos+1, func(f frame, id int64) int { return cmp.Compare(f.id, id) })
		v.frames = t.frames[i:]
	}
	return v
}

// anchor reports to the tail that a subscriber's own read found the log's end at last.
// hints is the value that look returned before that read.
func (t *tail) anchor(last int64, ended bool, hints int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !t.anchored:
		t.anchored = true
		t.base, t.head, t.ended, t.read = last, last, ended, hints
	case last > t.head:
		t.hints++
	}
	t.refresh()
}

// hint reports that the log may have new events.
func (t *tail) hint() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hints++
	t.refresh()
}

// appended adds events that the store has appended. If they do not follow the last
// event that was read, it reads the log. Their run has not ended, so the log has not.
func (t *tail) appended(events []Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := events[len(events)-1].ID
	switch {
	case t.anchored && last <= t.head: // a read was faster
	case !t.anchored || t.due() || t.gone || t.abandoned || events[0].ID != t.head+1 || !t.keyed(events):
		t.hints++
		t.refresh()
	default:
		t.head, t.ended, t.moved = last, false, time.Now()
		t.extend(t.hub.encode(events))
		t.wakeAll()
	}
}

// keyed sets the run key of events for which the store has omitted it. It reports
// whether all keys are set. mu must be held.
func (t *tail) keyed(events []Event) bool {
	for i := range events {
		switch e := &events[i]; {
		case e.RunKey != "":
		case e.RunID != t.runID:
			return false
		default:
			e.RunKey = t.runKey
		}
	}
	return true
}

// polled reports that the log reaches at least to the id last, or that it was deleted.
// It also repeats a failed read.
func (t *tail) polled(last int64, gone bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last > t.head || gone && !t.gone {
		t.hints++
	}
	if time.Since(t.moved) >= restAfter {
		t.letGo()
	}
	t.refresh()
}

// abandon is called when the last subscriber has left.
func (t *tail) abandon() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.abandoned = true
	t.letGo()
}

// refresh starts a read in the background if one is due. mu must be held.
func (t *tail) refresh() {
	if t.due() && !t.refreshing {
		t.refreshing = true
		go t.catchUp()
	}
}

// due reports whether the log may have events after head. mu must be held.
func (t *tail) due() bool {
	return t.anchored && t.hints != t.read && !t.gone && !t.abandoned && t.life.Err() == nil
}

// catchUp reads until nothing is due. It gives up at an error: the next hint or
// poll starts it again.
func (t *tail) catchUp() {
	for {
		query, hints, due := t.beginRead()
		if !due {
			return
		}
		page, err := t.hub.events(t.life, query)
		if err != nil {
			t.giveUp(err)
			return
		}
		t.endRead(page, t.hub.encode(page.Events), hints)
	}
}

// beginRead returns the next read, if one is due.
func (t *tail) beginRead() (query Query, hints int, due bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refreshing = t.due()
	query = t.hub.tailPage
	query.ConversationID, query.AfterID = t.conversationID, t.head
	return query, t.hints, t.refreshing
}

func (t *tail) giveUp(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refreshing = false
	switch {
	case t.life.Err() != nil:
	case t.hub.opts.NotFound(err):
		t.gone = true
		t.wakeAll()
	default:
		t.hub.opts.Log.Warn("event read failed", "conversation_id", t.conversationID, "error", err)
	}
}

// endRead takes in what was read.
func (t *tail) endRead(page Page, frames []frame, hints int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	head, ended := page.LastID, page.Ended
	if page.More {
		head, ended = frames[len(frames)-1].id, false
	} else {
		t.read = hints
	}
	if n := len(page.Events); n > 0 {
		t.runID, t.runKey = page.Events[n-1].RunID, page.Events[n-1].RunKey
	}
	if head == t.head && ended == t.ended || t.abandoned {
		return
	}
	t.head, t.ended, t.moved = head, ended, time.Now()
	if page.PurgedTo > 0 {
		t.letGo()
	} else {
		t.extend(frames)
	}
	t.wakeAll()
}

// wakeAll wakes the subscribers after the tail has moved. mu must be held.
func (t *tail) wakeAll() {
	close(t.wake)
	t.wake = make(chan struct{})
}

// extend appends frames to the window. If the window is then too large, extend drops
// the oldest frames, down to three quarters, so that it does not copy the rest each
// time. mu must be held.
func (t *tail) extend(frames []frame) {
	added := 0
	for i := range frames {
		added += frames[i].cost()
	}
	t.frames = append(t.frames, frames...)
	t.hold(added)
	n, size := t.hub.windowFrames, t.hub.share()
	if len(t.frames) <= n && t.size <= size && !t.hub.full(0) {
		return
	}
	drop, dropped := 0, 0
	for drop < len(t.frames) && (len(t.frames)-drop > n*3/4 || t.size-dropped > size*3/4 || t.hub.full(dropped)) {
		t.base = t.frames[drop].id
		dropped += t.frames[drop].cost()
		drop++
	}
	t.frames = slices.Clone(t.frames[drop:]) // views may still hold the old array
	t.hold(-dropped)
}

// letGo gives the window up; mu is held.
func (t *tail) letGo() {
	t.frames, t.base = nil, t.head
	t.hold(-t.size)
}

// hold accounts for what the window has gained or lost; mu is held.
func (t *tail) hold(bytes int) {
	had := t.size > 0
	t.size += bytes
	t.hub.held.Add(int64(bytes))
	switch has := t.size > 0; {
	case has && !had:
		t.hub.holders.Add(1)
	case had && !has:
		t.hub.holders.Add(-1)
	}
}
