package bunstore

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
)

// tx is one transaction and the transitions of runs in it, one run at a time: all
// of them on SQLite, the rare ones and those in a host's transaction on Postgres.
// It locks in the order idempotency key, conversation, queue row, bound or limits, delivery,
// each kind by ascending id.
type tx struct {
	session
	ctx      context.Context
	host     bool          // the transaction is the host's
	time     time.Time     // SQLite: of the whole transaction
	tries    bool          // it waits for no lock that others may have for long; see errLocked
	patience time.Duration // how long it waits for an open run; 0: see tries

	waitsOutside bool            // if it leaves nothing because of errLocked, it is done again
	hint         webtrigger.Hint // of what was done
	queued       []RunRef        // for Options.Enqueue
}

// now is the time by the database's clock. If it is read after a row was locked,
// it is not earlier than a time read under an earlier lock of that row.
func (t *tx) now() (time.Time, error) {
	if !t.store.postgres {
		return t.time, nil
	}
	var now time.Time
	err := t.row(t.ctx, `SELECT clock_timestamp()`).Scan(stamp{&now})
	return now, err
}

// at is a time as an argument.
func (t *tx) at(at time.Time) any { return t.store.at(at) }

// write does a transaction. An error of op rolls it back; a commit makes it
// visible, and then its hint is shared.
func (s *Store) write(ctx context.Context, doing string, op func(t *tx) error) error {
	if err := ended(ctx); err != nil {
		return err
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	if s.postgres {
		return s.wrap(doing, again(ctx, func() error { return s.writePostgres(ctx, op) }))
	}
	return s.wrap(doing, s.writeSQLite(ctx, op))
}

func (s *Store) writePostgres(ctx context.Context, op func(t *tx) error) error {
	var hint webtrigger.Hint
	err := s.lender.transact(ctx, func(bunTx bun.Tx) error {
		t := &tx{session: s.within(bunTx.Tx), ctx: ctx}
		if err := s.limit(ctx, t.session); err != nil {
			return err
		}
		if err := op(t); err != nil {
			return err
		}
		hint = t.hint
		if t.waitsOutside {
			return s.enqueueOpen(ctx, bunTx, t.queued)
		}
		return s.enqueue(ctx, bunTx, t.queued)
	})
	if err == nil {
		s.share(hint)
	}
	return err
}

func (s *Store) writeSQLite(ctx context.Context, op func(t *tx) error) error {
	var hint webtrigger.Hint
	err := s.writer.transact(ctx, s, func(on session) error {
		t := &tx{session: on, ctx: ctx, time: s.now()}
		err := op(t)
		hint = t.hint
		return err
	})
	if err == nil {
		s.share(hint)
	}
	return err
}

// run reads a run as this transaction sees it.
func (t *tx) run(runID int64) (webtrigger.Run, error) {
	return scanRun(t.row(t.ctx, `SELECT `+runColumns+` FROM `+fromRuns+` WHERE r.id = $1`, runID))
}

// moved notes that a conversation has new events.
func (t *tx) moved(conversationID int64) {
	if n := len(t.hint.Conversations); n == 0 || t.hint.Conversations[n-1] != conversationID {
		t.hint.Conversations = append(t.hint.Conversations, conversationID)
	}
}
