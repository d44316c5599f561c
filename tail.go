package webtrigger

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// How a stream reads the log, and why it has no hole.
//
// The store's event log is the only truth. Nothing is pushed through a
// subscriber: each has a position, the id of the last event that it has dealt
// with, and asks for what comes after it. Ids become visible in their order, so
// a position says all.
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
// A tail is what one process knows of the end of one log, while somebody
// watches it: the frames of the last events, all of those with base < id ≤ head.
// A subscriber inside the window takes frames from it, one behind reads the
// store by itself. So a slow reader costs a few reads of its own and holds
// nobody, and the memory of a tail is bounded whatever its readers do.
//
// Where the first read of a subscriber finds the end of the log, an unanchored
// tail is anchored: base = head = that end. From then on only refresh moves it:
// one goroutine at a time, none while nothing moves, which reads pages after
// head, appends their frames and wakes everyone by closing the wake channel.
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

const (
	windowFrames = 512     // how many frames a tail keeps
	windowBytes  = 1 << 20 // and of how many bytes
	eventPage    = 256     // events per read

	// Watch cannot tell when it has begun to listen, so the first polls come
	// sooner; each waits twice as long as the one before, up to pollInterval.
	firstPoll = 20 * time.Millisecond
)

// frame is one event ready to be sent; it is never changed.
type frame struct {
	id, runID, sequence int64
	terminal            bool
	data                []byte
}

// tail is the end of one conversation's log: see the top of this file.
type tail struct {
	hub            *hub
	life           context.Context
	conversationID int64
	readers        int // guarded by the hub's mu

	mu         sync.Mutex // guards what follows
	anchored   bool
	base, head int64
	ended      bool    // every run had ended when the log ended at head
	frames     []frame // base < id ≤ head; readers share the array, which is only appended to
	size       int     // bytes of frames
	spent      int     // bytes that left the window and are still in the array
	hints      int
	read       int // hints when the last whole read began
	refreshing bool
	wake       chan struct{} // closed and replaced when the tail has moved
}

// view is what a subscriber sees of a tail at one instant.
type view struct {
	inside bool          // the position is in the window
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
	v := view{inside: t.anchored && pos >= t.base, head: t.head, ended: t.ended, wake: t.wake, hints: t.hints}
	if v.inside {
		i, _ := slices.BinarySearchFunc(t.frames, pos+1, func(f frame, id int64) int { return cmp.Compare(f.id, id) })
		v.frames = t.frames[i:]
	}
	return v
}

// anchor tells the tail of a subscriber's own read that found the log's end at
// last; hints is what look said before that read.
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

// hint says that the log may have moved.
func (t *tail) hint() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hints++
	t.refresh()
}

// reaches says that the log reaches to the id last at least. It also tries again
// what a failed read has left.
func (t *tail) reaches(last int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last > t.head {
		t.hints++
	}
	t.refresh()
}

// refresh reads on in the background when that is due; mu is held.
func (t *tail) refresh() {
	if t.due() && !t.refreshing {
		t.refreshing = true
		go t.catchUp()
	}
}

// due reports whether the log may go on after head; mu is held.
func (t *tail) due() bool { return t.anchored && t.hints != t.read && t.life.Err() == nil }

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

// beginRead says what to read next, if anything.
func (t *tail) beginRead() (query EventQuery, hints int, due bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refreshing = t.due()
	return EventQuery{ConversationID: t.conversationID, AfterID: t.head, Limit: t.hub.pageSize, MaxBytes: t.hub.windowBytes}, t.hints, t.refreshing
}

func (t *tail) giveUp(err error) {
	t.mu.Lock()
	t.refreshing = false
	t.mu.Unlock()
	if t.life.Err() == nil {
		t.hub.log.Warn("read events for streams", "conversation_id", t.conversationID, "error", err)
	}
}

// endRead takes in what was read.
func (t *tail) endRead(page EventPage, frames []frame, hints int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	head, ended := page.LastID, page.Ended
	if page.More {
		head, ended = frames[len(frames)-1].id, false
	} else {
		t.read = hints
	}
	if head == t.head && ended == t.ended {
		return
	}
	t.extend(frames)
	t.head, t.ended = head, ended
	close(t.wake)
	t.wake = make(chan struct{})
}

// extend appends frames to the window and lets go of the oldest; mu is held.
func (t *tail) extend(frames []frame) {
	for _, f := range frames {
		t.frames = append(t.frames, f)
		t.size += len(f.data)
	}
	drop := 0
	for len(t.frames)-drop > t.hub.windowFrames || t.size > t.hub.windowBytes {
		old := t.frames[drop]
		t.base = old.id
		t.size -= len(old.data)
		t.spent += len(old.data)
		drop++
	}
	t.frames = t.frames[drop:]
	if t.spent > t.hub.windowBytes {
		t.frames, t.spent = slices.Clone(t.frames), 0
	}
}
