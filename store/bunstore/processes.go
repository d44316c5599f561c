package bunstore

import (
	"cmp"
	"context"
	"database/sql"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// The worker processes. Only its owner and a sweep that marks it as lost lock the row
// of a process. On Postgres, heartbeats have a connection of their own: see kept.

// renewTimeout is the deadline of a renewal: a third of the lease, from 1 s to 10 s.
func renewTimeout(lease time.Duration) time.Duration {
	return max(min(lease/3, 10*time.Second), time.Second)
}

// The texts take the time as an argument that is NULL on Postgres, which uses its own.
const (
	registerText = `INSERT INTO {processes} (id, registered_at, expires_at, contact_since, lease, max_attempts)
		SELECT $1, n.now, n.now + CAST($2 AS bigint) * {microsecond}, n.now, CAST($2 AS bigint), CAST($3 AS integer)
		FROM (SELECT coalesce(CAST($4 AS {time}), {clock}) AS now) n WHERE true
		ON CONFLICT (id) DO NOTHING`

	renewText = `UPDATE {processes} SET
			contact_since = CASE WHEN expires_at - lease / 3 * {microsecond} <= coalesce(CAST($4 AS {time}), {clock}) THEN coalesce(CAST($4 AS {time}), {clock}) ELSE contact_since END,
			expires_at = coalesce(CAST($4 AS {time}), {clock}) + CAST($2 AS bigint) * {microsecond},
			lease = CAST($2 AS bigint), max_attempts = CAST($3 AS integer)
		WHERE id = $1 AND lost_at IS NULL`

	// claimsText reads the claims of a process without locks.
	claimsText = `SELECT run_id, token, stop_status, stop_detail, stop_error FROM {queue} WHERE process_id = $1 AND state = 'r' ORDER BY run_id`

	// pgRenewText is renewText and claimsText in one statement. It has no row if the
	// process is not registered or is lost, and a row with a NULL run if it has no
	// claims.
	pgRenewText = `WITH me AS (` + renewText + ` RETURNING id)
		SELECT q.* FROM me LEFT JOIN LATERAL (` + claimsText + `) q ON true ORDER BY q.run_id`

	removeText = `DELETE FROM {processes} WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM {queue} WHERE process_id = $1 AND state = 'r')`

	registeredText = `SELECT count(*) FROM {processes} WHERE id = $1`
	mayClaimText   = `SELECT count(*) FROM {processes} WHERE id = $1 AND lost_at IS NULL`
)

// RegisterProcess implements [webtrigger.ProcessStore].
func (s *Store) RegisterProcess(ctx context.Context, p webtrigger.Process) error {
	if !s.postgres {
		return s.write(ctx, "register process", func(t *tx) error {
			_, err := t.exec(t.ctx, registerText, p.ID, micros(p.Lease), p.MaxAttempts, t.at(s.leaseTime()))
			return err
		})
	}
	return s.beat(ctx, "register process", s.timeout, func(ctx context.Context) error {
		_, err := s.beats.exec(ctx, s.statement(registerText).text, []any{p.ID, micros(p.Lease), p.MaxAttempts, nil})
		return err
	})
}

// RenewProcess implements [webtrigger.ProcessStore].
func (s *Store) RenewProcess(ctx context.Context, p webtrigger.Process) (renewed webtrigger.Renewed, _ error) {
	limit := renewTimeout(p.Lease)
	if !s.postgres {
		return s.renewSQLite(ctx, p, limit)
	}
	err := s.beat(ctx, "renew process", limit, func(ctx context.Context) error {
		renewed = webtrigger.Renewed{}
		rows, err := answered(s.beats.rows(ctx, s.statement(pgRenewText).text, []any{p.ID, micros(p.Lease), p.MaxAttempts, nil}))
		return each(rows, err, func(row scanner) error {
			renewed.Registered = true
			return readClaim(row, &renewed)
		})
	})
	if err != nil {
		return webtrigger.Renewed{}, err
	}
	return renewed, nil
}

func (s *Store) renewSQLite(ctx context.Context, p webtrigger.Process, limit time.Duration) (renewed webtrigger.Renewed, _ error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := s.write(ctx, "renew process", func(t *tx) error {
		changed, err := t.exec(t.ctx, renewText, p.ID, micros(p.Lease), p.MaxAttempts, t.at(s.leaseTime()))
		if err != nil || changed == 0 {
			return err
		}
		renewed.Registered = true
		rows, err := t.rows(t.ctx, claimsText, p.ID)
		return each(rows, err, func(row scanner) error { return readClaim(row, &renewed) })
	})
	if err != nil {
		return webtrigger.Renewed{}, err
	}
	return renewed, nil
}

// readClaim adds a row of claimsText. A row with a NULL run is not a claim.
func readClaim(row scanner, renewed *webtrigger.Renewed) error {
	var runID, token sql.NullInt64
	var status, detail, failure sql.NullString
	if err := row.Scan(&runID, &token, &status, &detail, &failure); err != nil || !runID.Valid {
		return err
	}
	renewed.Claims = append(renewed.Claims, webtrigger.HeldClaim{
		Lease: webtrigger.Lease{RunID: runID.Int64, Token: token.Int64},
		Stop:  stopOf(status, detail, failure),
	})
	return nil
}

// RemoveProcess implements [webtrigger.ProcessStore].
func (s *Store) RemoveProcess(ctx context.Context, processID string) error {
	if !s.postgres {
		return s.write(ctx, "remove process", func(t *tx) error {
			changed, err := t.exec(t.ctx, removeText, processID)
			return removed(changed, err, func() row { return t.row(t.ctx, registeredText, processID) })
		})
	}
	err := s.beat(ctx, "remove process", s.timeout, func(ctx context.Context) error {
		changed, err := s.beats.exec(ctx, s.statement(removeText).text, []any{processID})
		return removed(changed, err, func() row {
			rows, err := answered(s.beats.rows(ctx, s.statement(registeredText).text, []any{processID}))
			return row{rows, err}
		})
	})
	if err == nil {
		_ = s.beats.kept.release(s.db)
	}
	return err
}

// removed returns the result of a removal. A process that is still registered has
// claims.
func removed(changed int64, err error, registered func() row) error {
	if err != nil || changed > 0 {
		return err
	}
	var found int
	if err := registered().Scan(&found); err != nil || found == 0 {
		return err
	}
	return webtrigger.ErrConflict
}

// beat does a statement on the connection of heartbeats, which may be repeated. If the
// connection is lost, it does so on another one.
func (s *Store) beat(ctx context.Context, doing string, limit time.Duration, do func(ctx context.Context) error) error {
	if err := ended(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(limit, s.timeout))
	defer cancel()
	err := again(ctx, func() error { return do(ctx) })
	if outOfStep(err) && ctx.Err() == nil {
		err = again(ctx, func() error { return do(ctx) })
	}
	return s.wrap(doing, err)
}

// mayClaim reports whether a process is registered and not lost.
func (t *tx) mayClaim(processID string) (bool, error) {
	var found int
	err := t.row(t.ctx, mayClaimText, processID).Scan(&found)
	return found > 0, err
}
