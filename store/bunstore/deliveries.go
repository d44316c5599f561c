package bunstore

import (
	"context"
	"database/sql"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// deliveryColumns are what scanDelivery reads: d is the delivery, r its run.
const deliveryColumns = `d.id, d.run_id, r.run_key, r.conversation_id, r.assistant_id, r.callback_url, d.host, d.state, d.retry,
	d.created_at, d.due_at, d.attempted_at, d.completed_at, d.http_status, d.latency_us, d.error_class, d.error, d.response`

const fromDeliveries = `{deliveries} d JOIN {runs} r ON r.id = d.run_id`

// deliveryRow is a row of deliveryColumns while it is read.
type deliveryRow struct {
	webtrigger.Delivery
	latency int64
}

func (x *deliveryRow) dest() []any {
	return []any{
		&x.ID, &x.RunID, &x.RunKey, &x.ConversationID, &x.AssistantID, &x.URL, &x.Host, &x.State, &x.Retry,
		stamp{&x.CreatedAt}, stamp{&x.DueAt}, stamp{&x.AttemptedAt}, stamp{&x.CompletedAt},
		&x.HTTPStatus, &x.latency, &x.FailureClass, &x.Error, &x.Response,
	}
}

func (x *deliveryRow) read() webtrigger.Delivery {
	x.Latency = time.Duration(x.latency) * time.Microsecond
	return x.Delivery
}

func scanDelivery(row scanner) (webtrigger.Delivery, error) {
	var x deliveryRow
	if err := row.Scan(x.dest()...); err != nil {
		return webtrigger.Delivery{}, err
	}
	return x.read(), nil
}

// Delivery implements [webtrigger.DeliveryStore].
func (s *Store) Delivery(ctx context.Context, deliveryID int64) (webtrigger.Delivery, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return webtrigger.Delivery{}, err
	}
	defer cancel()
	d, err := s.pool().delivery(ctx, deliveryID)
	return d, s.wrap("read delivery", err)
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
		id, err := t.redeliver(deliveryID)
		if err != nil {
			return err
		}
		if d, err = t.delivery(t.ctx, id); err != nil {
			return err
		}
		return t.audit(0)
	})
	return d, err
}

// redeliver makes a run's callback pending once more. A retry that waits becomes due,
// else the run gets a further delivery.
func (t *tx) redeliver(deliveryID int64) (id int64, _ error) {
	var runID int64
	err := t.row(t.ctx, `SELECT run_id FROM {deliveries} WHERE id = $1`, deliveryID).Scan(&runID)
	if err != nil {
		return 0, err
	}
	// The run's deliveries make simultaneous calls for one run wait for each other.
	rows, err := t.rows(t.ctx, `SELECT id FROM {deliveries} WHERE run_id = $1 ORDER BY id {for update}`, runID)
	if _, err := collect(rows, err, scanID); err != nil {
		return 0, err
	}
	now, err := t.now()
	if err != nil {
		return 0, err
	}
	var state webtrigger.DeliveryState
	var retry int
	var leasedUntil time.Time
	err = t.row(t.ctx, `SELECT id, state, retry, leased_until FROM {deliveries}
		WHERE run_id = $1 AND state IN ('pending', 'sending')`, runID).Scan(&id, &state, &retry, stamp{&leasedUntil})
	switch {
	case err == sql.ErrNoRows:
		if id, err = t.addDelivery(runID, 0, now, now); err == nil && id == 0 {
			err = webtrigger.ErrConflict // another call was faster
		}
		return id, err
	case err != nil:
		return 0, err
	case retry == 0 || state != webtrigger.DeliveryPending || leasedUntil.After(now):
		return 0, webtrigger.ErrConflict
	}
	t.hint.Pending = true
	_, err = t.exec(t.ctx, `UPDATE {deliveries} SET retry = 0, due_at = $2 WHERE id = $1`, id, t.at(now))
	return id, err
}

// addDelivery adds a pending delivery of a run's callback. If the run has none, or a
// delivery is open already, the id is 0.
func (t *tx) addDelivery(runID int64, retry int, now, due time.Time) (id int64, _ error) {
	err := t.row(t.ctx, `INSERT INTO {deliveries} (run_id, assistant_id, host, state, retry, created_at, due_at)
		SELECT id, assistant_id, callback_host, 'pending', $2, $3, $4 FROM {runs} WHERE id = $1 AND callback_url <> ''
		ON CONFLICT DO NOTHING RETURNING id`, runID, retry, t.at(now), t.at(due)).Scan(&id)
	if err == sql.ErrNoRows {
		return 0, nil
	}
	t.hint.Pending = t.hint.Pending || !due.After(now)
	return id, err
}
