package bunstore

import (
	"context"
	"database/sql"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// pgLease is a lease in the input of a statement.
type pgLease struct {
	Ord   int   `json:"ord"`
	RunID int64 `json:"run_id"`
	Token int64 `json:"token"`
}

// pgRenewText renews leases that are held and whose rows no other transaction has locked. For
// leases that are held and locked it reports that they are not renewed; the rest
// are missing in the answer.
var pgRenewText = `
	WITH input AS MATERIALIZED (
		SELECT * FROM json_to_recordset($1::json) AS i(ord int, run_id bigint, token bigint)
	),
	held AS MATERIALIZED (
		SELECT i.ord, i.run_id FROM (SELECT * FROM input ORDER BY run_id) i CROSS JOIN LATERAL (
			SELECT FROM {queue} WHERE run_id = i.run_id AND token = i.token AND state::text = 'r' AND expires_at > clock_timestamp()
			LIMIT 1 FOR UPDATE SKIP LOCKED
		) q
	),
	renewed AS (
		UPDATE {queue} q SET expires_at = clock_timestamp() + $2::bigint * interval '1 microsecond'
		FROM held WHERE q.run_id = ANY (ARRAY[held.run_id]) AND held.run_id + 0 = held.run_id
		RETURNING held.ord
	)
	SELECT i.ord, i.ord IN (SELECT ord FROM renewed), q.stop_status, q.stop_detail, q.stop_error
	FROM input i CROSS JOIN LATERAL (
		SELECT * FROM {queue} WHERE run_id = i.run_id AND token = i.token AND state::text = 'r' AND expires_at > clock_timestamp() LIMIT 1
	) q`

// A renewal that finds a row locked tries again, for a short while.
const (
	renewTries = 5
	renewPause = 5 * time.Millisecond
)

// pgRenew renews leases. It does not wait for locks. A lease whose row stays locked
// is reported as held, which it is, and the next renewal tries again.
func (s *Store) pgRenew(ctx context.Context, leases []webtrigger.Lease, d time.Duration) ([]webtrigger.Renewal, error) {
	ctx, cancel, err := s.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	renewals := make([]webtrigger.Renewal, len(leases))
	first := make(map[webtrigger.Lease]int, len(leases)) // a lease may be named twice
	var left []pgLease
	for i, lease := range leases {
		if _, known := first[lease]; !known {
			first[lease] = i
			left = append(left, pgLease{i, lease.RunID, lease.Token})
		}
	}
	for try := 1; len(left) > 0; try++ {
		if left, err = s.pgRenewOnce(ctx, left, d, renewals); err != nil {
			return nil, s.wrap("renew leases", err)
		}
		if try == renewTries || len(left) == 0 {
			break
		}
		select {
		case <-time.After(renewPause):
		case <-ctx.Done():
			return nil, s.wrap("renew leases", ctx.Err())
		}
	}
	for i, lease := range leases {
		renewals[i] = renewals[first[lease]]
	}
	return renewals, nil
}

// pgRenewOnce fills in what the statement answers, and returns the leases that are
// held and not renewed.
func (s *Store) pgRenewOnce(ctx context.Context, leases []pgLease, d time.Duration, renewals []webtrigger.Renewal) (left []pgLease, _ error) {
	input, err := encode(leases)
	if err != nil {
		return nil, err
	}
	byOrd := make(map[int]pgLease, len(leases))
	for _, lease := range leases {
		byOrd[lease.Ord] = lease
	}
	err = again(ctx, func() error {
		left = nil
		for ord := range byOrd {
			renewals[ord] = webtrigger.Renewal{}
		}
		rows, err := s.rows(ctx, pgRenewText, input, micros(d))
		return each(rows, err, func(row scanner) error {
			var ord int
			var renewed bool
			var status, detail, failure sql.NullString
			if err := row.Scan(&ord, &renewed, &status, &detail, &failure); err != nil {
				return err
			}
			renewals[ord] = webtrigger.Renewal{Renewed: true, Stop: stopOf(status, detail, failure)}
			if !renewed {
				left = append(left, byOrd[ord])
			}
			return nil
		})
	})
	return left, err
}
