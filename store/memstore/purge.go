package memstore

import (
	"context"

	"github.com/webtrigger-go/webtrigger"
)

// PurgeEvents forgets the events of a run up to the sequence through and returns
// how many there were. Readers whose cursors lie before them are told (see
// [webtrigger.EventPage]). Ids and sequences are not given again. ErrNotFound
// when the run does not exist.
func (s *Store) PurgeEvents(ctx context.Context, runID, through int64) (int, error) {
	if err := s.lock(ctx); err != nil {
		return 0, err
	}
	defer s.unlock()
	r := s.runs.get(runID)
	if r == nil {
		return 0, webtrigger.ErrNotFound
	}
	n := 0
	for through = min(through, int64(len(r.events))); r.purged < through; r.purged++ {
		id := r.events[r.purged]
		r.conv.purged = max(r.conv.purged, id)
		r.conv.events[id-1] = webtrigger.Event{}
		n++
	}
	return n, nil
}

// isPurged reports whether an event's place is all that is left of it.
func isPurged(e webtrigger.Event) bool { return e.ID == 0 }

// purgedAfter is what EventPage.PurgedTo says of all runs.
func (c *conversation) purgedAfter(query webtrigger.EventQuery) int64 {
	if c.purged > query.AfterID {
		return c.purged
	}
	return 0
}

// purgedAfter is what EventPage.PurgedTo says of one run.
func (r *run) purgedAfter(query webtrigger.EventQuery) int64 {
	if r.purged == 0 || r.purged <= query.AfterSequence || r.events[r.purged-1] <= query.AfterID {
		return 0
	}
	return r.events[r.purged-1]
}
