package bunstore

import (
	"context"
	"slices"

	"github.com/webtrigger-go/webtrigger"
)

// FindDeliveries implements [webtrigger.DeliveryStore].
func (s *Store) FindDeliveries(ctx context.Context, query webtrigger.DeliveryFilter) ([]webtrigger.Delivery, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	c := s.deliveryConditions(query)
	text, args := c.page("d.id", query.Page)
	rows, err := s.unprepared().rows(ctx, `SELECT `+deliveryColumns+` FROM `+fromDeliveries+` `+text, args...)
	found, err := collect(rows, err, scanDelivery)
	return found, s.wrap("find deliveries", err)
}

// CountDeliveries implements [webtrigger.DeliveryStore].
func (s *Store) CountDeliveries(ctx context.Context, query webtrigger.DeliveryFilter, limit int) ([]webtrigger.DeliveryCount, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	c := s.deliveryConditions(query)
	text, args := c.page("d.id", webtrigger.Page{Limit: limit})
	rows, err := s.unprepared().rows(ctx, `SELECT host, state, count(*) FROM (SELECT d.host, d.state FROM {deliveries} d `+text+`) d
		GROUP BY host, state ORDER BY host, state`, args...)
	counts, err := collect(rows, err, func(row scanner) (n webtrigger.DeliveryCount, _ error) {
		return n, row.Scan(&n.Host, &n.State, &n.Count)
	})
	return counts, s.wrap("count deliveries", err)
}

// unsuccessful are the states that a partial index has, as it has them.
const unsuccessful = `('failed', 'blocked', 'unknown')`

func isUnsuccessful(state webtrigger.DeliveryState) bool {
	return state == webtrigger.DeliveryFailed || state == webtrigger.DeliveryBlocked || state == webtrigger.DeliveryUnknown
}

// deliveryConditions are those of the deliveries d.
func (s *Store) deliveryConditions(query webtrigger.DeliveryFilter) (c conditions) {
	if query.AssistantID != "" {
		c.add("d.assistant_id = $", query.AssistantID)
	}
	if query.Host != "" {
		c.add("d.host = $", query.Host)
	}
	if len(query.States) > 0 {
		c.in("d.state", texts(query.States))
		if !slices.ContainsFunc(query.States, func(state webtrigger.DeliveryState) bool { return !isUnsuccessful(state) }) {
			c.where = append(c.where, "d.state IN "+unsuccessful)
		}
	}
	if query.Last {
		c.where = append(c.where, "NOT EXISTS (SELECT 1 FROM {deliveries} l WHERE l.run_id = d.run_id AND l.id > d.id)")
	}
	if !query.From.IsZero() {
		c.add("d.created_at >= $", s.at(query.From))
	}
	if !query.To.IsZero() {
		c.add("d.created_at < $", s.at(query.To))
	}
	return c
}
