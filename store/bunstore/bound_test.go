package bunstore_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// boundedTrigger is a trigger whose run waits beside fewer than max others.
func boundedTrigger(assistantID string, max int) webtrigger.NewTrigger {
	t := newTrigger()
	t.AssistantID, t.MaxQueued = assistantID, max
	return t
}

// Replicas that accept at once do not pass the bound together, also where the
// database begins transactions in an isolation that sees the past.
func TestBoundAcrossReplicas(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	for _, isolation := range []string{"read committed", "repeatable read"} {
		t.Run(isolation, func(t *testing.T) {
			t.Parallel()
			name := schemas.Name(t)
			_, err := server.Psql(name, `ALTER DATABASE "`+name+`" SET default_transaction_isolation = '`+isolation+`'`)
			require.NoError(t, err)
			replicas := make([]*bunstore.Store, 4)
			for i := range replicas {
				replicas[i] = migrated(t, postgresDB(t, server.DSN(name)), nil)
			}
			for round := range 10 {
				errs := make([]error, 3*len(replicas))
				var done sync.WaitGroup
				for i := range errs {
					done.Go(func() {
						_, errs[i] = replicas[i%len(replicas)].CreateTrigger(t.Context(), boundedTrigger(strconv.Itoa(round), 2))
					})
				}
				done.Wait()
				accepted := 0
				for _, err := range errs {
					if err == nil {
						accepted++
					} else {
						require.ErrorIs(t, err, webtrigger.ErrQueueFull)
					}
				}
				require.Equal(t, 2, accepted)
			}
		})
	}
}

// A transaction of the host keeps the bound against what it sees, and no call
// waits for its end.
func TestBoundInTheHostsTransaction(t *testing.T) {
	t.Parallel()
	db := postgresDB(t, schemas.Database(t))
	s, ctx := migrated(t, db, nil), t.Context()
	host, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	defer host.Rollback()
	_, err = s.Tx(host).CreateTrigger(ctx, boundedTrigger("1", 1))
	require.NoError(t, err)
	_, err = s.Tx(host).CreateTrigger(ctx, boundedTrigger("1", 1))
	require.ErrorIs(t, err, webtrigger.ErrQueueFull)
	_, err = s.CreateTrigger(ctx, boundedTrigger("1", 1))
	require.NoError(t, err, "what is not committed is overlooked")
	require.NoError(t, host.Commit())
	_, err = s.CreateTrigger(ctx, boundedTrigger("1", 2))
	require.ErrorIs(t, err, webtrigger.ErrQueueFull)
}

// A trigger that waits for a host's transaction, by its key or its conversation, does
// not have the lock of its bound meanwhile: others of its assistant are stored.
func TestBound_triggerWaitsForHost_othersContinue(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	run := storeTrigger(t, s)
	waiting := map[string]func(trigger *webtrigger.NewTrigger){
		"key":          func(trigger *webtrigger.NewTrigger) { trigger.Idempotency = keyed("k", 1).Idempotency },
		"conversation": func(trigger *webtrigger.NewTrigger) { trigger.ConversationID = run.ConversationID },
	}
	for name, change := range waiting {
		host, err := db.BeginTx(ctx, nil)
		require.NoError(t, err)
		inHost := newTrigger()
		change(&inHost)
		_, err = s.Tx(host).CreateTrigger(ctx, inHost)
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() {
			trigger := boundedTrigger("1", 100)
			change(&trigger)
			accepted, err := s.CreateTrigger(ctx, trigger)
			if err == nil && accepted.Replayed {
				err = errors.New("replayed what was rolled back")
			}
			done <- err
		}()
		if inHost.ConversationID == 0 {
			awaitBlocked(t, db, 1)
		} else {
			eventually(t, func() bool { return s.LanesPaused() > 0 })
		}
		short, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err = s.CreateTrigger(short, boundedTrigger("1", 100))
		cancel()
		require.NoError(t, host.Rollback())
		require.NoError(t, err, name)
		require.NoError(t, <-done, name)
	}
}

// Runs that go to another engine wait in its queue, within the same bound, and a
// rejected one is not passed on.
func TestBoundWithAnotherEngine(t *testing.T) {
	t.Parallel()
	var handed []int64
	ctx := t.Context()
	s := migrated(t, postgresDB(t, schemas.Database(t)), &bunstore.Options{
		Enqueue: func(_ context.Context, _ bun.Tx, runs []bunstore.RunRef) error {
			for _, run := range runs {
				handed = append(handed, run.RunID)
			}
			return nil
		}})
	run, err := s.CreateTrigger(ctx, boundedTrigger("1", 1))
	require.NoError(t, err)
	_, err = s.CreateTrigger(ctx, boundedTrigger("1", 1))
	require.ErrorIs(t, err, webtrigger.ErrQueueFull)
	require.Equal(t, []int64{run.Run.ID}, handed)
}

// A failure in the transaction of a bound stores nothing and leaves no connection in the
// transaction. A statement that the server rejects is rolled back and fails alone. After
// a deadline, the connection is closed.
func TestBoundedAcceptFails(t *testing.T) {
	t.Parallel()
	dsn := schemas.Database(t)
	db, other := postgresDB(t, dsn), postgresDB(t, dsn)
	s, ctx := migrated(t, db, nil), t.Context()
	db.SetMaxOpenConns(1)
	queued := func() int {
		state, err := s.QueueState(ctx)
		require.NoError(t, err)
		return state.Queued
	}

	errs := make([]error, 20)
	var done sync.WaitGroup
	for i := range errs {
		done.Go(func() {
			trigger := boundedTrigger("1", 100)
			if i%5 == 0 {
				trigger.RunKey = "no UUID"
			}
			_, errs[i] = s.CreateTrigger(ctx, trigger)
		})
	}
	done.Wait()
	for i, err := range errs {
		require.Equal(t, i%5 == 0, err != nil, "%d: %v", i, err)
	}
	require.Equal(t, 16, queued())

	s.SetTimeout(300 * time.Millisecond)
	blocker, err := other.BeginTx(ctx, nil)
	require.NoError(t, err)
	_, err = blocker.ExecContext(ctx, `LOCK TABLE webtrigger_runs`)
	require.NoError(t, err)
	_, err = s.CreateTrigger(ctx, boundedTrigger("1", 100))
	require.ErrorIs(t, err, webtrigger.ErrUnavailable)
	require.NoError(t, blocker.Rollback())
	s.SetTimeout(time.Minute)
	_, err = s.CreateTrigger(ctx, boundedTrigger("1", 100))
	require.NoError(t, err)
	eventually(t, func() bool { // the server may need a moment to detect the disconnect
		var open int
		require.NoError(t, other.QueryRowContext(ctx, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL`).Scan(&open))
		return open == 0
	})
	require.Equal(t, 17, queued())
}

// A process that stops while it has the lock of a bound delays the triggers of others
// for seconds only.
func TestBound_stoppedClient_othersContinue(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	stopped, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	trigger := boundedTrigger("1", 5)
	require.NoError(t, s.LockBounds(ctx, stopped, &trigger))
	created(t, s, boundedTrigger("1", 5))
	require.Error(t, stopped.Commit())
}
