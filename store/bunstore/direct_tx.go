package bunstore

import (
	"context"

	"github.com/uptrace/bun"
)

// transact does op in a transaction, with statements that are prepared on its
// connection: what database/sql prepares in a transaction takes a further one.
func (d *direct) transact(ctx context.Context, op func(p *pinned) error) error {
	return d.run(ctx, func(p *pinned) error {
		if _, err := p.exec(ctx, `BEGIN ISOLATION LEVEL READ COMMITTED`, nil); err != nil {
			p.lent.lostBefore(ctx, err)
			return err
		}
		if err := op(p); err != nil {
			if p.abandon(ctx, err) {
				p.lent.lostBefore(ctx, err)
				p.lent.broken = true
			}
			p.lent.settled = true
			return err
		}
		_, err := p.exec(ctx, `COMMIT`, nil)
		if err != nil {
			p.lent.broken, p.lent.settled = true, true // the outcome is unknown
		}
		return err
	})
}

// abandon ends a failed transaction. It reports whether only the end of its
// connection can do that.
func (p *pinned) abandon(ctx context.Context, err error) (lost bool) {
	if outOfStep(err) {
		return true
	}
	_, failed := p.exec(ctx, `ROLLBACK`, nil)
	return failed != nil
}

// transact does op in a transaction on Postgres that is frequent enough to have
// its statements prepared, where they may be.
func (s *Store) transact(ctx context.Context, op func(on session) error) error {
	if s.direct != nil && !s.opts.NoPreparedStatements {
		return s.direct.transact(ctx, func(p *pinned) error { return op(session{store: s, pinned: p}) })
	}
	return s.lender.transact(ctx, func(tx bun.Tx) error { return op(s.within(tx.Tx)) })
}
