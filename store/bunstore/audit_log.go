package bunstore

import (
	"context"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// audit stores the entry of this transaction's write, if its context has one. id is that
// of the resource that the write has created.
func (t *tx) audit(id int64) error {
	e, ok := webtrigger.AuditFrom(t.ctx)
	if !ok {
		return nil
	}
	now, err := t.now()
	if err != nil {
		return err
	}
	e = e.About(id)
	_, err = t.exec(t.ctx, `INSERT INTO {audit} (at, actor, action, object, request_id, detail) VALUES ($1, $2, $3, $4, $5, $6)`,
		t.at(now), e.Actor, e.Action, e.Object, e.RequestID, text(e.Detail))
	return err
}

// Audit implements [webtrigger.AuditStore].
func (s *Store) Audit(ctx context.Context, query webtrigger.AuditQuery) ([]webtrigger.AuditEntry, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	var c conditions
	if query.Actor != "" {
		c.add("actor = $", query.Actor)
	}
	if query.Object != "" {
		c.add("object = $", query.Object)
	}
	if !query.From.IsZero() {
		c.add("at >= $", s.at(query.From))
	}
	if !query.To.IsZero() {
		c.add("at < $", s.at(query.To))
	}
	where, args := c.page("id", query.Page)
	text := `SELECT id, at, actor, action, object, request_id, detail FROM {audit} ` + where
	entries, err := listed(ctx, s, text, args, func(row scanner) (e webtrigger.AuditEntry, _ error) {
		return e, row.Scan(&e.ID, stamp{&e.At}, &e.Actor, &e.Action, &e.Object, &e.RequestID, raw{&e.Detail})
	})
	return entries, s.wrap("read audit log", err)
}

// purgeAudit deletes the oldest entries that are past their age, and returns their number.
func (t *tx) purgeAudit(purge webtrigger.Purge, now time.Time) (int, error) {
	if purge.Keep.Audit == 0 {
		return 0, nil
	}
	n, err := t.exec(t.ctx, `DELETE FROM {audit} WHERE id IN (SELECT id FROM {audit} WHERE at <= $1 ORDER BY at LIMIT $2 {skip locked})`,
		t.at(now.Add(-purge.Keep.Audit)), purge.Limit)
	return int(n), err
}
