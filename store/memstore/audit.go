package memstore

import (
	"context"
	"slices"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// audit stores the entry of a write, if its context has one. id is that of the resource
// that it has created.
func (s *Store) audit(ctx context.Context, id int64) {
	e, ok := webtrigger.AuditFrom(ctx)
	if !ok {
		return
	}
	e = e.About(id)
	s.lastEntry++
	e.ID, e.At = s.lastEntry, s.now()
	s.entries = append(s.entries, copyEntry(e))
}

// Audit implements [webtrigger.AuditStore].
func (s *Store) Audit(ctx context.Context, query webtrigger.AuditQuery) ([]webtrigger.AuditEntry, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	var entries []webtrigger.AuditEntry
	for _, e := range slices.Backward(s.entries) {
		if len(entries) == query.Page.Limit {
			break
		}
		if (query.Page.Before == 0 || e.ID < query.Page.Before) && (query.Actor == "" || e.Actor == query.Actor) &&
			(query.Object == "" || e.Object == query.Object) && (query.From.IsZero() || !e.At.Before(query.From)) &&
			(query.To.IsZero() || e.At.Before(query.To)) {
			entries = append(entries, copyEntry(e))
		}
	}
	return entries, nil
}

func copyEntry(e webtrigger.AuditEntry) webtrigger.AuditEntry {
	e.Detail = slices.Clone(e.Detail)
	return e
}

// purgeAudit deletes the oldest entries that are past their age, and returns their number.
func (s *Store) purgeAudit(purge webtrigger.Purge, now time.Time) (n int) {
	if purge.Keep.Audit == 0 {
		return 0
	}
	for n < min(len(s.entries), purge.Limit) && !now.Before(s.entries[n].At.Add(purge.Keep.Audit)) {
		n++
	}
	s.entries = slices.Delete(s.entries, 0, n)
	return n
}
