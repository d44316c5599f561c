package main

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { pgtest.StopShared(); os.Exit(code) }))
}

// patience is how long a test waits for what takes milliseconds.
const patience = 60 * time.Second

// runner counts how often each run was executed, by its prompt. A run whose
// prompt is "wait" ends with its context.
type runner struct {
	mu      sync.Mutex
	began   map[string]int
	waiting chan struct{}
}

func (r *runner) Run(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
	r.mu.Lock()
	r.began[task.Prompt]++
	r.mu.Unlock()
	if task.Prompt == "wait" {
		close(r.waiting)
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return &webtrigger.Result{Text: "done: " + task.Prompt}, nil
}

func (r *runner) times(prompt string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.began[prompt]
}

func setUp(t *testing.T) (*engine, *runner) {
	t.Helper()
	r := &runner{began: map[string]int{}, waiting: make(chan struct{})}
	e, err := open(t.Context(), pgtest.Database(t), r, &webtrigger.Options{BaseURL: "http://host.example"})
	require.NoError(t, err)
	t.Cleanup(e.close)
	require.NoError(t, e.svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
	return e, r
}

// start starts the engine until the test ends.
func start(t *testing.T, e *engine) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	worked := make(chan error, 1)
	go func() { worked <- e.work(ctx) }()
	t.Cleanup(func() {
		stop()
		assert.NoError(t, <-worked)
	})
}

func trigger(t *testing.T, e *engine, message string) webtrigger.Run {
	t.Helper()
	run, err := e.svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: message})
	require.NoError(t, err)
	return run
}

func await(t *testing.T, e *engine, runID int64) (run webtrigger.Run) {
	t.Helper()
	require.Eventually(t, func() bool {
		var err error
		run, err = e.svc.RunByID(t.Context(), runID)
		return err == nil && run.Status.Terminal()
	}, patience, 10*time.Millisecond)
	return run
}

// count returns the number of rows of a table that match a condition, or all.
func count(t *testing.T, e *engine, from string) (n int) {
	t.Helper()
	require.NoError(t, e.db.QueryRow(`SELECT count(*) FROM `+from).Scan(&n))
	return n
}

func TestRiverExecutesEachRunOnce(t *testing.T) {
	t.Parallel()
	e, r := setUp(t)
	const runs = 30
	prompts := map[int64]string{}
	var mu sync.Mutex
	var accepts sync.WaitGroup
	for i := range runs {
		accepts.Go(func() { // together, so that they share commits
			prompt := string(rune('A'+i%26)) + string(rune('a'+i/26))
			run, err := e.svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: prompt})
			assert.NoError(t, err)
			mu.Lock()
			defer mu.Unlock()
			prompts[run.ID] = prompt
		})
	}
	accepts.Wait()
	require.Len(t, prompts, runs)
	assert.Equal(t, runs, count(t, e, `river_job WHERE state = 'available'`), "a job each, committed with its run")

	native, err := e.store.ClaimRuns(t.Context(), webtrigger.Claim{ProcessID: otherProcess(t, e), Token: webtrigger.NewToken(), Limit: runs})
	require.NoError(t, err)
	assert.Empty(t, native, "what River has is not handed out natively")

	for id := range prompts { // River executes a job at least once
		_, err := e.river.Insert(t.Context(), runJob{RunID: id}, nil)
		require.NoError(t, err)
	}
	start(t, e)
	for id, prompt := range prompts {
		run := await(t, e, id)
		assert.Equal(t, webtrigger.RunCompleted, run.Status)
		assert.Equal(t, "done: "+prompt, run.Result)
		assert.Equal(t, 1, r.times(prompt))
	}
	require.Eventually(t, func() bool { return count(t, e, `river_job WHERE state <> 'completed'`) == 0 }, patience, 50*time.Millisecond)
	for _, prompt := range prompts {
		assert.Equal(t, 1, r.times(prompt), "also after the second job")
	}
}

func TestTriggerInsideTheHostsTransaction(t *testing.T) {
	t.Parallel()
	e, r := setUp(t)
	in := func(message string, end func(*sql.Tx) error) webtrigger.Run {
		tx, err := e.db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		defer tx.Rollback()
		run, err := e.svc.TriggerVia(t.Context(), e.store.Tx(tx), "1", webtrigger.TriggerRequest{Message: message})
		require.NoError(t, err)
		require.NoError(t, end(tx.Tx))
		return run
	}
	never := in("never", (*sql.Tx).Rollback)
	assert.Zero(t, count(t, e, "river_job"), "the job is rolled back with the run")
	_, err := e.svc.RunByID(t.Context(), never.ID)
	require.ErrorIs(t, err, webtrigger.ErrNotFound)

	once := in("once", (*sql.Tx).Commit)
	assert.Equal(t, 1, count(t, e, "river_job"))
	start(t, e)
	assert.Equal(t, webtrigger.RunCompleted, await(t, e, once.ID).Status)
	assert.Equal(t, 1, r.times("once"))
	assert.Zero(t, r.times("never"))
}

func TestNoRunWithoutItsJob(t *testing.T) {
	t.Parallel()
	e, r := setUp(t)
	_, err := e.db.Exec(`ALTER TABLE river_job RENAME TO hidden`)
	require.NoError(t, err)
	_, err = e.svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "rejected"})
	require.Error(t, err)
	assert.Zero(t, count(t, e, "webtrigger_runs"))
	assert.Zero(t, count(t, e, "webtrigger_queue"))
	_, err = e.db.Exec(`ALTER TABLE hidden RENAME TO river_job`)
	require.NoError(t, err)

	run := trigger(t, e, "accepted")
	start(t, e)
	assert.Equal(t, webtrigger.RunCompleted, await(t, e, run.ID).Status)
	assert.Zero(t, r.times("rejected"))
}

func TestCancel(t *testing.T) {
	t.Parallel()
	e, r := setUp(t)
	queued := trigger(t, e, "queued")
	run, err := e.svc.CancelRun(t.Context(), queued.ID, "not needed")
	require.NoError(t, err)
	assert.Equal(t, webtrigger.RunCancelled, run.Status, "before River has seen the job")

	running := trigger(t, e, "wait")
	start(t, e)
	select {
	case <-r.waiting:
	case <-time.After(patience):
		t.Fatal("River does not execute the run")
	}
	_, err = e.svc.CancelRun(t.Context(), running.ID, "enough")
	require.NoError(t, err)
	run = await(t, e, running.ID)
	assert.Equal(t, webtrigger.RunCancelled, run.Status)
	assert.Equal(t, "enough", run.StatusDetail)
	require.Eventually(t, func() bool { return count(t, e, `river_job WHERE state = 'completed'`) == 2 }, patience, 10*time.Millisecond,
		"a run that was cancelled is not a failure of its job")
	assert.Zero(t, r.times("queued"))
	assert.Equal(t, 1, r.times("wait"))
}

// otherProcess registers another process that may claim, and returns its id.
func otherProcess(t *testing.T, e *engine) string {
	p := webtrigger.Process{ID: "another", Lease: time.Minute, MaxAttempts: 1}
	require.NoError(t, e.store.RegisterProcess(t.Context(), p))
	return p.ID
}

func TestJobsOfRunsThatAreNotThere(t *testing.T) {
	t.Parallel()
	e, _ := setUp(t)
	w := &runWorker{svc: e.svc}
	job := &river.Job[runJob]{Args: runJob{RunID: 4711}}
	var cancelled *river.JobCancelError
	require.ErrorAs(t, w.Work(t.Context(), job), &cancelled)
	assert.Greater(t, w.Timeout(job), runTimeout)

	run := trigger(t, e, "held")
	held, err := e.store.ClaimRuns(t.Context(), webtrigger.Claim{ProcessID: otherProcess(t, e), Token: webtrigger.NewToken(), Limit: 1, RunID: run.ID})
	require.NoError(t, err)
	require.Len(t, held, 1)
	var snoozed *river.JobSnoozeError
	require.ErrorAs(t, w.Work(t.Context(), &river.Job[runJob]{Args: runJob{RunID: run.ID}}), &snoozed)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = w.Work(ctx, &river.Job[runJob]{Args: runJob{RunID: run.ID}})
	require.Error(t, err)
	assert.False(t, errors.As(err, &snoozed) && errors.As(err, &cancelled), "tried again by River's own schedule")
}
