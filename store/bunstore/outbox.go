package bunstore

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// LeaseDeliveries implements [webtrigger.DeliveryStore].
func (s *Store) LeaseDeliveries(ctx context.Context, claim webtrigger.DeliveryQuery) (leased []webtrigger.LeasedDelivery, _ error) {
	if s.postgres {
		return s.pgLeaseDeliveries(ctx, claim)
	}
	err := s.write(ctx, "lease deliveries", func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		rows, err := t.rows(t.ctx, sqliteDueText, t.at(now), t.at(s.leaseTime()))
		list, err := collect(rows, err, scanDue)
		if err != nil {
			return err
		}
		due, err := t.bounded(inTurns(list, claim))
		if err != nil || len(due) == 0 {
			return err
		}
		until, err := t.leaseTime()
		if err != nil {
			return err
		}
		for place, id := range due {
			_, err := t.exec(t.ctx, `UPDATE {deliveries} SET token = $2, leased_until = $3 WHERE id = $1`,
				id, claim.Token+int64(place), t.at(until.Add(claim.Lease)))
			if err != nil {
				return err
			}
		}
		leased, err = t.leased(due, now)
		return err
	})
	return leased, err
}

// bounded returns the first of ids whose results have at most maxLeased bytes together,
// and at least one.
func (t *tx) bounded(ids []int64) ([]int64, error) {
	total := 0
	for i, id := range ids {
		var bytes int
		err := t.row(t.ctx, `SELECT coalesce(length(CAST(e.result AS BLOB)), 0) FROM {deliveries} d JOIN {ends} e ON e.run_id = d.run_id
			WHERE d.id = $1`, id).Scan(&bytes)
		if err != nil && err != sql.ErrNoRows {
			return nil, err
		}
		if total += bytes; i > 0 && total > maxLeased {
			return ids[:i], nil
		}
	}
	return ids, nil
}

func scanID(row scanner) (id int64, _ error) { return id, row.Scan(&id) }

// leased reads leased deliveries with what it takes to make them.
func (t *tx) leased(ids []int64, now time.Time) ([]webtrigger.LeasedDelivery, error) {
	rows, err := t.rows(t.ctx, `SELECT `+runColumns+`, d.token, ch.signing_secrets, `+deliveryColumns+`
		FROM `+fromRuns+` JOIN {deliveries} d ON d.run_id = r.id LEFT JOIN {channels} ch ON ch.assistant_id = r.assistant_id
		WHERE d.id {in ids}`, t.store.idList(ids))
	byID := make(map[int64]webtrigger.LeasedDelivery, len(ids))
	err = each(rows, err, func(row scanner) (err error) {
		var d deliveryRow
		o := webtrigger.LeasedDelivery{LeasedAt: now}
		o.Run, err = scanRun(row, append([]any{&o.Lease.Token, secretList{&o.Secrets}}, d.dest()...)...)
		if err != nil {
			return t.store.passOver(t.ctx, err)
		}
		o.Delivery, o.Lease.DeliveryID = d.read(), d.ID
		byID[d.ID] = o
		return err
	})
	leased := make([]webtrigger.LeasedDelivery, 0, len(ids))
	for _, id := range ids {
		if o, ok := byID[id]; ok {
			leased = append(leased, o)
		}
	}
	return leased, err
}

// ClaimDelivery implements [webtrigger.DeliveryStore].
func (s *Store) ClaimDelivery(ctx context.Context, lease webtrigger.DeliveryLease) error {
	if s.postgres {
		_, err := s.begins.do(ctx, lease)
		return err
	}
	_, err := s.beginAlone(ctx, lease)
	return err
}

// beginAlone begins one delivery in a transaction of its own.
func (s *Store) beginAlone(ctx context.Context, lease webtrigger.DeliveryLease) (none struct{}, _ error) {
	return none, s.write(ctx, "begin delivery", func(t *tx) error {
		now, leased, err := t.lockDelivery(lease)
		if err != nil {
			return err
		}
		changed, err := t.exec(t.ctx, `UPDATE {deliveries} SET state = 'sending', attempted_at = coalesce(attempted_at, $3),
				leased_until = CASE WHEN state = 'pending' THEN CAST($5 AS {time}) ELSE leased_until END
			WHERE id = $1 AND token = $2 AND state IN ('pending', 'sending') AND leased_until > $4`,
			lease.DeliveryID, lease.Token, t.at(now), t.at(leased), t.at(leased.Add(claimRepeats)))
		if err == nil && changed == 0 {
			return webtrigger.ErrLeaseLost
		}
		return err
	})
}

// claimRepeats is how long a claim of a delivery may be repeated. The lease of a
// delivery that is being sent lasts that long.
const claimRepeats = 10 * time.Second

// lockDelivery locks a delivery and reads the time, and that in which leases count.
func (t *tx) lockDelivery(lease webtrigger.DeliveryLease) (now, leased time.Time, _ error) {
	var id int64
	err := t.row(t.ctx, `SELECT id FROM {deliveries} WHERE id = $1 AND token = $2 {for update}`, lease.DeliveryID, lease.Token).Scan(&id)
	if err == sql.ErrNoRows || lease.Token == 0 {
		return now, leased, webtrigger.ErrLeaseLost
	} else if err != nil {
		return now, leased, err
	}
	if now, err = t.now(); err != nil || t.store.postgres {
		return now, now, err
	}
	return now, t.store.leaseTime(), nil
}

// ReturnDelivery implements [webtrigger.DeliveryStore]. It waits for a claim that has
// the row locked. A claim that comes later finds another token.
func (s *Store) ReturnDelivery(ctx context.Context, lease webtrigger.DeliveryLease) error {
	return s.write(ctx, "return delivery", func(t *tx) error {
		if _, _, err := t.lockDelivery(lease); err != nil {
			return err
		}
		var state webtrigger.DeliveryState
		var runID int64
		err := t.row(t.ctx, `SELECT state, run_id FROM {deliveries} WHERE id = $1 AND token = $2`, lease.DeliveryID, lease.Token).Scan(&state, &runID)
		if err != nil {
			return err
		}
		switch state {
		case webtrigger.DeliveryPending, webtrigger.DeliverySending:
		case webtrigger.DeliveryUnknown:
			var open int
			err := t.row(t.ctx, `SELECT count(*) FROM {deliveries} WHERE run_id = $1 AND state IN ('pending', 'sending')`, runID).Scan(&open)
			if err != nil {
				return err
			} else if open > 0 {
				return webtrigger.ErrConflict
			}
		default:
			return webtrigger.ErrLeaseLost
		}
		_, err = t.exec(t.ctx, `UPDATE {deliveries} SET state = 'pending', token = 0, leased_until = NULL, attempted_at = NULL, unknown_at = NULL
			WHERE id = $1`, lease.DeliveryID)
		if uniqueViolation(err) { // another delivery of the run was opened meanwhile
			return webtrigger.ErrConflict
		}
		t.hint.Pending = true
		return err
	})
}

// FinishDelivery implements [webtrigger.DeliveryStore].
func (s *Store) FinishDelivery(ctx context.Context, lease webtrigger.DeliveryLease, end webtrigger.DeliveryOutcome) error {
	if s.postgres {
		_, err := s.outcomes.do(ctx, delivered{lease, end})
		return err
	}
	_, err := s.finishDeliveryAlone(ctx, delivered{lease, end})
	return err
}

// finishDeliveryAlone records one outcome in a transaction of its own.
func (s *Store) finishDeliveryAlone(ctx context.Context, d delivered) (none struct{}, _ error) {
	lease, end := d.lease, d.end
	return none, s.write(ctx, "finish delivery", func(t *tx) error {
		now, leased, err := t.lockDelivery(lease)
		if err != nil {
			return err
		}
		changed, err := t.exec(t.ctx, `UPDATE {deliveries} SET state = $3, completed_at = $4, http_status = $5, latency_us = $6,
				error_class = $7, error = $8, response = $9
			WHERE id = $1 AND token = $2 AND (state IN ('sending', 'unknown') OR state = 'pending' AND leased_until > $10)`,
			lease.DeliveryID, lease.Token, string(end.State), t.at(now), end.HTTPStatus, micros(end.Latency),
			end.FailureClass, end.Error, end.Response, t.at(leased))
		if err == nil && changed == 0 {
			return webtrigger.ErrLeaseLost
		}
		if err != nil || end.RetryIn <= 0 {
			return err
		}
		d, err := t.delivery(t.ctx, lease.DeliveryID)
		if err == nil {
			_, err = t.addDelivery(d.RunID, d.Retry+1, now, now.Add(end.RetryIn))
		}
		return err
	})
}

// SweepDeliveries implements [webtrigger.DeliveryStore].
func (s *Store) SweepDeliveries(ctx context.Context, after time.Duration, limit int) (swept []webtrigger.Delivery, _ error) {
	err := s.write(ctx, "sweep deliveries", func(t *tx) error {
		swept = nil
		now, err := t.now()
		if err != nil {
			return err
		}
		text, before := `SELECT id FROM {deliveries} WHERE state = 'sending' AND attempted_at < $1
			ORDER BY attempted_at, id LIMIT $2 {skip locked}`, now.Add(-after)
		if !s.postgres { // the lease of a delivery began with its attempt, and does not depend on the wall clock
			text, before = strings.ReplaceAll(text, "attempted_at", "leased_until"), s.leaseTime().Add(claimRepeats-after)
		}
		rows, err := t.rows(t.ctx, text, t.at(before), limit)
		late, err := collect(rows, err, scanID)
		for _, id := range late {
			if _, err := t.exec(t.ctx, `UPDATE {deliveries} SET state = 'unknown', unknown_at = $2 WHERE id = $1`, id, t.at(now)); err != nil {
				return err
			}
			d, err := t.delivery(t.ctx, id)
			if err == sql.ErrNoRows { // without its run, it must not keep the sweep from the others
				continue
			}
			if err != nil {
				return err
			}
			swept = append(swept, d)
		}
		return err
	})
	return swept, err
}
