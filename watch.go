package webtrigger

import (
	"context"
	"log/slog"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/stream"
)

// streamSource is what streams read of a store.
type streamSource struct {
	store Store
	log   *slog.Logger
}

func (s streamSource) Events(ctx context.Context, query stream.Query) (stream.Page, error) {
	page, err := s.store.Events(ctx, EventQuery(query))
	return stream.Page{
		Events: streamEvents(page.Events), More: page.More, LastID: page.LastID, Ended: page.Ended, PurgedTo: page.PurgedTo,
	}, err
}

func (s streamSource) LastEventIDs(ctx context.Context, conversationIDs []int64) (map[int64]int64, error) {
	return s.store.LastEventIDs(ctx, conversationIDs)
}

func (s streamSource) RunEnded(ctx context.Context, runID int64) (bool, error) {
	run, err := s.store.Run(ctx, runID)
	return run.Status.Terminal(), err
}

func (s streamSource) Watch(notify func(stream.Hint)) (stop func()) {
	life, stop := context.WithCancel(context.Background())
	go s.watch(life, notify)
	return stop
}

// watch hands the store's hints on until life ends.
func (s streamSource) watch(life context.Context, notify func(stream.Hint)) {
	for {
		err := s.store.Watch(life, func(h Hint) {
			notify(stream.Hint{Anything: h.IsZero(), Conversations: h.Conversations, Events: streamEvents(h.Events)})
		})
		if life.Err() != nil {
			return
		}
		s.log.Warn("watch store for streams", "error", err)
		select {
		case <-life.Done():
			return
		case <-time.After(pollInterval):
		}
	}
}

func streamEvents(events []Event) []stream.Event {
	if len(events) == 0 {
		return nil
	}
	converted := make([]stream.Event, len(events))
	for i := range events {
		e := &events[i]
		converted[i] = stream.Event{
			ID: e.ID, Sequence: e.Sequence, RunID: e.RunID, RunKey: e.RunKey, ConversationID: e.ConversationID,
			Type: string(e.Type), Terminal: e.Type.Terminal(), Payload: e.Payload, CreatedAt: e.CreatedAt,
		}
	}
	return converted
}
