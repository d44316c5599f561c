package bunstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// service is a service on a store with the channel of assistant 1 open.
func service(t *testing.T, s webtrigger.Store) *webtrigger.Service {
	t.Helper()
	svc, err := webtrigger.New(s, webtrigger.RunnerFunc(
		func(_ context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
			return &webtrigger.Result{Text: "echo: " + task.Prompt}, nil
		}), &webtrigger.Options{BaseURL: "https://app.example.com"})
	require.NoError(t, err)
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true, AllowCallbackURLs: true}))
	return svc
}

// executed executes a run. At the end of the test, the process leaves the store.
func executed(t *testing.T, svc *webtrigger.Service, runID int64) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		require.NoError(t, svc.Work(ctx))
	})
	require.NoError(t, svc.Execute(t.Context(), runID))
}

// via triggers inside a transaction.
func via(t *testing.T, svc *webtrigger.Service, s *bunstore.Store, tx bun.Tx) (webtrigger.Run, error) {
	t.Helper()
	return svc.TriggerVia(t.Context(), s.Tx(tx), "1", webtrigger.TriggerRequest{Message: "m"})
}

// keyed is a trigger with an idempotency key; body stands for the request's.
func keyed(key string, body byte) webtrigger.NewTrigger {
	trigger := newTrigger()
	trigger.Idempotency = &webtrigger.Idempotency{Key: key, BodyHash: [32]byte{body}, TTL: time.Hour}
	return trigger
}

// hints watches a store.
func hints(t *testing.T, s *bunstore.Store) <-chan webtrigger.Hint {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	heard, done := make(chan webtrigger.Hint, 10_000), make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Watch(ctx, func(h webtrigger.Hint) { heard <- h })
	}()
	t.Cleanup(func() { cancel(); <-done })
	return heard
}

func TestHostTransaction(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		ctx, db := t.Context(), open()
		s := migrated(t, db, nil)
		svc := service(t, s)
		_, err := db.ExecContext(ctx, `CREATE TABLE orders (id integer PRIMARY KEY)`)
		require.NoError(t, err)
		p := registered(t, s, time.Hour)
		orders := func() (n int) {
			require.NoError(t, db.QueryRowContext(ctx, `SELECT count(*) FROM orders`).Scan(&n))
			return n
		}

		t.Run("a rollback leaves nothing", func(t *testing.T) {
			tx, err := db.BeginTx(ctx, nil)
			require.NoError(t, err)
			_, err = tx.ExecContext(ctx, `INSERT INTO orders VALUES (1)`)
			require.NoError(t, err)
			run, err := via(t, svc, s, tx)
			require.NoError(t, err)
			require.Equal(t, webtrigger.RunQueued, run.Status)
			_, err = s.Tx(tx).CreateTrigger(ctx, keyed("k1", 1))
			require.NoError(t, err)
			require.NoError(t, tx.Rollback())
			require.Zero(t, orders())
			_, err = s.RunByID(ctx, run.ID)
			require.ErrorIs(t, err, webtrigger.ErrNotFound)
			_, err = s.Conversation(ctx, run.ConversationID)
			require.ErrorIs(t, err, webtrigger.ErrNotFound)
			require.Empty(t, claimedBy(t, s, p, 10, 0))
		})

		t.Run("a commit keeps both, queued and executable", func(t *testing.T) {
			tx, err := db.BeginTx(ctx, nil)
			require.NoError(t, err)
			_, err = tx.ExecContext(ctx, `INSERT INTO orders VALUES (1)`)
			require.NoError(t, err)
			taking := keyed("k1", 1) // the rollback has released the key
			taking.Claim = &webtrigger.Claimant{ProcessID: p.ID, Token: 1}
			first, err := s.Tx(tx).CreateTrigger(ctx, taking)
			require.NoError(t, err)
			require.False(t, first.Replayed)
			require.Nil(t, first.Lease, "a run that is not committed must not be claimed")
			run := first.Run
			again, err := s.Tx(tx).CreateTrigger(ctx, keyed("k1", 1)) // the same transaction sees its own
			require.NoError(t, err)
			require.True(t, again.Replayed)
			require.Equal(t, run.ID, again.Run.ID)
			require.NoError(t, tx.Commit())
			require.Equal(t, 1, orders())
			again, err = s.CreateTrigger(ctx, keyed("k1", 1))
			require.NoError(t, err)
			require.True(t, again.Replayed)
			require.Equal(t, run.ID, again.Run.ID)
			executed(t, svc, run.ID)
			done, err := s.RunByID(ctx, run.ID)
			require.NoError(t, err)
			require.Equal(t, webtrigger.RunCompleted, done.Status)
		})

		t.Run("reused key with another body is rejected; host transaction continues", func(t *testing.T) {
			tx, err := db.BeginTx(ctx, nil)
			require.NoError(t, err)
			_, err = s.Tx(tx).CreateTrigger(ctx, keyed("k1", 2))
			require.ErrorIs(t, err, webtrigger.ErrIdempotencyKeyReused)
			_, err = tx.ExecContext(ctx, `INSERT INTO orders VALUES (2)`)
			require.NoError(t, err)
			require.NoError(t, tx.Commit())
		})
	})
}

// On Postgres the host's commit wakes other processes, its rollback does not.
func TestHostCommitNotifies(t *testing.T) {
	t.Parallel()
	ctx, dsn := t.Context(), schemas.Database(t)
	db := postgresDB(t, dsn)
	s := migrated(t, db, nil)
	svc := service(t, s)
	heard := hints(t, opened(t, postgresDB(t, dsn), nil))
	for h := range within(t, heard) { // it listens: anything may have happened
		require.Empty(t, h.Conversations)
		break
	}

	trigger := func(end func(bun.Tx) error) webtrigger.Run {
		tx, err := db.BeginTx(ctx, nil)
		require.NoError(t, err)
		run, err := via(t, svc, s, tx)
		require.NoError(t, err)
		require.NoError(t, end(tx))
		return run
	}
	rolledBack := trigger(func(tx bun.Tx) error { return tx.Rollback() })
	committed := trigger(func(tx bun.Tx) error { return tx.Commit() })
	for h := range within(t, heard) {
		require.NotContains(t, h.Conversations, rolledBack.ConversationID)
		if len(h.Conversations) > 0 {
			require.Contains(t, h.Conversations, committed.ConversationID)
			require.True(t, h.Queued)
			return
		}
	}
}

// On SQLite the host calls Wake after its commit.
func TestWake_hostTransactionOnSQLite_startsRun(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := sqliteDB(t, "?_txlock=immediate&_pragma=busy_timeout(10000)")
	s := migrated(t, db, nil)
	svc := service(t, s)
	working, stop := context.WithCancel(ctx)
	worked := make(chan error, 1)
	go func() { worked <- svc.Work(working) }()
	tx, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	run, err := via(t, svc, s, tx)
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
	svc.Wake()
	eventually(t, func() bool {
		run, err = s.RunByID(ctx, run.ID)
		return err == nil && run.Status == webtrigger.RunCompleted
	})
	stop()
	require.NoError(t, <-worked)
}

// Inside a transaction of the host, the host handles a locked database. The call returns
// the error at once and does not try again.
func TestHostIsBusy(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	file := memoryDir(t) + "/test.db"
	db := sqliteOpen(t, file) // does not wait for locks
	s := migrated(t, db, nil)
	svc := service(t, s)
	unlock := lockSQLite(t, sqliteOpen(t, file))
	tx, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	_, err = via(t, svc, s, tx)
	require.ErrorContains(t, err, "database is locked")
	require.ErrorIs(t, err, webtrigger.ErrUnavailable)
	require.NoError(t, tx.Rollback())
	unlock()
	tx, err = db.BeginTx(ctx, nil)
	require.NoError(t, err)
	_, err = via(t, svc, s, tx)
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
}

// Another engine gets each queued run inside the accepting transaction; if it
// returns an error, no trigger is stored.
func TestEnqueue(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := postgresDB(t, schemas.Database(t))
	refusal := errors.New("the engine is full")
	reject := false
	s := migrated(t, db, &bunstore.Options{Enqueue: func(ctx context.Context, tx bun.Tx, runs []bunstore.RunRef) error {
		for _, run := range runs {
			if _, err := tx.ExecContext(ctx, `INSERT INTO jobs VALUES (?, ?, ?)`, run.RunID, run.RunKey, run.AssistantID); err != nil {
				return err
			}
		}
		if reject {
			return refusal
		}
		return nil
	}})
	svc := service(t, s)
	_, err := db.ExecContext(ctx, `CREATE TABLE jobs (run_id bigint PRIMARY KEY, run_key text, assistant text)`)
	require.NoError(t, err)
	count := func(text string) (n int) {
		require.NoError(t, db.QueryRowContext(ctx, text).Scan(&n))
		return n
	}

	run, err := svc.Trigger(ctx, "1", webtrigger.TriggerRequest{Message: "m"})
	require.NoError(t, err)
	var key, assistant string
	require.NoError(t, db.QueryRowContext(ctx, `SELECT run_key, assistant FROM jobs WHERE run_id = ?`, run.ID).Scan(&key, &assistant))
	require.Equal(t, []string{run.Key, "1"}, []string{key, assistant})
	require.Empty(t, claimedBy(t, s, registered(t, s, time.Minute), 10, 0), "claimed natively")
	executed(t, svc, run.ID)
	run, err = s.RunByID(ctx, run.ID)
	require.NoError(t, err)
	require.Equal(t, webtrigger.RunCompleted, run.Status)

	reject = true
	_, err = s.CreateTrigger(ctx, keyed("k", 1))
	require.ErrorIs(t, err, refusal)
	require.Equal(t, 1, count(`SELECT count(*) FROM jobs`))
	require.Equal(t, 1, count(`SELECT count(*) FROM webtrigger_runs`))

	reject = false
	tx, err := db.BeginTx(ctx, nil) // the host's own, after the error used no idempotency key
	require.NoError(t, err)
	_, err = s.Tx(tx).CreateTrigger(ctx, keyed("k", 1))
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
	require.Equal(t, 2, count(`SELECT count(*) FROM jobs`))
	require.Equal(t, 2, count(`SELECT count(*) FROM webtrigger_runs`))
}
