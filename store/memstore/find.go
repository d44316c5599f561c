package memstore

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/webtrigger-go/webtrigger"
)

// FindDeliveries implements [webtrigger.DeliveryStore]. It tries one delivery after the
// other: a rare match among many takes long.
func (s *Store) FindDeliveries(ctx context.Context, query webtrigger.DeliveryFilter) ([]webtrigger.Delivery, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	var found []webtrigger.Delivery
	for d := range s.deliveries.newestBefore(query.Page.Before) {
		if len(found) == query.Page.Limit {
			break
		}
		if d.matches(&query) {
			found = append(found, d.Delivery)
		}
	}
	return found, nil
}

// CountDeliveries implements [webtrigger.DeliveryStore].
func (s *Store) CountDeliveries(ctx context.Context, query webtrigger.DeliveryFilter, limit int) ([]webtrigger.DeliveryCount, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	counts, n := make(map[webtrigger.DeliveryCount]int), 0
	for d := range s.deliveries.newestBefore(0) {
		if n == limit {
			break
		}
		if d.matches(&query) {
			counts[webtrigger.DeliveryCount{Host: d.Host, State: d.State}]++
			n++
		}
	}
	list := slices.Collect(maps.Keys(counts))
	slices.SortFunc(list, func(a, b webtrigger.DeliveryCount) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.State, b.State))
	})
	for i, c := range list {
		list[i].Count = counts[c]
	}
	return list, nil
}

func (d *delivery) matches(query *webtrigger.DeliveryFilter) bool {
	return (query.AssistantID == "" || query.AssistantID == d.AssistantID) &&
		(query.Host == "" || query.Host == d.Host) &&
		(len(query.States) == 0 || slices.Contains(query.States, d.State)) &&
		(!query.Last || d.run.deliveries[len(d.run.deliveries)-1] == d) &&
		(query.From.IsZero() || !d.CreatedAt.Before(query.From)) &&
		(query.To.IsZero() || d.CreatedAt.Before(query.To))
}
