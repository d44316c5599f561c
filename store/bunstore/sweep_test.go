package bunstore_test

import (
	"context"
	"fmt"
	"net/url"
	"path"
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

// lostRuns are runs whose process is about to be lost, and a process that may sweep
// them.
func lostRuns(t *testing.T, s *bunstore.Store, n int) (runs []int64, sweeper webtrigger.Process) {
	t.Helper()
	sweeper = registered(t, s, time.Hour)
	lost := registered(t, s, 10*time.Millisecond)
	for range n {
		storeTrigger(t, s)
	}
	for _, run := range claimedBy(t, s, lost, n, 0) {
		runs = append(runs, run.Run.ID)
	}
	require.Len(t, runs, n)
	time.Sleep(20 * time.Millisecond)
	return runs, sweeper
}

// ids are the ids of swept runs, which have all ended.
func ids(t *testing.T, swept []webtrigger.Run) (ids []int64) {
	t.Helper()
	for _, run := range swept {
		require.Equal(t, webtrigger.RunTimedOut, run.Status)
		require.Equal(t, webtrigger.HeartbeatTimeout().StatusDetail, run.StatusDetail)
		ids = append(ids, run.ID)
	}
	return ids
}

// A sweep passes over a run that another transaction has locked, and the next one
// sweeps it.
func TestSweepRuns_lockedRun_othersAreSwept(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	runs, sweeper := lostRuns(t, s, 3)
	release := heldRow(t, db, fmt.Sprintf(`SELECT 1 FROM webtrigger_queue WHERE run_id = %d FOR UPDATE`, runs[0]))
	swept, err := s.SweepRuns(ctx, webtrigger.Sweep{ProcessID: sweeper.ID, Limit: 2, Audit: true})
	require.NoError(t, err)
	require.Equal(t, runs[1:], ids(t, swept))
	release()
	swept, err = s.SweepRuns(ctx, webtrigger.Sweep{ProcessID: sweeper.ID, Limit: 2})
	require.NoError(t, err)
	require.Equal(t, runs[:1], ids(t, swept))
}

// A sweeper that is cut off from the server in its transaction keeps locks for seconds
// only, and not until the connection times out.
func TestSweepRuns_cutOffBeforeCommit_othersSweep(t *testing.T) {
	t.Parallel()
	ctx, dsn := t.Context(), schemas.Database(t)
	s := migrated(t, postgresDB(t, dsn), nil)
	runs, sweeper := lostRuns(t, s, 2)
	address, err := url.Parse(dsn)
	require.NoError(t, err)
	proxy, err := pgtest.StartProxy(pgtest.Shared(t).Port())
	require.NoError(t, err)
	t.Cleanup(proxy.Close)
	held := make(chan struct{}, 100)
	proxy.Disturb(pgtest.Fault{Hold: true, Statements: func(text string) bool {
		if text == "COMMIT" {
			held <- struct{}{}
		}
		return text == "COMMIT"
	}})
	cut := opened(t, postgresDB(t, proxy.DSN(path.Base(address.Path))), nil)
	stopped, stop := context.WithCancel(ctx)
	var sweeping sync.WaitGroup
	sweeping.Go(func() { _, err = cut.SweepRuns(stopped, webtrigger.Sweep{ProcessID: sweeper.ID, Limit: 2}) })
	<-held
	swept, _ := s.SweepRuns(ctx, webtrigger.Sweep{ProcessID: sweeper.ID, Limit: 2})
	require.Empty(t, swept, "the processes to be marked are locked")
	require.Eventually(t, func() bool {
		found, err := s.SweepRuns(ctx, webtrigger.Sweep{ProcessID: sweeper.ID, Limit: 2})
		require.NoError(t, err)
		swept = append(swept, found...)
		return len(swept) == len(runs)
	}, time.Minute, 100*time.Millisecond)
	require.Equal(t, runs, ids(t, swept))
	stop()
	sweeping.Wait()
	require.Error(t, err)
}

// A run that cannot be ended does not keep a sweep from the others. The sweep returns
// them together with the error.
func TestSweepRuns_brokenRun_othersAreSwept(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		ctx, db := t.Context(), open()
		s := migrated(t, db, nil)
		runs, sweeper := lostRuns(t, s, 3)
		_, err := db.ExecContext(ctx, fmt.Sprintf(storedEnd, runs[0]))
		require.NoError(t, err)
		swept, err := s.SweepRuns(ctx, webtrigger.Sweep{ProcessID: sweeper.ID, Limit: 10})
		require.ErrorContains(t, err, fmt.Sprintf("run %d: ", runs[0]))
		require.Equal(t, runs[1:], ids(t, swept))
	})
}

const storedEnd = `INSERT INTO webtrigger_ends (run_id, token, last_sequence, started_sequence, last_message_id, result_message_id,
	completed_at, attempts, status, status_detail, error_message) SELECT %d, 0, 1, 0, 1, 0, created_at, 0, 'failed', '', '' FROM webtrigger_runs LIMIT 1`

// Neither does a run whose end waits for another transaction.
func TestSweepRuns_blockedRun_othersAreSwept(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	runs, sweeper := lostRuns(t, s, 3)
	release := heldRow(t, db, fmt.Sprintf(storedEnd, runs[0]))
	limited, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	swept, err := s.SweepRuns(limited, webtrigger.Sweep{ProcessID: sweeper.ID, Limit: 10})
	require.ErrorIs(t, err, webtrigger.ErrUnavailable)
	require.Equal(t, runs[1:], ids(t, swept))
	release()
	eventually(t, func() bool {
		swept, err := s.SweepRuns(ctx, webtrigger.Sweep{ProcessID: sweeper.ID, Limit: 10})
		return err == nil && len(swept) == 1 && swept[0].ID == runs[0]
	})
}

// A claim whose process has no row, because the process was removed while the claim
// was not yet visible, is found by an audit only. Its run ends, whatever the attempts
// of others.
func TestSweepRuns_claimWithoutProcess_auditEndsRun(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		ctx, db := t.Context(), open()
		s := migrated(t, db, nil)
		sweeper := registered(t, s, time.Hour)
		orphan, restored, held := claimed(t, s, storeTrigger(t, s).ID), claimed(t, s, storeTrigger(t, s).ID), claimed(t, s, storeTrigger(t, s).ID)
		_, err := db.ExecContext(ctx, `DELETE FROM webtrigger_processes WHERE id = (SELECT process_id FROM webtrigger_queue WHERE run_id = ?)`, orphan.Run.ID)
		require.NoError(t, err)
		_, err = db.ExecContext(ctx, `UPDATE webtrigger_queue SET process_id = NULL WHERE run_id = ?`, restored.Run.ID)
		require.NoError(t, err)
		swept, err := s.SweepRuns(ctx, webtrigger.Sweep{ProcessID: sweeper.ID, Limit: 10})
		require.NoError(t, err)
		require.Empty(t, swept)
		swept, err = s.SweepRuns(ctx, webtrigger.Sweep{ProcessID: sweeper.ID, Limit: 10, Audit: true})
		require.NoError(t, err)
		require.ElementsMatch(t, []int64{orphan.Run.ID, restored.Run.ID}, ids(t, swept))
		for _, lease := range []webtrigger.Lease{orphan.Lease, restored.Lease} {
			_, err = s.FinishRun(ctx, lease, webtrigger.Finish{Outcome: webtrigger.Outcome{Status: webtrigger.RunCompleted}})
			require.ErrorIs(t, err, webtrigger.ErrLeaseLost)
		}
		stepped(t, s, held.Lease, 1)
	})
}

// A sweep deletes processes that have been lost for ten minutes, except those whose
// claims it has not ended yet.
func TestSweepRuns_longLostProcess_isDeleted(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		ctx, db := t.Context(), open()
		s := migrated(t, db, nil)
		runs, sweeper := lostRuns(t, s, 2)
		sweep := func(n int) {
			t.Helper()
			swept, err := s.SweepRuns(context.WithoutCancel(ctx), webtrigger.Sweep{ProcessID: sweeper.ID, Limit: 1})
			require.NoError(t, err)
			require.Len(t, swept, n)
		}
		processes := `SELECT count(*) FROM webtrigger_processes`
		sweep(1)
		text := `UPDATE webtrigger_processes SET lost_at = lost_at - interval '10 minutes'`
		if db.Dialect().Name().String() != "pg" {
			text = `UPDATE webtrigger_processes SET lost_at = lost_at - 600000000`
		}
		_, err := db.ExecContext(ctx, `UPDATE webtrigger_queue SET state = 'q' WHERE run_id = ?`, runs[1])
		require.NoError(t, err)
		sweep(0)
		require.Equal(t, 2, count(t, db, processes), "a recently lost process must stay")
		_, err = db.ExecContext(ctx, `UPDATE webtrigger_queue SET state = 'r' WHERE run_id = ?`, runs[1])
		require.NoError(t, err)
		_, err = db.ExecContext(ctx, text)
		require.NoError(t, err)
		sweep(1)
		require.Equal(t, 1, count(t, db, processes))
	})
}

// A run whose definition is damaged after its claim ends, and lists show it.
func TestFinishRun_brokenRun_ends(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		ctx, db := t.Context(), open()
		s := migrated(t, db, nil)
		run := storeTrigger(t, s)
		claim := claimed(t, s, run.ID)
		_, err := db.ExecContext(ctx, `UPDATE webtrigger_runs SET task = 'damaged'`)
		require.NoError(t, err)
		require.Equal(t, webtrigger.RunCompleted, finished(t, s, claim.Lease).Status)
		runs, err := s.Runs(ctx, webtrigger.RunQuery{Page: webtrigger.Page{Limit: 10}})
		require.NoError(t, err)
		require.Len(t, runs, 1)
		require.Zero(t, runs[0].TaskDefinitionID)
	})
}

// A run whose definition cannot be decoded does not keep others from being claimed, nor their
// callbacks from being sent.
func TestClaimRuns_brokenRun_othersAreClaimed(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		ctx, db := t.Context(), open()
		s := migrated(t, db, nil)
		p := registered(t, s, time.Hour)
		var runs []int64
		for range 3 {
			created, err := s.CreateTrigger(ctx, callbackTrigger())
			require.NoError(t, err)
			runs = append(runs, created.Run.ID)
		}
		damage := func(text string, runID int64) {
			_, err := db.ExecContext(ctx, `UPDATE webtrigger_runs SET task = ? WHERE id = ?`, text, runID)
			require.NoError(t, err)
		}
		damage("damaged", runs[0])
		claimed := claimedBy(t, s, p, 10, 0)
		require.Len(t, claimed, 2)
		renewed, err := s.RenewProcess(ctx, p)
		require.NoError(t, err)
		require.Len(t, renewed.Claims, 3, "the heartbeat returns the claim of the damaged run")
		for _, c := range claimed {
			finished(t, s, c.Lease)
		}
		damage("damaged", runs[1])
		leased, err := s.LeaseDeliveries(ctx, webtrigger.DeliveryQuery{Token: webtrigger.NewToken(), Lease: time.Minute, Limit: 10})
		require.NoError(t, err)
		require.Len(t, leased, 1)
		require.Equal(t, runs[2], leased[0].Run.ID)
	})
}
