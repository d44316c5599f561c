package bunstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// wrap converts a database error to an error of the contract. An absent row is
// ErrNotFound. A temporary error is ErrUnavailable. The store's own errors are not
// changed.
func (s *Store) wrap(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return webtrigger.ErrNotFound
	case decided(err):
		return err
	}
	if failed, ok := hookFailed(err); ok {
		return wrapHook(doing, failed)
	}
	if missing := s.notMigrated(err); missing != nil {
		return fmt.Errorf("bunstore: %s: %w", doing, missing)
	}
	if passing(err) && notStored(err) {
		return fmt.Errorf("bunstore: %s: %w: %w: %w", doing, webtrigger.ErrUnavailable, webtrigger.ErrNotStored, explained(err))
	}
	if passing(err) {
		return fmt.Errorf("bunstore: %s: %w: %w", doing, webtrigger.ErrUnavailable, explained(err))
	}
	return fmt.Errorf("bunstore: %s: %w", doing, err)
}

// decided reports whether an error is a decision of the store, not a failure.
func decided(err error) bool {
	for _, sentinel := range []error{
		webtrigger.ErrNotFound, webtrigger.ErrConflict, webtrigger.ErrLeaseLost,
		webtrigger.ErrIdempotencyKeyReused, webtrigger.ErrKeyChanged, webtrigger.ErrQueueFull, webtrigger.ErrConversationBusy, webtrigger.ErrUnavailable,
		webtrigger.ErrAlreadyAnswered, webtrigger.ErrInputClosed,
	} {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	return false
}

// passing reports whether a failure may pass by itself. On Postgres it depends
// on the class of the SQLSTATE (PostgreSQL, appendix A); an error without one
// came from the connection.
func passing(err error) bool {
	state := sqlState(err)
	if state == "" {
		return !sqliteRejects(err)
	}
	switch state[:2] {
	case "08", // connection exceptions
		"25", // a read-only server, after a failover
		"40", // rolled back: serialization failure, deadlock
		"53", // out of connections, memory or disk
		"55", // not in the state for it, such as a lock that is not available
		"57", // cancelled, shutting down
		"58": // errors of the system below
		return true
	}
	return false
}

// retryable reports whether Postgres has rolled a transaction back for another
// one's sake: doing it again is the answer.
func retryable(err error) bool {
	state := sqlState(err)
	return state == "40001" || state == "40P01"
}

// again does what Postgres rolled back for another transaction's sake once more,
// after a pause that grows: those who met must not meet again. It gives up when the
// context ends, or after 20 attempts.
func again(ctx context.Context, do func() error) error {
	const attempts, longest = 20, 50 * time.Millisecond
	pause := time.Millisecond
	for attempt := 1; ; attempt++ {
		err := do()
		if attempt == attempts || !retryable(err) {
			return err
		}
		select {
		case <-time.After(rand.N(pause)):
		case <-ctx.Done():
			return err
		}
		pause = min(2*pause, longest)
	}
}

// rolledBack reports whether an error proves that its transaction was rolled back.
// On Postgres, an error without an SQLSTATE, or one of a server that is shutting
// down, does not.
func rolledBack(err error) bool {
	if err == nil || busy(err) { // what was busy for so long may stay so
		return false
	}
	if _, ok := hookFailed(err); ok {
		return true
	}
	if sqliteCode(err) != 0 {
		return true
	}
	state := sqlState(err)
	return state != "" && state[:2] != "08" && state[:2] != "57" && state != "25006" && state != "40003"
}

// outOfStep reports whether a connection must not be used again after an error. The
// server's own errors leave it in order, except those that end the session, those
// of a read-only server, and those about statements that are not what they were.
func outOfStep(err error) bool {
	switch state := sqlState(err); {
	case err == nil || errors.Is(err, sql.ErrNoRows):
		return false
	case errors.Is(err, errReadOnly):
		return true
	case decided(err):
		return false
	default:
		return state == "" || sessionEnded(err) || state == "25006" || state == "26000" || state == "0A000"
	}
}

// sessionEnded reports whether the server, or a pooler, ended the session.
func sessionEnded(err error) bool {
	state := sqlState(err)
	return state != "" && (state[:2] == "08" || state[:3] == "57P" || transactionTimedOut(state))
}

// transactionTimedOut reports whether the server ended a session, and rolled back its
// transaction, because the transaction was idle or open for too long.
func transactionTimedOut(state string) bool { return state == "25P03" || state == "25P04" }

// notExecuted reports whether an error proves that its statement left nothing. A
// server ends a session by 57P01 between statements or within one, which it then
// rolls back; never between a commit and its answer.
func notExecuted(err error) bool {
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, errReadOnly) {
		return true
	}
	switch state := sqlState(err); state {
	case "25006", // a read-only transaction
		"57P01", // terminated by an administrator
		"57P03", // starting up or shutting down
		"57P05": // idle for too long
		return true
	default:
		return transactionTimedOut(state)
	}
}

// lockTimedOut reports whether a wait for a lock took too long.
func lockTimedOut(err error) bool { return sqlState(err) == "55P03" }

// notStored reports whether an error proves that its transaction left nothing and will
// leave nothing. The outcome of a transaction that was being committed is unknown.
func notStored(err error) bool {
	var network *net.OpError
	dialing := errors.As(err, &network) && network.Op == "dial"
	return rolledBack(err) || notExecuted(err) || busy(err) || dialing
}

// uniqueViolation reports whether a row stands already.
func uniqueViolation(err error) bool {
	return sqlState(err) == "23505" || sqliteCode(err) == 2067 // SQLITE_CONSTRAINT_UNIQUE
}

// sqlState is the SQLSTATE of an error of a Postgres driver, or "".
func sqlState(err error) string {
	var pgdriver interface{ Field(k byte) string }
	if errors.As(err, &pgdriver) {
		return pgdriver.Field('C')
	}
	var pgx interface{ SQLState() string }
	if errors.As(err, &pgx) {
		return pgx.SQLState()
	}
	return ""
}

// busy reports whether SQLite found the database locked by another connection.
// The drivers' error types differ; the words are SQLite's own (sqlite3_errstr).
func busy(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "database is locked") ||
		strings.Contains(err.Error(), "database table is locked"))
}

// sqliteCode is the extended result code of an error of modernc's driver, or 0.
func sqliteCode(err error) int {
	var coded interface{ Code() int }
	if errors.As(err, &coded) {
		return coded.Code()
	}
	return 0
}

// sqliteRejects reports whether SQLite rejected a statement permanently: an error in the
// statement, or a constraint.
func sqliteRejects(err error) bool {
	const sqliteError, sqliteConstraint, sqliteMismatch, sqliteMisuse, sqliteRange = 1, 19, 20, 21, 25
	switch sqliteCode(err) & 0xff {
	case sqliteError, sqliteConstraint, sqliteMismatch, sqliteMisuse, sqliteRange:
		return true
	}
	return false
}

// sqliteTroubles are the errors of the file system around an SQLite file, by primary
// result code.
var sqliteTroubles = map[int]string{
	sqliteReadOnly: "the SQLite file or its directory is read-only for this process",
	10:             "an input or output operation on the SQLite file failed",
	11:             "the SQLite file is damaged: restore it from a backup",
	13:             "the disk of the SQLite file is full",
	14:             "the SQLite file cannot be opened: its directory must exist, and the process must be allowed to write there",
	26:             "the file is not an SQLite database",
}

// sqliteBroken reports whether a new connection may help.
func sqliteBroken(err error) bool { return sqliteTroubles[sqliteCode(err)&0xff] != "" }

// explained adds what an operator can do about an error of SQLite.
func explained(err error) error {
	if trouble := sqliteTroubles[sqliteCode(err)&0xff]; trouble != "" {
		return fmt.Errorf("%s: %w", trouble, err)
	}
	if busy(err) {
		return fmt.Errorf("another connection holds the lock of the SQLite file: %w", err)
	}
	return err
}

// ended wraps the error of a context that has ended before a call began.
func ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("bunstore: %w", err)
	}
	return nil
}
