package bunstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"
)

// sqliteWriter is the one writer of an SQLite file: a connection of its own with
// its own settings, used by one transaction at a time.
//
// A pool of one connection is shared with the host instead: the writer then
// borrows it for each transaction.
type sqliteWriter struct {
	db   *sql.DB
	turn chan struct{} // holds one while no transaction writes

	// Guarded by the turn.
	conn *sql.Conn
	keep map[string]*sql.Stmt // what is prepared on conn
}

func newSQLiteWriter(db *sql.DB) *sqliteWriter {
	w := &sqliteWriter{db: db, turn: make(chan struct{}, 1)}
	w.turn <- struct{}{}
	return w
}

// The settings of the writing connection. A commit is on disk when it returns
// (synchronous). Readers and the writer do not wait for each other (WAL); a
// database that cannot have it, such as one in memory, keeps what it has. The
// wait for other connections is ours, see begin.
const sqliteSettings = `PRAGMA busy_timeout = 0; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL`

// busyPause is how long the writer waits before it tries again.
const busyPause = 2 * time.Millisecond

// transact does op in a transaction that holds the file's write lock from its
// begin. While another connection holds it, the writer tries until ctx ends.
func (w *sqliteWriter) transact(ctx context.Context, s *Store, op func(on session) error) error {
	select {
	case <-w.turn:
		defer func() { w.turn <- struct{}{} }()
	case <-ctx.Done():
		return fmt.Errorf("wait for the SQLite writer: %w", ctx.Err())
	}
	for idle := w.db.Stats().Idle; ; idle-- {
		err := w.try(ctx, s, op)
		if sqliteCode(err)&0xff != sqliteReadOnly || idle <= 0 || ctx.Err() != nil {
			return err
		}
		// The pool may have connections from the time when the file was read-only.
	}
}

const sqliteReadOnly = 8

// try does op in a transaction. It has the turn.
func (w *sqliteWriter) try(ctx context.Context, s *Store, op func(on session) error) error {
	if err := w.open(ctx); err != nil {
		return err
	}
	if w.shared() {
		defer w.release()
	}
	if err := w.begin(ctx); err != nil {
		if !busy(err) && ctx.Err() == nil { // such as a file that was read-only when it was opened
			err = errors.Join(err, w.discard())
		}
		return err
	}
	// The context ends the wait for the lock; what has begun ends by itself.
	err := op(session{store: s, on: w.conn, keep: w.keep})
	if err == nil {
		_, err = w.conn.ExecContext(ctx, `COMMIT`)
	}
	if err != nil {
		// After a failed commit there may be nothing to roll back.
		_, rollback := w.conn.ExecContext(context.WithoutCancel(ctx), `ROLLBACK`)
		if rollback != nil && !decided(err) || sqliteBroken(err) {
			err = errors.Join(err, w.discard())
		}
	}
	return err
}

// shared reports whether the pool has one connection only.
func (w *sqliteWriter) shared() bool { return w.db.Stats().MaxOpenConnections == 1 }

// open takes the connection out of the pool.
func (w *sqliteWriter) open(ctx context.Context) error {
	if w.conn != nil {
		return nil
	}
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return err
	}
	err = retryBusy(ctx, func() error {
		_, err := conn.ExecContext(ctx, sqliteSettings)
		return err
	})
	if err != nil {
		closeConn(conn)
		return err
	}
	w.conn, w.keep = conn, make(map[string]*sql.Stmt)
	return nil
}

// begin takes the file's write lock. The context ends the wait for it, but never
// the statement, which does not wait: one that is cut short may have begun.
func (w *sqliteWriter) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	whole := context.WithoutCancel(ctx)
	return retryBusy(ctx, func() error {
		_, err := w.conn.ExecContext(whole, `BEGIN IMMEDIATE`)
		return err
	})
}

// retryBusy does again what another connection is in the way of, until ctx ends.
func retryBusy(ctx context.Context, do func() error) error {
	for {
		err := do()
		if !busy(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(busyPause):
		}
	}
}

// release gives the connection back to the pool.
func (w *sqliteWriter) release() error {
	if w.conn == nil {
		return nil
	}
	err := errors.Join(w.closePrepared(), w.conn.Close())
	w.conn = nil
	return err
}

// discard closes the connection: its settings are not the pool's, or its state
// is not known.
func (w *sqliteWriter) discard() error {
	if w.conn == nil {
		return nil
	}
	err := w.closePrepared()
	closeConn(w.conn)
	w.conn = nil
	return err
}

// closeConn has the pool close a connection.
func closeConn(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
}

// closePrepared closes the prepared statements of the connection.
func (w *sqliteWriter) closePrepared() error {
	var errs []error
	for _, st := range w.keep {
		errs = append(errs, st.Close())
	}
	w.keep = nil
	return errors.Join(errs...)
}

func (w *sqliteWriter) close() error {
	<-w.turn
	defer func() { w.turn <- struct{}{} }()
	return w.discard()
}
