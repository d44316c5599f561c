package lanetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/internal/replicas"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		pgtest.StopShared()
		os.Exit(code)
	}))
}

// lanes checks from the side of the Runners that the runs of a conversation execute one
// at a time, in creation order.
type lanes struct {
	mu     sync.Mutex
	active map[int64]int64 // conversation → run
	last   map[int64]int64 // conversation → run
	calls  int
	faults []string
}

func (l *lanes) begin(run *webtrigger.Run) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	if other := l.active[run.ConversationID]; other != 0 {
		l.faults = append(l.faults, fmt.Sprintf("run %d executes beside run %d", run.ID, other))
	}
	if last := l.last[run.ConversationID]; last > run.ID {
		l.faults = append(l.faults, fmt.Sprintf("run %d executes after run %d", run.ID, last))
	}
	l.active[run.ConversationID], l.last[run.ConversationID] = run.ID, run.ID
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.active, run.ConversationID)
	}
}

func start(t *testing.T, dsn string, run func(ctx context.Context, task *webtrigger.Task, dead <-chan struct{}) error) *replicas.Replica {
	t.Helper()
	return replicas.Start(t, replicas.Config{DSN: dsn, Run: func(ctx context.Context, task *webtrigger.Task, dead <-chan struct{}) (*webtrigger.Result, error) {
		if err := run(ctx, task, dead); err != nil {
			return nil, err
		}
		return &webtrigger.Result{Text: "done"}, nil
	}})
}

// caller sends triggers until they are stored. A machine that is too slow for all callers
// at once leaves some outcomes unknown: the repetition then may store another run.
type caller struct{ unknown atomic.Int64 }

func (c *caller) trigger(t *testing.T, r *replicas.Replica, req webtrigger.TriggerRequest) webtrigger.Run {
	for {
		run, err := r.Trigger(context.Background(), "1", req)
		switch {
		case err == nil:
			return run
		case errors.Is(err, webtrigger.ErrQueueFull), errors.Is(err, webtrigger.ErrNotStored):
		case errors.Is(err, context.DeadlineExceeded):
			c.unknown.Add(1)
		default:
			t.Errorf("trigger: %v", err)
			return run
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// stored asserts that n triggers, and at most those with an unknown outcome besides, have
// a run each, and returns the runs.
func (c *caller) stored(t *testing.T, r *replicas.Replica, n int) []webtrigger.Run {
	t.Helper()
	most := n + int(c.unknown.Load())
	runs, err := r.Store.Runs(t.Context(), webtrigger.RunQuery{Page: webtrigger.Page{Limit: most + 1}})
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(runs), n)
	require.LessOrEqual(t, len(runs), most)
	return runs
}

// idle waits until no run is open.
func idle(t *testing.T, r *replicas.Replica) {
	t.Helper()
	require.Eventually(t, func() bool {
		state, err := r.QueueState(t.Context())
		require.NoError(t, err)
		return state.Queued+state.Running == 0
	}, 10*time.Minute, 50*time.Millisecond)
}

// Triggers with one key, over three replicas, start one conversation. Its runs execute
// one at a time and in creation order, also while replicas are killed and their runs are
// swept. make lanes-long has 10,000 runs.
func TestLane_replicasKilled_runsOneAtATimeInOrder(t *testing.T) {
	t.Parallel()
	runs := replicas.Number(t, "WEBTRIGGER_LANE_RUNS", 90)
	keys := max(1, runs/1000) // 1,000 first triggers of each key at once
	l := &lanes{active: make(map[int64]int64), last: make(map[int64]int64)}
	work := func(ctx context.Context, task *webtrigger.Task, dead <-chan struct{}) error {
		defer l.begin(&task.Run)()
		select {
		case <-time.After(rand.N(3 * time.Millisecond)):
			return nil
		case <-dead:
			return errors.New("killed")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	dsn := schemas.Database(t)
	all := []*replicas.Replica{start(t, dsn, work), start(t, dsn, work), start(t, dsn, work)}
	var c caller
	for key := range keys {
		conversations := make([]int64, runs/keys)
		var callers sync.WaitGroup
		for i := range conversations {
			callers.Go(func() {
				conversations[i] = c.trigger(t, all[i%3], webtrigger.TriggerRequest{Message: "go", ConversationKey: fmt.Sprint("key ", key)}).ConversationID
			})
		}
		callers.Wait()
		for _, id := range conversations {
			require.Equal(t, conversations[0], id, "one key, one conversation")
		}
		<-all[0].Kill()
		all = append(all[1:], start(t, dsn, work))
	}
	idle(t, all[0])
	l.mu.Lock()
	defer l.mu.Unlock()
	require.Empty(t, l.faults)
	require.GreaterOrEqual(t, l.calls, runs)
	ended := c.stored(t, all[0], runs)
	t.Logf("%d runs of %d conversations, %d calls of Runners, %d kills, %d unknown outcomes", len(ended), keys, l.calls, keys, c.unknown.Load())
	for _, run := range ended {
		require.Equal(t, webtrigger.RunCompleted, run.Status, "run %d: %s", run.ID, run.ErrorMessage)
	}
}

// Of triggers that race to interrupt one conversation, each loser ends once, with its
// callback. 100 race in make lanes-long.
func TestInterrupt_racingOverReplicas_endsEachLoserOnce(t *testing.T) {
	t.Parallel()
	n := replicas.Number(t, "WEBTRIGGER_LANE_INTERRUPTS", 30)
	hang := func(ctx context.Context, _ *webtrigger.Task, dead <-chan struct{}) error {
		select {
		case <-dead:
		case <-ctx.Done():
		}
		return context.Cause(ctx)
	}
	dsn := schemas.Database(t)
	all := []*replicas.Replica{start(t, dsn, hang), start(t, dsn, hang), start(t, dsn, hang)}
	var c caller
	var callers sync.WaitGroup
	for i := range n {
		callers.Go(func() {
			c.trigger(t, all[i%3], webtrigger.TriggerRequest{
				Message: "go", ConversationKey: "k", OnBusy: webtrigger.BusyInterrupt, CallbackURL: "https://127.0.0.1:1025/hook"})
		})
	}
	callers.Wait()
	runs := c.stored(t, all[0], n)
	byHand := make(map[int64]bool)
	require.Eventually(t, func() bool { // a trigger with an unknown outcome may be stored late
		runs = c.stored(t, all[0], n)
		byHand[runs[0].ID] = true
		_, err := all[0].CancelRun(t.Context(), runs[0].ID, "")
		require.NoError(t, err)
		state, err := all[0].QueueState(t.Context())
		require.NoError(t, err)
		return state.Queued+state.Running == 0
	}, 10*time.Minute, 50*time.Millisecond)
	t.Logf("%d runs, %d unknown outcomes", len(runs), c.unknown.Load())
	for _, run := range runs {
		run, err := all[0].RunByID(t.Context(), run.ID)
		require.NoError(t, err)
		require.Equal(t, webtrigger.RunCancelled, run.Status)
		require.Equal(t, !byHand[run.ID], strings.HasPrefix(run.StatusDetail, "superseded by run "), run.StatusDetail)
		page, err := all[0].Store.Events(t.Context(), webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID, Limit: 100})
		require.NoError(t, err)
		terminal := 0
		for _, e := range page.Events {
			if e.Type.Terminal() {
				terminal++
			}
		}
		require.Equal(t, 1, terminal)
		deliveries, err := all[0].Store.Deliveries(t.Context(), run.ID)
		require.NoError(t, err)
		require.Len(t, deliveries, 1)
	}
}
