package memstore

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// log appends events to the run and its conversation.
func (s *Store) log(r *run, now time.Time, events ...webtrigger.NewEvent) {
	for _, e := range events {
		id := int64(len(r.conv.events)) + 1
		r.events = append(r.events, id)
		r.conv.events = append(r.conv.events, webtrigger.Event{
			ID:             id,
			Sequence:       int64(len(r.events)),
			RunID:          r.ID,
			RunKey:         r.Key,
			ConversationID: r.conv.ID,
			Type:           e.Type,
			Payload:        bytes.Clone(e.Payload),
			CreatedAt:      now,
		})
	}
	// A transition mostly logs several times in one conversation.
	if moved := s.hint.Conversations; len(events) > 0 && (len(moved) == 0 || moved[len(moved)-1] != r.conv.ID) {
		s.hint.Conversations = append(moved, r.conv.ID)
	}
}

// logBatch stores a worker's events and steps unless they stand already.
func (s *Store) logBatch(r *run, now time.Time, batch webtrigger.EventBatch) {
	if batch.Number > r.batch {
		r.batch = batch.Number
		s.log(r, now, batch.Events...)
		r.note(batch.Steps)
	}
}

// Events implements [webtrigger.EventStore].
func (s *Store) Events(ctx context.Context, query webtrigger.EventQuery) (webtrigger.EventPage, error) {
	if err := s.lock(ctx); err != nil {
		return webtrigger.EventPage{}, err
	}
	defer s.unlock()
	conv := s.conversations.get(query.ConversationID)
	if conv == nil {
		return webtrigger.EventPage{}, webtrigger.ErrNotFound
	}
	page := webtrigger.EventPage{LastID: int64(len(conv.events))}
	if query.RunID == 0 {
		page.PurgedTo = conv.purgedAfter(query)
		page.Ended = len(conv.open) == 0
		fill(&page, query, slices.Values(conv.events[min(query.AfterID, page.LastID):]))
		return page, nil
	}
	r := s.runs.get(query.RunID)
	if r == nil || r.conv != conv {
		return webtrigger.EventPage{}, webtrigger.ErrNotFound
	}
	page.Ended, page.PurgedTo = r.Status.Terminal(), r.purgedAfter(query)
	fill(&page, query, func(yield func(webtrigger.Event) bool) {
		for _, id := range r.eventsAfter(query.AfterID, query.AfterSequence) {
			if !yield(conv.events[id-1]) {
				return
			}
		}
	})
	return page, nil
}

// fill adds events to a page, up to the limits of the query.
func fill(page *webtrigger.EventPage, query webtrigger.EventQuery, events iter.Seq[webtrigger.Event]) {
	size := 0
	for e := range events {
		if isPurged(e) {
			continue
		}
		size += len(e.Payload)
		n := len(page.Events)
		if page.More = n == query.Limit || n > 0 && query.MaxBytes > 0 && size > query.MaxBytes; page.More {
			return
		}
		page.Events = append(page.Events, cloneEvent(e))
	}
}

// eventsAfter returns the ids of the run's events after both cursors.
func (r *run) eventsAfter(id, sequence int64) []int64 {
	rest := r.events[min(sequence, int64(len(r.events))):]
	i, found := slices.BinarySearch(rest, id)
	if found {
		i++
	}
	return rest[i:]
}

// LastEventIDs implements [webtrigger.EventStore].
func (s *Store) LastEventIDs(ctx context.Context, conversationIDs []int64) (map[int64]int64, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	last := make(map[int64]int64, len(conversationIDs))
	for _, id := range conversationIDs {
		if conv := s.conversations.get(id); conv != nil {
			last[id] = int64(len(conv.events))
		}
	}
	return last, nil
}
