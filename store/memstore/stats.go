package memstore

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// EndCounts implements [webtrigger.StatsStore]. It looks at each run.
func (s *Store) EndCounts(ctx context.Context, query webtrigger.StatsQuery) ([]webtrigger.EndCount, bool, error) {
	if err := s.lock(ctx); err != nil {
		return nil, false, err
	}
	defer s.unlock()
	counts := make(map[webtrigger.EndCount]int)
	from := query.From
	if oldest := s.now().Add(-webtrigger.StatsAge).Truncate(webtrigger.StatsHour); query.From.Before(oldest) {
		from = oldest
	}
	for r := range s.runs.newestBefore(0) {
		if !r.Status.Terminal() || r.CompletedAt.Before(from) || !r.CompletedAt.Before(query.To) ||
			query.AssistantID != "" && query.AssistantID != r.AssistantID {
			continue
		}
		c := webtrigger.EndCount{Step: int(r.CompletedAt.Sub(query.From) / query.Step), Status: r.Status, Slot: -1}
		if !r.StartedAt.IsZero() {
			c.Slot = webtrigger.DurationSlot(r.CompletedAt.Sub(r.StartedAt))
		}
		counts[c]++
	}
	var list []webtrigger.EndCount
	for c, n := range counts {
		c.Runs = n
		list = append(list, c)
	}
	return list, true, nil
}

// ErrorCounts implements [webtrigger.StatsStore].
func (s *Store) ErrorCounts(ctx context.Context, assistantID string, from time.Time, limit int) ([]webtrigger.ErrorCount, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	counts, seen := make(map[string]webtrigger.ErrorCount), make(map[webtrigger.RunStatus]int)
	for r := range s.runs.newestBefore(0) {
		if r.Status != webtrigger.RunFailed && r.Status != webtrigger.RunTimedOut || seen[r.Status] == limit {
			continue
		}
		seen[r.Status]++
		if r.CompletedAt.Before(from) || assistantID != "" && assistantID != r.AssistantID {
			continue
		}
		text := cmp.Or(r.ErrorMessage, r.StatusDetail)
		c := counts[text]
		counts[text] = webtrigger.ErrorCount{Error: text, Count: c.Count + 1, LastRunID: max(c.LastRunID, r.ID)}
	}
	list := slices.Collect(maps.Values(counts))
	slices.SortFunc(list, func(a, b webtrigger.ErrorCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(b.LastRunID, a.LastRunID))
	})
	return list, nil
}
