package bunstore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/webtrigger-go/webtrigger"
)

// FindDeliveries implements [webtrigger.DeliveryStore].
func (s *Store) FindDeliveries(ctx context.Context, query webtrigger.DeliveryFilter) ([]webtrigger.Delivery, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	text, args := s.deliveryList(query)
	found, err := listed(ctx, s, text, args, scanDelivery)
	return found, s.wrap("find deliveries", err)
}

// CountDeliveries implements [webtrigger.DeliveryStore].
func (s *Store) CountDeliveries(ctx context.Context, query webtrigger.DeliveryFilter, limit int) ([]webtrigger.DeliveryCount, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	text, args := s.deliveryCount(query, limit)
	counts, err := listed(ctx, s, text, args, func(row scanner) (n webtrigger.DeliveryCount, _ error) {
		return n, row.Scan(&n.Host, &n.State, &n.Count)
	})
	return counts, s.wrap("count deliveries", err)
}

// deliveryList is the statement of a page of deliveries, and its arguments. The page is cut
// before the runs are read.
func (s *Store) deliveryList(query webtrigger.DeliveryFilter) (text string, args []any) {
	page, args := s.deliveryPage("d.*", query)
	return `SELECT ` + deliveryColumns + ` FROM (` + page + `) d JOIN {runs} r ON r.id = d.run_id ORDER BY d.id DESC`, args
}

// deliveryCount is the statement of a count, and its arguments.
func (s *Store) deliveryCount(query webtrigger.DeliveryFilter, limit int) (text string, args []any) {
	query.Page = webtrigger.Page{Limit: limit}
	page, args := s.deliveryPage("d.id, d.host, d.state", query)
	return `SELECT host, state, count(*) FROM (` + page + `) d GROUP BY host, state ORDER BY host, state`, args
}

// deliveryPage is a page of deliveries, newest first. Each of the states that a partial
// index has makes a page of its own: from the end of its part of the index, however
// many deliveries the others have.
func (s *Store) deliveryPage(columns string, query webtrigger.DeliveryFilter) (text string, args []any) {
	c := s.deliveryConditions(query)
	if query.Page.Before != 0 {
		c.add("d.id < $", query.Page.Before)
	}
	var pages []string
	for _, state := range unsuccessful {
		if slices.Contains(query.States, state) {
			pages = append(pages, "d.state = '"+string(state)+"'{and unsuccessful}")
		}
	}
	if others := literals(query.States, webtrigger.DeliveryPending, webtrigger.DeliverySending, webtrigger.DeliveryDelivered); others != "" {
		pages = append(pages, "d.state IN "+others)
	}
	if len(query.States) == 0 {
		pages = append(pages, "1 = 1")
	} else if len(pages) == 0 {
		pages = append(pages, "1 = 0") // no state that a delivery has
	}
	args = append(c.args, query.Page.Limit)
	ordered := fmt.Sprintf(" ORDER BY id DESC LIMIT $%d", len(args))
	for i, state := range pages {
		pages[i] = `SELECT ` + columns + ` FROM {deliveries} d WHERE ` + strings.Join(append(slices.Clone(c.where), state), " AND ") + ordered
	}
	if len(pages) == 1 {
		return pages[0], args
	}
	return `SELECT * FROM (SELECT * FROM (` + strings.Join(pages, `) p UNION ALL SELECT * FROM (`) + `) p) d` + ordered, args
}

// unsuccessful are the states that partial indexes have.
var unsuccessful = []webtrigger.DeliveryState{webtrigger.DeliveryFailed, webtrigger.DeliveryBlocked, webtrigger.DeliveryUnknown}

// lastDelivery holds a delivery d to be the last one of its run. With OFFSET, Postgres looks
// at the deliveries of one run after the other, also if it expects to need many: a join
// would read all deliveries.
const lastDelivery = `NOT EXISTS (SELECT 1 FROM {deliveries} l WHERE l.run_id = d.run_id AND l.id > d.id LIMIT 1 OFFSET 0)`

// deliveryConditions are those of the deliveries d, without their states.
func (s *Store) deliveryConditions(query webtrigger.DeliveryFilter) (c conditions) {
	if query.AssistantID != "" {
		c.add("d.assistant_id = $", query.AssistantID)
	}
	if query.Host != "" {
		c.add("d.host = $", query.Host)
	}
	if query.Last {
		c.where = append(c.where, lastDelivery)
	}
	if !query.From.IsZero() {
		c.add("d.created_at >= $", s.at(query.From))
	}
	if !query.To.IsZero() {
		c.add("d.created_at < $", s.at(query.To))
	}
	return c
}
