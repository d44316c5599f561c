package bunstore_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// fillQueue stores n queued runs, from the id first on. Each column is an SQL expression of i.
func fillQueue(t *testing.T, server *pgtest.Server, database string, first, n int, assistant, key string) {
	t.Helper()
	_, err := server.Psql(database, fmt.Sprintf(`
		INSERT INTO webtrigger_runs (id, run_key, conversation_id, assistant_id, key_id, base_url, callback_url, callback_host, trace_parent,
				request_id, subject, message, message_id, first_event_id, created_at)
			SELECT i, gen_random_uuid(), i, %[3]s, %[4]s, 'b', '', '', '', '', 's', 'm', 1, 1, now() FROM generate_series(%[1]d, %[2]d) i;
		INSERT INTO webtrigger_queue (run_id, conversation_id, key_id, token, batch, last_sequence, started_sequence, waits_since,
				attempts, state, native, bounded, shared, assistant_id)
			SELECT i, i, %[4]s, 1, 0, 1, 0, now(), 0, 'q', true, false, false, %[3]s FROM generate_series(%[1]d, %[2]d) i;
		SELECT setval('webtrigger_runs_id_seq', %[2]d)`, first, first+n-1, assistant, key))
	require.NoError(t, err)
}

// claimCost is the median time of a claim with one free slot.
func claimCost(t *testing.T, s *bunstore.Store, claim webtrigger.Claim, claims int) time.Duration {
	t.Helper()
	p := registered(t, s, time.Hour)
	times := make([]time.Duration, claims)
	for i := range times {
		claim.ProcessID, claim.Token = p.ID, webtrigger.NewToken()
		began := time.Now()
		runs, err := s.ClaimRuns(t.Context(), claim)
		times[i] = time.Since(began)
		require.NoError(t, err)
		require.NotEmpty(t, runs)
		for _, run := range runs {
			_, err := s.RequeueRun(t.Context(), run.Lease, webtrigger.Requeue{Reason: webtrigger.RequeueShutdown})
			require.NoError(t, err)
		}
	}
	slices.Sort(times)
	return times[claims/2]
}

// A claim costs the same whatever the number of queued runs and assistants. With
// WEBTRIGGER_FAIR_RUNS=1000000 and -v it shows how long it takes out of so many, beside
// 100 queued runs.
func TestClaimRuns_longQueue_costsTheSame(t *testing.T) {
	server := pgtest.Shared(t)
	many, claims := 20_000, 6
	if text := os.Getenv("WEBTRIGGER_FAIR_RUNS"); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		many, claims = n, 500
	}
	var stores []*bunstore.Store
	for _, runs := range []int{100, many} {
		database := schemas.Name(t)
		s := migrated(t, postgresDB(t, server.DSN(database)), nil)
		fillQueue(t, server, database, 1, runs, `'a' || i % 10000`, `i % 10000`)
		_, err := server.Psql(database, `VACUUM ANALYZE`)
		require.NoError(t, err)
		stores = append(stores, s)
	}
	for _, claim := range []webtrigger.Claim{{Limit: 1}, {Limit: 16}, {Limit: 1, MaxPerAssistant: 5}, {Limit: 1, MaxPerAssistant: 5, MaxPerKey: 3}} {
		var few, most []time.Duration
		for range 3 {
			few, most = append(few, claimCost(t, stores[0], claim, claims)), append(most, claimCost(t, stores[1], claim, claims))
		}
		ratio := float64(slices.Min(most)) / float64(slices.Min(few))
		t.Logf("limit %2d, %d per assistant, %d per key: 100 queued %v, %d queued %v, ratio %.2f", claim.Limit, claim.MaxPerAssistant, claim.MaxPerKey,
			slices.Min(few), many, slices.Min(most), ratio)
		require.Less(t, ratio, 20.0, "a claim must not read the whole queue") // 2 is the goal; the machine may be busy
	}
}

// Runs of a locked conversation that are more than a claim's candidates do not hide
// other runs.
func TestClaimRuns_longLockedConversation_hidesItsOwnRuns(t *testing.T) {
	t.Parallel()
	db := postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	lane := storeTrigger(t, s)
	finished(t, s, claimed(t, s, lane.ID).Lease)
	for range 150 {
		joined(t, s, lane.ConversationID)
	}
	_, err := db.ExecContext(t.Context(), `UPDATE webtrigger_queue SET state = 'q'`) // as versions without lanes store them
	require.NoError(t, err)
	free := storeTrigger(t, s)
	release := heldRow(t, db, `SELECT 1 FROM webtrigger_conversations FOR UPDATE`)
	p := registered(t, s, time.Hour)
	runs := claimedBy(t, s, p, 2, 0)
	require.Len(t, runs, 1)
	require.Equal(t, free.ID, runs[0].Run.ID)
	release()
	require.Len(t, claimedBy(t, s, p, 200, 0), 150)
}

// A claim with limits whose client has stopped does not stop the others for long.
func TestClaimRuns_stoppedClientWithLimits_othersContinue(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	storeTrigger(t, s)
	stopped, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	require.NoError(t, s.LockLimits(ctx, stopped))
	p := registered(t, s, time.Hour)
	runs, err := s.ClaimRuns(ctx, webtrigger.Claim{ProcessID: p.ID, Token: webtrigger.NewToken(), Limit: 1, MaxPerAssistant: 1})
	require.NoError(t, err)
	require.Len(t, runs, 1)
	require.Error(t, stopped.Commit())
}

// A named run whose row another transaction has locked does not stop claims with limits.
func TestClaimRuns_lockedNamedRun_limitsAreFree(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	named, other := storeTrigger(t, s), storeTrigger(t, s)
	release := heldRow(t, db, fmt.Sprintf(`SELECT 1 FROM webtrigger_queue WHERE run_id = %d FOR UPDATE`, named.ID))
	p := registered(t, s, time.Hour)
	claim := webtrigger.Claim{ProcessID: p.ID, Token: webtrigger.NewToken(), Limit: 1, MaxPerAssistant: 2, RunID: named.ID}
	one := make(chan []webtrigger.ClaimedRun, 1)
	go func() {
		runs, err := s.ClaimRuns(ctx, claim)
		if err != nil {
			t.Error(err)
		}
		one <- runs
	}()
	awaitBlocked(t, db, 1)
	runs, err := s.ClaimRuns(ctx, webtrigger.Claim{ProcessID: p.ID, Token: webtrigger.NewToken(), Limit: 1, MaxPerAssistant: 2})
	require.NoError(t, err)
	require.Equal(t, other.ID, runs[0].Run.ID)
	release()
	require.Len(t, <-one, 1)
}

// Three processes give three assistants with unequal queues equal shares, and reach
// the limit and never exceed it.
func TestWork_threeProcesses_equalSharesWithinTheLimit(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	database := schemas.Name(t)
	first := migrated(t, postgresDB(t, server.DSN(database)), nil)
	at := 1
	for assistantID, n := range map[string]int{"x": 900, "y": 300, "z": 150} {
		fillQueue(t, server, database, at, n, "'"+assistantID+"'", "0")
		at += n
	}
	const limit = 3
	var mu sync.Mutex
	now, most, ended, last := make(map[string]int), make(map[string]int), make(map[string]int), make(map[string]int64)
	reached, enough := make(chan struct{}), make(chan struct{})
	closeReached, closeEnough := sync.OnceFunc(func() { close(reached) }), sync.OnceFunc(func() { close(enough) })
	runner := webtrigger.RunnerFunc(func(ctx context.Context, task *webtrigger.Task, _ webtrigger.Emit) (*webtrigger.Result, error) {
		of := task.Run.AssistantID
		mu.Lock()
		now[of]++
		most[of] = max(most[of], now[of])
		if most["x"] >= limit && most["y"] >= limit && most["z"] >= limit {
			closeReached()
		}
		if task.Run.ID < last[of]-3*limit {
			t.Errorf("run %d of %s started after run %d", task.Run.ID, of, last[of])
		}
		last[of] = max(last[of], task.Run.ID)
		mu.Unlock()
		select { // the first runs stay until each assistant has as many as it may have
		case <-reached:
			time.Sleep(100 * time.Millisecond)
		case <-ctx.Done():
		}
		mu.Lock()
		defer mu.Unlock()
		now[of]--
		if ended[of]++; ended[of] == 50 {
			closeEnough()
		}
		return &webtrigger.Result{Text: "done"}, nil
	})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var working sync.WaitGroup
	for _, s := range []*bunstore.Store{first, opened(t, postgresDB(t, server.DSN(database)), nil), opened(t, postgresDB(t, server.DSN(database)), nil)} {
		svc, err := webtrigger.New(s, runner, &webtrigger.Options{BaseURL: "https://app.example.com", Workers: 4,
			Limits: webtrigger.Limits{RunningPerAssistant: limit}})
		require.NoError(t, err)
		working.Go(func() { _ = svc.Work(ctx) })
	}
	for _, done := range []chan struct{}{reached, enough} {
		select {
		case <-done:
		case <-time.After(2 * time.Minute):
			mu.Lock()
			defer mu.Unlock()
			require.Fail(t, "the limits are not reached, or too few runs end", "started at once %v, ended %v", most, ended)
		}
	}
	mu.Lock()
	shares := []int{ended["x"], ended["y"], ended["z"]}
	mu.Unlock()
	stop()
	working.Wait()
	t.Logf("shares when the first one has 50: %v", shares)
	require.GreaterOrEqual(t, slices.Min(shares), 35)
	require.Equal(t, map[string]int{"x": limit, "y": limit, "z": limit}, most)
}
