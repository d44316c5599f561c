package inputtest

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/replicas"
)

// used is what a process uses while nothing moves.
type used struct{ goroutines, pool, transactions int }

// idle returns the least that a process uses within a while: heartbeats, sweeps and polls
// come and go.
func (s *site) idle(p *process) used {
	s.t.Helper()
	least := used{1 << 30, 1 << 30, 1 << 30}
	for range 60 {
		least.goroutines = min(least.goroutines, runtime.NumGoroutine())
		least.pool = min(least.pool, p.DB.Stats().InUse)
		time.Sleep(10 * time.Millisecond)
	}
	for range 20 {
		var transactions int
		require.NoError(s.t, p.DB.QueryRowContext(s.t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = 'client backend'`).Scan(&transactions))
		least.transactions = min(least.transactions, transactions)
	}
	return least
}

// Runs that wait hold no slot, no goroutine, no connection of the pool, and no transaction.
// make input-long has 1,000 runs.
func TestAskInput_manyWaitOnPostgres_holdNothing(t *testing.T) {
	n := replicas.Number(t, "WEBTRIGGER_INPUT_WAITS", 100) // not parallel: it counts goroutines
	s := newSite(t)
	p := s.start(func(o *webtrigger.Options) { o.Workers = 2 })
	first := s.waits(p)
	before := s.idle(p)
	var callers sync.WaitGroup
	ids := make(chan int64, n)
	for caller := range 8 {
		callers.Go(func() {
			for range (n - 1 + 7 - caller) / 8 {
				run, err := p.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "go", CallbackURL: s.hook})
				if err != nil {
					t.Errorf("trigger: %v", err)
				}
				ids <- run.ID
			}
		})
	}
	callers.Wait()
	close(ids)
	eventually(t, func() bool {
		state, err := p.QueueState(t.Context())
		require.NoError(t, err)
		return state == webtrigger.QueueState{Waiting: n}
	})
	after := s.idle(p)
	t.Logf("%d runs wait; used with 1: %+v, with all: %+v", n, before, after)
	require.LessOrEqual(t, after.goroutines, before.goroutines+2)
	require.Equal(t, before.pool, after.pool)
	require.Zero(t, after.transactions)

	last := int64(0)
	for id := range ids {
		last = max(last, id)
	}
	inputs, err := p.Store.Inputs(t.Context(), last)
	require.NoError(t, err)
	for _, input := range []webtrigger.Input{inputs[0], first} { // there are slots
		require.Equal(t, accepted, s.answer(p, input, "main"))
		require.Equal(t, "main", s.ends(p, input.RunID, 1).Result)
	}
}
