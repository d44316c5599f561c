package bunstore

import (
	"context"
	"database/sql"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// deliveryColumns are what scanDelivery reads: d is the delivery, r its run.
const deliveryColumns = `d.id, d.run_id, r.run_key, r.conversation_id, r.assistant_id, r.callback_url, d.state,
	d.created_at, d.attempted_at, d.completed_at, d.http_status, d.latency_us, d.error, d.response`

const fromDeliveries = `{deliveries} d JOIN {runs} r ON r.id = d.run_id`

func deliveryDest(d *webtrigger.Delivery, latency *int64) []any {
	return []any{
		&d.ID, &d.RunID, &d.RunKey, &d.ConversationID, &d.AssistantID, &d.URL, &d.State,
		stamp{&d.CreatedAt}, stamp{&d.AttemptedAt}, stamp{&d.CompletedAt}, &d.HTTPStatus, latency, &d.Error, &d.Response,
	}
}

func scanDelivery(row scanner) (d webtrigger.Delivery, err error) {
	var latency int64
	err = row.Scan(deliveryDest(&d, &latency)...)
	d.Latency = time.Duration(latency) * time.Microsecond
	return d, err
}

// owe adds a pending delivery of a run's callback.
func (t *tx) owe(runID int64, now time.Time) (id int64, _ error) {
	t.hint.Owed = true
	err := t.row(t.ctx, `INSERT INTO {deliveries} (run_id, state, created_at) VALUES ($1, 'pending', $2) RETURNING id`,
		runID, t.at(now)).Scan(&id)
	return id, err
}

// LeaseDeliveries implements [webtrigger.DeliveryStore].
func (s *Store) LeaseDeliveries(ctx context.Context, claim webtrigger.DeliveryClaim) (owed []webtrigger.OwedDelivery, _ error) {
	err := s.write(ctx, "lease deliveries", func(t *tx) error {
		owed = nil
		now, err := t.now()
		if err != nil {
			return err
		}
		rows, err := t.rows(t.ctx, `SELECT id FROM {deliveries}
			WHERE state = 'pending' AND (leased_until IS NULL OR leased_until <= $1) ORDER BY id LIMIT $2 {skip locked}`,
			t.at(now), claim.Limit)
		due, err := collect(rows, err, func(row scanner) (id int64, _ error) { return id, row.Scan(&id) })
		if err != nil || len(due) == 0 {
			return err
		}
		_, err = t.exec(t.ctx, `UPDATE {deliveries} SET token = CASE token WHEN 0 THEN id << 20 ELSE token END + 1, leased_until = $2 WHERE id IN ({ids})`,
			s.idList(due), t.at(now.Add(claim.Lease)))
		if err != nil {
			return err
		}
		rows, err = t.rows(t.ctx, `SELECT `+runColumns+`, d.token, `+deliveryColumns+` FROM `+fromRuns+` JOIN {deliveries} d ON d.run_id = r.id
			WHERE d.id IN ({ids}) ORDER BY d.id`, s.idList(due))
		owed, err = collect(rows, err, scanOwed)
		return err
	})
	return owed, err
}

func scanOwed(row scanner) (o webtrigger.OwedDelivery, err error) {
	var latency int64
	o.Run, err = scanRun(row, append([]any{&o.Lease.Token}, deliveryDest(&o.Delivery, &latency)...)...)
	o.Delivery.Latency = time.Duration(latency) * time.Microsecond
	o.Lease.DeliveryID = o.Delivery.ID
	return o, err
}

// BeginDelivery implements [webtrigger.DeliveryStore].
func (s *Store) BeginDelivery(ctx context.Context, lease webtrigger.DeliveryLease) error {
	return s.change(ctx, "begin delivery", func(now any) (string, []any) {
		return `UPDATE {deliveries} SET state = 'sending', attempted_at = coalesce(CAST($3 AS {time}), {clock})
			WHERE id = $1 AND token = $2 AND state = 'pending' AND leased_until > coalesce(CAST($3 AS {time}), {clock})`,
			[]any{lease.DeliveryID, lease.Token, now}
	})
}

// FinishDelivery implements [webtrigger.DeliveryStore].
func (s *Store) FinishDelivery(ctx context.Context, lease webtrigger.DeliveryLease, end webtrigger.DeliveryOutcome) error {
	return s.change(ctx, "finish delivery", func(now any) (string, []any) {
		return `UPDATE {deliveries} SET state = $4, completed_at = coalesce(CAST($3 AS {time}), {clock}),
				http_status = $5, latency_us = $6, error = $7, response = $8
			WHERE id = $1 AND token = $2 AND (state IN ('sending', 'unknown')
				OR state = 'pending' AND leased_until > coalesce(CAST($3 AS {time}), {clock}))`,
			[]any{lease.DeliveryID, lease.Token, now, string(end.State), end.HTTPStatus, micros(end.Latency), end.Error, end.Response}
	})
}

// change is a transition of one statement, which changes one row or none:
// ErrLeaseLost. On SQLite the time is an argument, on Postgres it is NULL and the
// statement asks the clock.
func (s *Store) change(ctx context.Context, doing string, statement func(now any) (text string, args []any)) error {
	var changed int64
	var err error
	if s.postgres {
		if err := ended(ctx); err != nil {
			return err
		}
		ctx, cancel := s.deadline(ctx)
		defer cancel()
		text, args := statement(nil)
		changed, err = s.pool().exec(ctx, text, args...)
		err = s.wrap(doing, err)
	} else {
		err = s.write(ctx, doing, func(t *tx) (err error) {
			text, args := statement(t.at(t.time))
			changed, err = t.exec(t.ctx, text, args...)
			return err
		})
	}
	if err == nil && changed == 0 {
		err = webtrigger.ErrLeaseLost
	}
	return err
}

// SweepDeliveries implements [webtrigger.DeliveryStore].
func (s *Store) SweepDeliveries(ctx context.Context, after time.Duration, limit int) (swept []webtrigger.Delivery, _ error) {
	err := s.write(ctx, "sweep deliveries", func(t *tx) error {
		swept = nil
		now, err := t.now()
		if err != nil {
			return err
		}
		rows, err := t.rows(t.ctx, `SELECT id FROM {deliveries} WHERE state = 'sending' AND attempted_at < $1
			ORDER BY attempted_at, id LIMIT $2 {skip locked}`, t.at(now.Add(-after)), limit)
		late, err := collect(rows, err, func(row scanner) (id int64, _ error) { return id, row.Scan(&id) })
		for _, id := range late {
			if _, err := t.exec(t.ctx, `UPDATE {deliveries} SET state = 'unknown' WHERE id = $1`, id); err != nil {
				return err
			}
			d, err := t.delivery(t.ctx, id)
			if err != nil {
				return err
			}
			swept = append(swept, d)
		}
		return err
	})
	return swept, err
}

// Delivery implements [webtrigger.DeliveryStore].
func (s *Store) Delivery(ctx context.Context, deliveryID int64) (webtrigger.Delivery, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return webtrigger.Delivery{}, err
	}
	defer cancel()
	d, err := s.pool().delivery(ctx, deliveryID)
	if err != nil {
		return webtrigger.Delivery{}, s.wrap("read delivery", err)
	}
	return d, nil
}

func (q session) delivery(ctx context.Context, deliveryID int64) (webtrigger.Delivery, error) {
	return scanDelivery(q.row(ctx, `SELECT `+deliveryColumns+` FROM `+fromDeliveries+` WHERE d.id = $1`, deliveryID))
}

// Deliveries implements [webtrigger.DeliveryStore].
func (s *Store) Deliveries(ctx context.Context, runID int64) ([]webtrigger.Delivery, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	rows, err := s.rows(ctx, `SELECT `+deliveryColumns+` FROM `+fromDeliveries+` WHERE d.run_id = $1 ORDER BY d.id`, runID)
	deliveries, err := collect(rows, err, scanDelivery)
	return deliveries, s.wrap("list deliveries", err)
}

// Redeliver implements [webtrigger.DeliveryStore].
func (s *Store) Redeliver(ctx context.Context, deliveryID int64) (d webtrigger.Delivery, _ error) {
	err := s.write(ctx, "redeliver", func(t *tx) error {
		var runID int64
		// The run's row makes simultaneous calls for one run wait for each other.
		err := t.row(t.ctx, `SELECT id FROM {runs} WHERE id = (SELECT run_id FROM {deliveries} WHERE id = $1) {for update}`,
			deliveryID).Scan(&runID)
		if err != nil {
			return err
		}
		var open int64
		err = t.row(t.ctx, `SELECT id FROM {deliveries} WHERE run_id = $1 AND state IN ('pending', 'sending') LIMIT 1`, runID).Scan(&open)
		if err == nil {
			return webtrigger.ErrConflict
		} else if err != sql.ErrNoRows {
			return err
		}
		now, err := t.now()
		if err != nil {
			return err
		}
		id, err := t.owe(runID, now)
		if err != nil {
			return err
		}
		d, err = t.delivery(t.ctx, id)
		return err
	})
	return d, err
}
