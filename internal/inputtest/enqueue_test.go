package inputtest

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/driver/pgdriver"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// engine is the host's own engine: it has a table of jobs, and executes their runs.
type engine struct {
	*webtrigger.Service
	t      *testing.T
	db     *bun.DB
	fails  atomic.Bool
	failed atomic.Int64 // calls of enqueue
	runner atomic.Int64 // calls
}

func newEngine(t *testing.T, request webtrigger.InputRequest) *engine {
	t.Helper()
	e := &engine{t: t, db: bun.NewDB(sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(schemas.Database(t)))), pgdialect.New())}
	t.Cleanup(func() { _ = e.db.Close() })
	_, err := e.db.ExecContext(t.Context(), `CREATE TABLE jobs (id bigserial PRIMARY KEY, run_id bigint NOT NULL)`)
	require.NoError(t, err)
	store, err := bunstore.New(e.db, &bunstore.Options{Enqueue: e.enqueue})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	require.NoError(t, store.Migrate(t.Context()))
	e.Service = newService(t, store, webtrigger.RunnerFunc(func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		e.runner.Add(1)
		answer, err := webtrigger.AskInput(ctx, task, request)
		return &webtrigger.Result{Text: answer.Text() + string(answer.Decision)}, err
	}), webtrigger.Options{MaxAttempts: 2, Lease: 3 * time.Second})
	t.Cleanup(e.CloseStreams)
	return e
}

func (e *engine) enqueue(ctx context.Context, tx bun.Tx, runs []bunstore.RunRef) error {
	for _, run := range runs {
		if _, err := tx.ExecContext(ctx, `INSERT INTO jobs (run_id) VALUES (?)`, run.RunID); err != nil {
			return err
		}
	}
	if e.fails.Load() {
		e.failed.Add(1)
		return errors.New("the engine is full")
	}
	return nil
}

// work executes all jobs and returns the ids of their runs.
func (e *engine) work() (runs []int64) {
	e.t.Helper()
	require.NoError(e.t, e.db.NewRaw(`DELETE FROM jobs RETURNING run_id`).Scan(e.t.Context(), &runs))
	for _, id := range runs {
		require.NoError(e.t, e.Execute(e.t.Context(), id))
	}
	return runs
}

func (e *engine) status(runID int64) webtrigger.RunStatus {
	e.t.Helper()
	run, err := e.RunByID(e.t.Context(), runID)
	require.NoError(e.t, err)
	return run.Status
}

// An answer gives the run to the host's engine again, in the transaction that stores the
// answer. If the engine rejects the run, no answer is stored, and it may be repeated.
func TestEnqueue_answer_enqueuesTheRunAgain(t *testing.T) {
	t.Parallel()
	e := newEngine(t, webtrigger.InputRequest{Question: "Which?"})
	id := trigger(t, e.Service)
	require.Equal(t, []int64{id}, e.work())
	input := open(t, e.Service, id)
	require.Empty(t, e.work(), "no job waits with the run")
	require.ErrorIs(t, e.Execute(t.Context(), id), webtrigger.ErrNotReady)

	e.fails.Store(true)
	_, err := e.AnswerInput(t.Context(), id, input.ID, text("main"))
	require.ErrorIs(t, err, webtrigger.ErrNotStored)
	require.ErrorIs(t, err, webtrigger.ErrUnavailable)
	require.Equal(t, webtrigger.RunWaiting, e.status(id))
	require.Nil(t, open(t, e.Service, id).Answer)
	require.Empty(t, e.work())

	e.fails.Store(false)
	_, err = e.AnswerInput(t.Context(), id, input.ID, text("reserve"))
	require.NoError(t, err, "no answer came first")
	_, err = e.AnswerInput(t.Context(), id, input.ID, text("reserve"))
	require.NoError(t, err)
	require.Equal(t, []int64{id}, e.work(), "one job for the answer, none for its repetition")
	run, err := e.RunByID(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, "reserve", run.Result)
	require.Equal(t, 1, run.Attempts)
	require.EqualValues(t, 2, e.runner.Load())
}

// An approval that expires as denied gives the run to the host's engine too. If the engine
// rejects it, the run waits until a later sweep.
func TestEnqueue_approvalExpiredAsDenied_enqueuesTheRunAgain(t *testing.T) {
	t.Parallel()
	e := newEngine(t, webtrigger.InputRequest{Tool: "refund", Arguments: []byte(`{}`), ExpiresIn: time.Second, DenyOnExpiry: true})
	id := trigger(t, e.Service)
	require.Equal(t, []int64{id}, e.work())
	past(t, open(t, e.Service, id))
	e.fails.Store(true)
	stop := working(t, e.Service) // it sweeps, and executes nothing
	defer stop()
	eventually(t, func() bool { return e.failed.Load() > 0 })
	require.Equal(t, webtrigger.RunWaiting, e.status(id))
	e.fails.Store(false)
	eventually(t, func() bool { return e.status(id) == webtrigger.RunQueued })
	require.Equal(t, []int64{id}, e.work())
	run, err := e.RunByID(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, "deny", run.Result)
}
