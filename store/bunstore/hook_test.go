package bunstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/logtest"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// engine is another engine: its hook fails for one assistant, or for runs of some keys.
type engine struct {
	t    *testing.T
	fail func(ctx context.Context, tx bun.Tx) error // for the assistant "bad" and the bad keys

	mu    sync.Mutex
	bad   map[string]bool // run keys
	calls [][]bunstore.RunRef
	gate  chan struct{} // if not nil, calls of the assistant "1" wait for it
}

var errEngine = errors.New("engine: no queue for this assistant")

func (e *engine) enqueue(ctx context.Context, tx bun.Tx, runs []bunstore.RunRef) error {
	e.mu.Lock()
	e.calls = append(e.calls, runs)
	gate, bad := e.gate, false
	for _, run := range runs {
		bad = bad || run.AssistantID == "bad" || e.bad[run.RunKey]
		if run.AssistantID != runs[0].AssistantID {
			e.t.Errorf("runs of %s and %s together", runs[0].AssistantID, run.AssistantID)
		}
	}
	e.mu.Unlock()
	if gate != nil && runs[0].AssistantID == "1" {
		<-gate
	}
	if bad {
		return e.fail(ctx, tx)
	}
	return nil
}

// seen is how many calls the hook has had.
func (e *engine) seen() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.calls)
}

// withEngine is a store whose runs another engine gets.
func withEngine(t *testing.T, e *engine, opts bunstore.Options) (*bunstore.Store, *bun.DB) {
	t.Helper()
	e.t, e.bad = t, make(map[string]bool)
	opts.Enqueue = e.enqueue
	db := postgresDB(t, schemas.Database(t))
	return migrated(t, db, &opts), db
}

func triggerOf(assistantID string) webtrigger.NewTrigger {
	trigger := newTrigger()
	trigger.AssistantID, trigger.RunKey = assistantID, uuid.NewString()
	return trigger
}

func requireNotStored(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, webtrigger.ErrUnavailable)
	require.ErrorIs(t, err, webtrigger.ErrNotStored)
}

// An assistant that the engine rejects fails no other one.
func TestEnqueue_rejectedAssistant_othersAreStored(t *testing.T) {
	t.Parallel()
	s, db := withEngine(t, &engine{fail: func(context.Context, bun.Tx) error { return errEngine }}, bunstore.Options{})
	ctx, stop := t.Context(), make(chan struct{})
	var bad, good sync.WaitGroup
	for range 4 {
		bad.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, err := s.CreateTrigger(ctx, triggerOf("bad"))
				if !errors.Is(err, errEngine) || !errors.Is(err, webtrigger.ErrNotStored) {
					t.Errorf("rejected: %v", err)
					return
				}
			}
		})
	}
	const callers, each = 8, 5
	var failed atomic.Int32
	for range callers {
		good.Go(func() {
			for range each {
				if _, err := s.CreateTrigger(ctx, triggerOf("good")); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	good.Wait()
	close(stop)
	bad.Wait()
	require.Zero(t, failed.Load())
	require.Equal(t, callers*each, count(t, db, `SELECT count(*) FROM webtrigger_runs`))
}

// The neighbours of a trigger in its batch are stored, whether the engine rejects it or
// hangs.
func TestEnqueue_oneTriggerFails_neighboursAreStored(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(ctx context.Context, tx bun.Tx) error{
		"rejected": func(context.Context, bun.Tx) error { return errEngine },
		"violates": func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.ExecContext(ctx, `SELECT 1/0`)
			return err
		},
		"hangs":  func(ctx context.Context, _ bun.Tx) error { <-ctx.Done(); return ctx.Err() },
		"panics": func(context.Context, bun.Tx) error { panic("engine") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := &engine{fail: fail, gate: make(chan struct{})}
			s, db := withEngine(t, e, bunstore.Options{EnqueueTimeout: 300 * time.Millisecond})
			first := make(chan error, 1)
			go func() { _, err := s.CreateTrigger(t.Context(), triggerOf("1")); first <- err }()
			eventually(t, func() bool { return e.seen() == 1 })
			const n = 5
			errs := make([]error, n)
			var done sync.WaitGroup
			for i := range errs {
				trigger := triggerOf("1")
				e.mu.Lock()
				e.bad[trigger.RunKey] = i == 2
				e.mu.Unlock()
				done.Go(func() { _, errs[i] = s.CreateTrigger(t.Context(), trigger) })
			}
			eventually(t, func() bool { return s.AcceptsWaiting() == n })
			e.mu.Lock()
			close(e.gate)
			e.gate = nil
			e.mu.Unlock()
			done.Wait()
			require.NoError(t, <-first)
			for i, err := range errs {
				if i == 2 {
					requireNotStored(t, err)
				} else {
					require.NoError(t, err)
				}
			}
			require.Equal(t, n, count(t, db, `SELECT count(*) FROM webtrigger_runs`))
		})
	}
}

// A hook that hangs for one assistant delays no other one, and ends by its deadline. Its
// connection returns to the pool, also if the hook ignores its context.
func TestEnqueue_hangsForAssistant_othersAreStored(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	for name, fail := range map[string]func(ctx context.Context, tx bun.Tx) error{
		"until its context ends":  func(ctx context.Context, _ bun.Tx) error { <-ctx.Done(); return nil },
		"forever":                 func(context.Context, bun.Tx) error { <-release; return nil },
		"in a statement":          func(ctx context.Context, tx bun.Tx) error { return sleep(ctx, tx) },
		"in a statement, forever": func(_ context.Context, tx bun.Tx) error { return sleep(context.Background(), tx) },
		"with an end of its goroutine": func(ctx context.Context, _ bun.Tx) error {
			runtime.Goexit()
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log logtest.Buffer
			var calls atomic.Int32
			s, db := withEngine(t, &engine{fail: func(ctx context.Context, tx bun.Tx) error { calls.Add(1); return fail(ctx, tx) }},
				bunstore.Options{EnqueueTimeout: time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			bad := make(chan error, 1)
			go func() { _, err := s.CreateTrigger(t.Context(), triggerOf("bad")); bad <- err }()
			for range 5 {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				_, err := s.CreateTrigger(ctx, triggerOf("good"))
				cancel()
				require.NoError(t, err)
			}
			err := <-bad
			require.EqualValues(t, 1, calls.Load(), "the hook was called again, while its statement was in progress")
			if name == "until its context ends" { // a hook may be done although its time is over
				require.NoError(t, err)
			} else {
				requireNotStored(t, err)
				require.Equal(t, 5, count(t, db, `SELECT count(*) FROM webtrigger_runs`))
			}
			eventually(t, func() bool { return db.Stats().InUse == 0 })
			require.Equal(t, strings.HasSuffix(name, "forever"), strings.Contains(log.String(), "ignores its context"))
		})
	}
	t.Cleanup(func() { close(release) })
}

func sleep(ctx context.Context, tx bun.Tx) error {
	_, err := tx.ExecContext(ctx, `SELECT pg_sleep(2)`)
	return err
}

// An assistant has at most two calls that have not returned. Until one has, its triggers
// fail at once.
func TestEnqueue_ignoresContextTwice_failsAtOnce(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	e := &engine{fail: func(context.Context, bun.Tx) error { <-release; return nil }}
	s, _ := withEngine(t, e, bunstore.Options{EnqueueTimeout: 50 * time.Millisecond})
	for range 4 {
		_, err := s.CreateTrigger(t.Context(), triggerOf("bad"))
		requireNotStored(t, err)
	}
	require.Equal(t, 2, e.seen())
	close(release)
	eventually(t, func() bool {
		_, err := s.CreateTrigger(t.Context(), triggerOf("bad"))
		return err == nil
	})
}

// In the host's own transaction, the hook has the same deadline, and the host gets the
// error.
func TestEnqueue_failsInHostTransaction_hostRollsBack(t *testing.T) {
	t.Parallel()
	e := &engine{fail: func(ctx context.Context, _ bun.Tx) error { <-ctx.Done(); return errEngine }}
	s, db := withEngine(t, e, bunstore.Options{EnqueueTimeout: 50 * time.Millisecond})
	host, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = s.Tx(host).CreateTrigger(t.Context(), triggerOf("bad"))
	require.ErrorIs(t, err, errEngine)
	require.NoError(t, host.Rollback())
	require.Zero(t, count(t, db, `SELECT count(*) FROM webtrigger_runs`))
}

// If the host commits although the hook has failed, its own data is stored, and no run that
// no engine has.
func TestEnqueue_failsInHostTransaction_hostCommitsTheRest(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(ctx context.Context, tx bun.Tx) error{
		"rejected": func(context.Context, bun.Tx) error { return errEngine },
		"violates": func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.ExecContext(ctx, `SELECT 1/0`)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			s, db := withEngine(t, &engine{fail: fail}, bunstore.Options{})
			host, err := db.BeginTx(ctx, nil)
			require.NoError(t, err)
			good, err := s.Tx(host).CreateTrigger(ctx, triggerOf("good"))
			require.NoError(t, err)
			_, err = s.Tx(host).CreateTrigger(ctx, triggerOf("bad"))
			requireNotStored(t, err)
			require.NoError(t, host.Commit())
			runs, err := s.Runs(ctx, webtrigger.RunQuery{Page: webtrigger.Page{Limit: 10}})
			require.NoError(t, err)
			require.Len(t, runs, 1)
			require.Equal(t, good.Run.ID, runs[0].ID)
		})
	}
}

// An error of the hook is not taken for a decision of the store.
func TestEnqueue_returnsErrorOfTheStore_isUnavailable(t *testing.T) {
	t.Parallel()
	e := &engine{fail: func(context.Context, bun.Tx) error { return fmt.Errorf("engine: %w", webtrigger.ErrNotFound) }}
	s, _ := withEngine(t, e, bunstore.Options{})
	_, err := s.CreateTrigger(t.Context(), triggerOf("bad"))
	requireNotStored(t, err)
	require.NotErrorIs(t, err, webtrigger.ErrNotFound)
}

// Runs that the engine rejects, however many, and an assistant for which it hangs do not
// keep a sweep from the runs of others.
func TestSweepRuns_enqueueFails_othersAreSwept(t *testing.T) {
	t.Parallel()
	var reject, hang atomic.Bool
	e := &engine{fail: func(ctx context.Context, _ bun.Tx) error {
		if hang.Load() {
			<-ctx.Done()
		}
		if reject.Load() {
			return errEngine
		}
		return nil
	}}
	s, _ := withEngine(t, e, bunstore.Options{EnqueueTimeout: 300 * time.Millisecond})
	ctx, sweeper := t.Context(), registered(t, s, time.Hour)
	lost := webtrigger.Process{ID: "lost", Lease: 10 * time.Millisecond, MaxAttempts: 2}
	require.NoError(t, s.RegisterProcess(ctx, lost))
	lose := func(assistantID string) {
		created, err := s.CreateTrigger(ctx, triggerOf(assistantID))
		require.NoError(t, err)
		require.Len(t, claimedBy(t, s, lost, 1, created.Run.ID), 1)
	}
	for range 12 { // more than the failures in a row after which a sweep ends
		lose("bad")
	}
	lose("good")
	time.Sleep(20 * time.Millisecond)
	reject.Store(true)
	swept, err := s.SweepRuns(ctx, webtrigger.Sweep{ProcessID: sweeper.ID, Limit: 5})
	require.ErrorIs(t, err, errEngine)
	require.Len(t, swept, 1)

	require.NoError(t, s.RegisterProcess(ctx, webtrigger.Process{ID: "lost2", Lease: 10 * time.Millisecond, MaxAttempts: 2}))
	lost.ID = "lost2"
	lose("good")
	time.Sleep(20 * time.Millisecond)
	hang.Store(true)
	start := time.Now()
	swept, err = s.SweepRuns(ctx, webtrigger.Sweep{ProcessID: sweeper.ID, Limit: 5})
	require.ErrorIs(t, err, errEngine)
	require.Len(t, swept, 1)
	require.Less(t, time.Since(start), 3*time.Second, "each run of the assistant hung")
	before := e.seen()
	swept, err = s.SweepRuns(ctx, webtrigger.Sweep{ProcessID: sweeper.ID, Limit: 5})
	require.Error(t, err)
	require.Empty(t, swept)
	require.Equal(t, before+1, e.seen())
}
