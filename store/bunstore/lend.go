package bunstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"reflect"
	"sync"
	"sync/atomic"

	"github.com/uptrace/bun"
)

// lender lends the connections of a Postgres pool, one statement or transaction
// at a time, with any driver. It does what database/sql cannot do for a caller
// that uses the pool directly:
//
//   - It checks each connection before its first use: see connectionCheck.
//   - It has the pool close a connection whose server is read-only, whose session
//     has ended, or whose next answer may belong to another statement.
//   - It repeats on another connection what was certainly not executed.
type lender struct {
	db   *bun.DB
	kept *kept // keeps one connection between its uses; nil: all go back to the pool

	// adjusted is set when a connection had settings that the store changed.
	adjusted atomic.Bool

	mu    sync.Mutex
	known map[any]map[string]directStmt // by driver connection: what direct has prepared on it
}

func newLender(db *bun.DB) *lender {
	return &lender{db: db, known: make(map[any]map[string]directStmt)}
}

// lent is a connection while it is out of the pool.
type lent struct {
	bun.Conn
	broken  bool // the pool must close the connection
	undone  bool // the failed use left nothing in the database
	settled bool // both are known, and further errors do not change them

	left func() // waits until the host's code has left the connection; nil: it has
}

// failed records the effect of an error on the connection and the statement.
func (l *lent) failed(err error) {
	if l.settled {
		return
	}
	l.broken = l.broken || outOfStep(err)
	l.undone = l.undone || notExecuted(err)
}

const (
	freshAttempts = 2   // on connections that were never used before
	staleAttempts = 100 // on connections of the pool, which it closes one by one
)

// lend has use run on a connection of the pool. If the use certainly left nothing,
// it runs again on another connection. A pool may be full of connections that a
// failover has broken, so the number of attempts on those is high.
func (p *lender) lend(ctx context.Context, use func(l *lent) error) error {
	for fresh, stale := 0, 0; ; {
		again, used, err := p.once(ctx, use)
		if used {
			stale++
		} else {
			fresh++
		}
		if err == nil || !again || ctx.Err() != nil || fresh == freshAttempts || stale == staleAttempts {
			return err
		}
	}
}

// once lends one connection. It reports whether the use left nothing, and whether
// the connection was one that had been used before.
func (p *lender) once(ctx context.Context, use func(l *lent) error) (again, used bool, err error) {
	conn, err := p.kept.borrow(ctx, p.db)
	if err != nil {
		return notExecuted(err) || sessionEnded(err), false, settingsError(err)
	}
	l := &lent{Conn: conn}
	defer func() {
		if l.left == nil {
			p.close(l)
			return
		}
		go func() {
			l.left()
			p.close(l)
		}()
	}()
	if used, err = p.prepareConnection(ctx, l); err == nil {
		if err = use(l); err != nil {
			l.failed(err)
		}
	}
	return l.undone, used, err
}

// close gives a connection back. The pool closes a broken one.
func (p *lender) close(l *lent) {
	if l.broken {
		_ = l.Raw(func(raw any) error {
			p.forget(raw)
			return driver.ErrBadConn
		})
	}
	p.kept.giveBack(l.Conn, p.db, l.broken)
}

// prepareConnection looks at a connection before it is used.
func (p *lender) prepareConnection(ctx context.Context, l *lent) (used bool, err error) {
	var key any
	err = l.Raw(func(raw any) error {
		if reflect.TypeOf(raw).Comparable() {
			key = raw
		}
		if used = p.isKnown(key); used && pending(raw) {
			p.forget(raw)
			return driver.ErrBadConn
		}
		return nil
	})
	if err == nil && !used {
		if err = p.check(ctx, l.Conn.Conn); err == nil {
			p.add(key)
		}
	}
	if err != nil {
		l.broken, l.undone = true, true // the check changes nothing in the database
	}
	return used, err
}

// check checks a new connection.
func (p *lender) check(ctx context.Context, conn *sql.Conn) error {
	readOnly, adjusted, err := connectionCheck(ctx, conn, false)
	if adjusted {
		p.adjusted.Store(true)
	}
	if err == nil && readOnly {
		// A pooler would keep the session for the next client, so the server must end it.
		_, _ = conn.ExecContext(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
		err = errReadOnly
	}
	return err
}

func (p *lender) isKnown(key any) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, known := p.known[key]
	return known && key != nil
}

// manyKnown is how many connections are remembered of a driver that does not
// report which of them it has closed.
const manyKnown = 256

func (p *lender) add(key any) {
	if key == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// The pool closes connections without a callback, so each new one triggers this check.
	for old := range p.known {
		if v, ok := old.(driver.Validator); ok && !v.IsValid() {
			delete(p.known, old)
		}
	}
	if len(p.known) >= manyKnown+2*p.db.DB.Stats().OpenConnections {
		clear(p.known) // they are checked once more
	}
	p.known[key] = make(map[string]directStmt)
}

func (p *lender) forget(raw any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if reflect.TypeOf(raw).Comparable() {
		delete(p.known, raw)
	}
}

// statements are what is prepared on a connection. Only its user changes them.
func (p *lender) statements(raw any) map[string]directStmt {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.known[raw]; !ok {
		p.known[raw] = make(map[string]directStmt)
	}
	return p.known[raw]
}

// rows reads the whole answer of a text. The connection is free when it returns.
func (p *lender) rows(ctx context.Context, text string, args []any) (h *held, err error) {
	err = p.lend(ctx, func(l *lent) error {
		rows, err := l.Conn.Conn.QueryContext(ctx, text, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		h = &held{}
		return h.readRows(rows)
	})
	return h, err
}

func (p *lender) exec(ctx context.Context, text string, args []any) (affected int64, err error) {
	err = p.lend(ctx, func(l *lent) error {
		result, err := l.Conn.Conn.ExecContext(ctx, text, args...)
		if err != nil {
			return err
		}
		affected, err = result.RowsAffected()
		return err
	})
	return affected, err
}

// transact does op in a transaction. Transitions lock first and then read what was
// committed under the lock before, whatever the database's default isolation is.
func (p *lender) transact(ctx context.Context, op func(tx bun.Tx) error) error {
	return p.lend(ctx, func(l *lent) error {
		tx, err := l.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
		if err != nil {
			l.lostBefore(ctx, err)
			return err
		}
		returned := false
		defer func() {
			if !returned { // op panicked
				_ = tx.Rollback()
			}
		}()
		err = op(tx)
		returned = true
		if err != nil {
			if failed, ok := hookFailed(err); ok && failed.abandoned {
				l.broken, l.settled = true, true
				l.left = func() { _ = tx.Rollback() } // waits for the statement of the hook
				return err
			}
			failed := tx.Rollback()
			if failed != nil || sessionEnded(err) || notExecuted(err) {
				l.lostBefore(ctx, err)
				l.broken = !abandoned(ctx, failed)
			}
			if _, ok := hookFailed(err); ok { // its statement may still be in progress, with what the transaction has locked
				l.undone = l.undone && sqlState(err) != ""
			}
			l.settled = true
			return err
		}
		if err := tx.Commit(); err != nil { // the outcome is unknown
			l.broken, l.settled = !abandoned(ctx, err), true
			return err
		}
		return nil
	})
}

// abandoned reports whether database/sql ends a transaction, and closes its
// connection, because the context has ended. It is perhaps not finished with that yet.
func abandoned(ctx context.Context, err error) bool {
	return errors.Is(err, sql.ErrTxDone) || err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err())
}

// lostBefore records an error before the commit of a transaction was sent: if the
// connection failed, the transaction left nothing.
func (l *lent) lostBefore(ctx context.Context, err error) {
	l.failed(err)
	l.undone = l.undone || ctx.Err() == nil && !decided(err) && (sqlState(err) == "" || sessionEnded(err))
}
