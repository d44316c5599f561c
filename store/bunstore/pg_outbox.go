package bunstore

import (
	"context"

	"github.com/webtrigger-go/webtrigger"
)

// pgExec runs one statement outside of any transaction.
func (s *Store) pgExec(ctx context.Context, doing, text string, args ...any) (changed int64, _ error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return 0, err
	}
	defer cancel()
	changed, err = s.pool().exec(ctx, text, args...)
	return changed, s.wrap(doing, err)
}

// pgFinishDeliveryText records an outcome, mirrors it on the run and owes the
// retry. It changes one row, or none where the lease does not allow it.
const pgFinishDeliveryText = `
	WITH ended AS (
		UPDATE {deliveries} SET state = $3, completed_at = clock_timestamp(), http_status = $4, latency_us = $5,
			error_class = $6, error = $7, response = $8
		WHERE id = $1 AND token = $2
			AND (state IN ('sending', 'unknown') OR state = 'pending' AND leased_until > clock_timestamp())
		RETURNING id, run_id, host, state, retry, http_status, error_class, completed_at
	),
	retry AS (
		INSERT INTO {deliveries} (run_id, host, state, retry, created_at, due_at)
		SELECT run_id, host, 'pending', retry + 1, completed_at, completed_at + $9::bigint * interval '1 microsecond'
		FROM ended WHERE $9::bigint > 0
		ON CONFLICT DO NOTHING
	),
	mirrored AS (
		UPDATE {runs} r SET callback_delivery_id = d.id, callback_state = d.state, callback_http_status = d.http_status,
			callback_error_class = d.error_class, callback_at = d.completed_at
		FROM ended d WHERE r.id = d.run_id AND r.callback_delivery_id <= d.id
	)
	SELECT id FROM ended`

func (s *Store) pgFinishDelivery(ctx context.Context, lease webtrigger.DeliveryLease, end webtrigger.DeliveryOutcome) error {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	var ids []int64
	err = again(func() error {
		rows, err := s.rows(ctx, pgFinishDeliveryText, lease.DeliveryID, lease.Token, string(end.State), end.HTTPStatus,
			micros(end.Latency), end.ErrorClass, end.Error, end.Response, micros(end.RetryIn))
		ids, err = collect(rows, err, scanID)
		return err
	})
	if err == nil && len(ids) == 0 {
		return webtrigger.ErrLeaseLost
	}
	return s.wrap("finish delivery", err)
}
