package bunstore

import (
	"context"

	"github.com/uptrace/bun"
)

// unprepared is the session, outside of any transaction, for what is best planned
// by its values: a filter without matches needs another plan than one that
// matches every row. A statement that was prepared gets one plan for both.
func (s *Store) unprepared() session {
	if s.postgres {
		return session{store: s}
	}
	return session{store: s, on: s.db.DB}
}

// plainPlansText limits the plans of this transaction. Each row of a page has its rows of
// other tables looked up, as a page needs few: a merge or a hash would read most of the
// others. No plan is compiled and no worker is started, either of which takes longer than
// the rest.
const plainPlansText = `SELECT set_config('enable_mergejoin', 'off', true), set_config('enable_hashjoin', 'off', true),
	set_config('jit', 'off', true), set_config('max_parallel_workers_per_gather', '0', true), ` + setIdleLimit

// lists runs statements of lists, with plans by their values. It may call read again.
func (s *Store) lists(ctx context.Context, read func(q session) error) error {
	if !s.postgres {
		return read(s.unprepared())
	}
	return s.lender.transact(ctx, func(tx bun.Tx) error {
		q := s.within(tx.Tx)
		if _, err := q.exec(ctx, plainPlansText, s.idleLimit()); err != nil {
			return err
		}
		return read(q)
	})
}

// listed reads a list with one statement.
func listed[T any](ctx context.Context, s *Store, text string, args []any, read func(row scanner) (T, error)) (list []T, _ error) {
	err := s.lists(ctx, func(q session) error {
		rows, err := q.rows(ctx, text, args...)
		list, err = collect(rows, err, read)
		return err
	})
	return list, err
}
