package stream

import (
	"context"
	"errors"
	"net/http"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// burstBytes is about how much is written under one deadline.
const burstBytes = 32 << 10

// errGone reports that the conversation was deleted while a reader followed it.
var errGone = errors.New("conversation deleted")

// subscriber is one reader of a tail; see tail.go for the protocol.
type subscriber struct {
	tail     *tail
	query    Query  // the cursors
	pos      int64  // the last event dealt with, sent or not
	page     view   // what is left of a page of its own; inside is false without one
	reported int64  // the highest id of a purged event that was reported to it
	gap      []byte // the frame that comes before the rest of the page; nil: none
}

// burst is what a subscriber sends next, if anything.
type burst struct {
	frames [][]byte
	last   bool            // and then the stream ends
	wake   <-chan struct{} // else, when to ask for more
}

// first is next by a read of the subscriber's own. The store then checks whether the
// conversation and the run exist, and whether events were purged.
func (sub *subscriber) first(ctx context.Context) (burst, error) {
	if err := sub.readPage(ctx, sub.tail.look(0).hints); err != nil {
		return burst{}, err
	}
	if sub.gap != nil {
		return burst{}, &wire.Problem{Status: http.StatusGone, Code: "events_purged", PurgedTo: sub.reported,
			Detail: "Some of the requested events were purged. Resume with after_event_id set to the value of purged_to."}
	}
	return sub.next(ctx)
}

// next returns what comes after the position, and moves it. After an error it
// may be called again.
func (sub *subscriber) next(ctx context.Context) (burst, error) {
	if !sub.page.inside {
		v := sub.tail.look(sub.pos)
		switch {
		case v.gone:
			return burst{}, errGone
		case v.inside:
			return sub.take(&v), nil
		}
		if err := sub.readPage(ctx, v.hints); err != nil {
			return burst{}, err
		}
	}
	b := sub.take(&sub.page)
	if len(sub.page.frames) == 0 {
		sub.page = view{}
	}
	return b, nil
}

// readPage reads a page of the subscriber's own; hints is from before.
func (sub *subscriber) readPage(ctx context.Context, hints int) error {
	hub := sub.tail.hub
	query := sub.query
	query.AfterID = max(query.AfterID, sub.pos)
	query.Limit, query.MaxBytes = hub.ownPage.Limit, hub.ownPage.MaxBytes
	page, err := hub.events(ctx, query)
	if err != nil {
		return err
	}
	if page.PurgedTo > sub.reported {
		sub.gap = gapFrame(query.ConversationID, max(query.AfterID, sub.reported)+1, page.PurgedTo)
		sub.reported = page.PurgedTo
	}
	sub.page = view{inside: true, frames: hub.encode(page.Events), wake: hub.now}
	if page.More {
		sub.page.head = page.Events[len(page.Events)-1].ID
		return nil
	}
	// Events up to the log's end that are not in the page do not pass the
	// cursors: they are dealt with.
	sub.page.head, sub.page.ended = page.LastID, page.Ended
	sub.tail.anchor(page.LastID, page.Ended && query.RunID == 0, hints)
	return nil
}

// take moves the position through v, about a burst far.
func (sub *subscriber) take(v *view) burst {
	b := burst{wake: v.wake}
	if sub.gap != nil {
		b.frames, sub.gap = [][]byte{sub.gap}, nil
	}
	size := 0
	for len(v.frames) > 0 && size < burstBytes {
		f := v.frames[0]
		v.frames = v.frames[1:]
		sub.pos = f.id
		if sub.passes(&f) {
			b.frames = append(b.frames, f.data)
			size += len(f.data)
		}
		if f.terminal && f.runID == sub.query.RunID {
			b.last = true // also when a cursor hides it
			return b
		}
	}
	if len(v.frames) > 0 {
		b.wake = sub.tail.hub.now
		return b
	}
	// After a page of its own, the subscriber may be beyond the tail's head. The
	// fields of the tail are then older than the page.
	b.last = v.ended && sub.pos <= v.head
	sub.pos = max(sub.pos, v.head)
	return b
}

func (sub *subscriber) passes(f *frame) bool {
	q := &sub.query
	return (q.RunID == 0 || f.runID == q.RunID) && f.id > q.AfterID && f.sequence > q.AfterSequence
}
