package bunstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
)

// transact does op in a transaction, with statements that are prepared on its
// connection: what database/sql prepares in a transaction takes a further one.
func (d *direct) transact(ctx context.Context, op func(p *pinned) error) error {
	return d.run(ctx, func(p *pinned) error {
		if _, err := p.exec(ctx, `BEGIN ISOLATION LEVEL READ COMMITTED`, nil); err != nil {
			return err
		}
		err := op(p)
		switch {
		case err == nil:
			_, err = p.exec(ctx, `COMMIT`, nil)
		case outOfStep(err): // the pool closes the connection, which ends the transaction
		default:
			if _, failed := p.exec(ctx, `ROLLBACK`, nil); failed != nil {
				// Without an SQLSTATE the connection is closed too.
				err = fmt.Errorf("roll back after %v: %v", err, failed)
			}
		}
		if errors.Is(err, driver.ErrBadConn) { // run would begin again what may stand
			err = fmt.Errorf("in a transaction: %v", err)
		}
		return err
	})
}

// transact does op in a transaction on Postgres that is frequent enough to have
// its statements prepared, where they may be.
func (s *Store) transact(ctx context.Context, op func(on session) error) error {
	if s.direct != nil && !s.opts.NoPreparedStatements {
		return s.direct.transact(ctx, func(p *pinned) error { return op(session{store: s, pinned: p}) })
	}
	bunTx, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer bunTx.Rollback()
	if err := op(s.within(bunTx.Tx)); err != nil {
		return err
	}
	return bunTx.Commit()
}
