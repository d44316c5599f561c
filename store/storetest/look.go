package storetest

import (
	"encoding/json"

	"github.com/webtrigger-go/webtrigger"
)

// What rules look at.

func runID(run webtrigger.Run) int64                { return run.ID }
func claimedID(claimed webtrigger.ClaimedRun) int64 { return claimed.Run.ID }
func keyID(key webtrigger.Key) int64                { return key.ID }
func taskID(task webtrigger.TaskDefinition) int64   { return task.ID }
func eventID(event webtrigger.Event) int64          { return event.ID }
func sequence(event webtrigger.Event) int64         { return event.Sequence }
func deliveryID(d webtrigger.Delivery) int64        { return d.ID }
func content(m webtrigger.Message) string           { return m.Content }
func kind(e webtrigger.Event) webtrigger.EventType  { return e.Type }

// each is one look at all of a list.
func each[T, V any](list []T, look func(T) V) []V {
	seen := make([]V, 0, len(list))
	for _, x := range list {
		seen = append(seen, look(x))
	}
	return seen
}

// pages reads a list of falling ids to its end, two items at a time.
func pages[T any](b *rig, id func(T) int64, read func(page webtrigger.Page) ([]T, error)) (all []T) {
	b.t.Helper()
	page := webtrigger.Page{Limit: 2}
	for len(all) < 100 { // or the list never ends
		items, err := read(page)
		b.NoError(err)
		b.LessOrEqual(len(items), page.Limit)
		all = append(all, items...)
		if len(items) < page.Limit {
			return all
		}
		page.Before = id(items[len(items)-1])
	}
	return all
}

// rising is the numbers 1 to n.
func rising(n int) []int64 {
	numbers := make([]int64, n)
	for i := range numbers {
		numbers[i] = int64(i) + 1
	}
	return numbers
}

// holdsLog holds a run's events to what is true of any run: sequences 1, 2, 3 …,
// rising ids, run_queued first, one terminal event at most and nothing after it.
func (b *rig) holdsLog(run webtrigger.Run) {
	b.t.Helper()
	events := b.events(run)
	b.Equal(rising(len(events)), each(events, sequence))
	b.IsIncreasing(append([]int64{0}, each(events, eventID)...))
	b.Equal(webtrigger.EventRunQueued, events[0].Type)
	for i, e := range events {
		b.Equal(run.ID, e.RunID)
		b.Equal(run.Status.Terminal() && i == len(events)-1, e.Type.Terminal(), "event %d is %s", i+1, e.Type)
	}
}

// sameEvent requires that an event is the stored form of want.
func (b *rig) sameEvent(want webtrigger.NewEvent, got webtrigger.Event) {
	b.t.Helper()
	b.Equal(want.Type, got.Type)
	b.exact(want.Payload, got.Payload)
}

// ends holds a run to have ended with an outcome, in its row and in its log.
func (b *rig) ends(want webtrigger.Outcome, run webtrigger.Run) {
	b.t.Helper()
	for _, got := range []webtrigger.Run{run, b.run(run.ID)} {
		b.Equal(want, webtrigger.Outcome{
			Status: got.Status, StatusDetail: got.StatusDetail, ErrorMessage: got.ErrorMessage, Result: got.Result, Usage: got.Usage,
		})
		b.False(got.CompletedAt.IsZero())
	}
	events := b.events(run)
	b.sameEvent(want.Event(), events[len(events)-1])
	b.holdsLog(run)
}

// exact holds JSON to be the same bytes, and nil to be nil.
func (b *rig) exact(want, got json.RawMessage) {
	b.t.Helper()
	b.Equal(want == nil, got == nil)
	b.Equal(string(want), string(got))
}

func (b *rig) notFound(err error)  { b.t.Helper(); b.ErrorIs(err, webtrigger.ErrNotFound) }
func (b *rig) leaseLost(err error) { b.t.Helper(); b.ErrorIs(err, webtrigger.ErrLeaseLost) }
func (b *rig) conflict(err error)  { b.t.Helper(); b.ErrorIs(err, webtrigger.ErrConflict) }
