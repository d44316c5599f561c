package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Another transaction, such as one of a host, may have a lock for long. A call must not
// keep a connection until that ends, because many such calls would use up the pool. Nor
// must a session of the server wait for it: pgdriver does not end the statement of a
// caller that has left, so the sessions of repeated calls would add up.
//
// So a transaction tries. If a lock is not free, it leaves nothing (errLocked) and is
// done again after a pause, in which the call has no connection. Some of these attempts
// wait for the lock, but not for long: then a lock that others have often, each for a short
// time, comes to this call too.

// errLocked reports that another transaction has a lock that this one does not wait for.
var errLocked = errors.New("bunstore: locked by another transaction")

const (
	lockPatience = 50 * time.Millisecond // of an attempt that waits
	patientCalls = 2                     // such attempts of one store at a time, of calls that lock an open run

	shortestPause, longestPause = 2 * time.Millisecond, 100 * time.Millisecond
)

// pauseAfter is the pause after so many earlier ones.
func pauseAfter(pauses int) time.Duration {
	pause := min(shortestPause<<min(pauses, 10), longestPause)
	return pause/2 + rand.N(pause/2)
}

// how is the form in which a transaction locks what others may have locked for long.
func (t *tx) how() string {
	if t.tries {
		return skipLocked
	}
	return forUpdate
}

// hurry makes a transaction wait at most for this time for an open run, or not at all.
func (t *tx) hurry(patience time.Duration) error {
	if !t.store.postgres {
		return nil
	}
	t.waitsOutside = true
	if t.tries, t.patience = patience == 0, patience; t.tries {
		return nil
	}
	_, err := t.exec(t.ctx, `SELECT set_config('lock_timeout', $1, true)`, milliseconds(patience))
	return err
}

// lockOpen locks an open run. It returns sql.ErrNoRows if the run has ended or is absent.
func (t *tx) lockOpen(runID int64) (*queueRow, error) {
	q, err := t.lock(runID, t.how())
	switch {
	case err == sql.ErrNoRows && t.tries:
		var found int
		if err := t.row(t.ctx, `SELECT count(*) FROM {queue} WHERE run_id = $1`, runID).Scan(&found); err != nil {
			return nil, err
		}
		if found > 0 {
			return nil, errLocked
		}
	case lockTimedOut(err) && t.patience > 0:
		return nil, errLocked
	case err == nil && t.patience > 0: // what follows may take longer, such as Options.Enqueue
		_, err := t.exec(t.ctx, `SELECT set_config('lock_timeout', NULL, true)`)
		return q, errors.Join(err, t.store.limit(t.ctx, t.session))
	}
	return q, err
}

// writeOpen is write for a transition of an open run.
func (s *Store) writeOpen(ctx context.Context, doing string, op func(t *tx) error) error {
	if err := ended(ctx); err != nil {
		return err
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	for pauses := 0; ; pauses++ {
		err := s.writePatiently(ctx, pauses > 0, doing, op)
		if !errors.Is(err, errLocked) {
			return err
		}
		select {
		case <-time.After(pauseAfter(pauses)):
		case <-ctx.Done():
			return fmt.Errorf("bunstore: %s: run is locked: %w: %w: %w", doing, webtrigger.ErrUnavailable, webtrigger.ErrNotStored, ctx.Err())
		}
	}
}

// writePatiently is one attempt of writeOpen. It may wait if few others do.
func (s *Store) writePatiently(ctx context.Context, wait bool, doing string, op func(t *tx) error) error {
	patience := time.Duration(0)
	if wait {
		select {
		case s.patient <- struct{}{}:
			defer func() { <-s.patient }()
			patience = lockPatience
		default:
		}
	}
	return s.write(ctx, doing, func(t *tx) error {
		if err := t.hurry(patience); err != nil {
			return err
		}
		return op(t)
	})
}

// stoppedClient is how long a transaction may pause between two statements.
const stoppedClient = 5 * time.Second

const (
	// setIdleLimit sets the limit $1 of pauses for the transaction. If a process stops
	// or is cut off from the server in a transaction, the server then ends the session, so
	// that the locks do not outlast it by hours.
	setIdleLimit = `set_config('idle_in_transaction_session_timeout', $1, true)`

	// setLimits also sets the limit $2 for each wait for a lock, unless the role has a
	// shorter one. A session does not wait for longer than its caller.
	setLimits = setIdleLimit + `, set_config('lock_timeout', CASE WHEN current_setting('lock_timeout')::interval > interval '0'
		AND current_setting('lock_timeout')::interval < CAST($2 AS text)::interval THEN current_setting('lock_timeout') ELSE CAST($2 AS text) END, true)`
)

// idleLimit is the argument of setIdleLimit.
func (s *Store) idleLimit() string {
	limit := stoppedClient
	if s.opts.Enqueue != nil {
		limit += s.opts.EnqueueTimeout // the hook is called in transactions
	}
	return milliseconds(limit)
}

// limits are the arguments of setLimits. The answer to a wait that is too long comes
// before the caller leaves.
func (s *Store) limits(ctx context.Context) (idle, lock string) {
	limit := s.timeout
	if deadline, has := ctx.Deadline(); has {
		limit = time.Until(deadline)
	}
	return s.idleLimit(), milliseconds(limit - min(limit/10, 100*time.Millisecond))
}

// limit begins a transaction whose locks others may need, or that may wait for theirs.
func (s *Store) limit(ctx context.Context, on session) error {
	idle, lock := s.limits(ctx)
	_, err := on.exec(ctx, `SELECT `+setLimits, idle, lock)
	return err
}

// milliseconds is a duration as a setting. 0 would mean no limit.
func milliseconds(d time.Duration) string {
	return strconv.FormatInt(max(d.Milliseconds(), 1), 10) + "ms"
}
