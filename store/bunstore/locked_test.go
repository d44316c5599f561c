package bunstore_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// runningInLane is a claimed run of an assistant, in a conversation in which another run is
// behind it. Such runs end and append alone.
func runningInLane(t *testing.T, s *bunstore.Store, p webtrigger.Process, assistantID string) webtrigger.ClaimedRun {
	t.Helper()
	created, err := s.CreateTrigger(t.Context(), triggerOf(assistantID))
	require.NoError(t, err)
	behind := triggerOf(assistantID)
	behind.ConversationID = created.Run.ConversationID
	_, err = s.CreateTrigger(t.Context(), behind)
	require.NoError(t, err)
	return claimedBy(t, s, p, 1, created.Run.ID)[0]
}

// waitingSessions is how many sessions of the server wait for a lock.
func waitingSessions(t *testing.T, db *bun.DB) int {
	t.Helper()
	return count(t, db, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
}

// While a host's transaction has many conversations of an assistant locked, the runs of
// others end and append. The locked ones do so once the host has committed.
func TestFinishRun_lockedRunsOfAnother_isStored(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	p := registered(t, s, time.Hour)
	const n = 12 // more than may be alone at a time
	var locked []webtrigger.ClaimedRun
	for range n {
		locked = append(locked, runningInLane(t, s, p, "locked"))
	}
	other := runningInLane(t, s, p, "other")
	end := webtrigger.Finish{Outcome: webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: "Result"}}
	release := heldRow(t, db, `SELECT 1 FROM webtrigger_conversations WHERE assistant_id = 'locked' FOR UPDATE`)
	var ends sync.WaitGroup
	for i, c := range locked {
		ends.Go(func() {
			if i%2 == 0 {
				stepped(t, s, c.Lease, 1)
			}
			_, err := s.FinishRun(ctx, c.Lease, end)
			assert.NoError(t, err)
		})
	}
	eventually(t, func() bool { return s.EndsPaused() > n/4 && s.AppendsPaused() > n/4 })
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := s.FinishRun(limited, other.Lease, end)
	require.NoError(t, err)
	release()
	ends.Wait()
	require.Zero(t, count(t, db, `SELECT count(*) FROM webtrigger_queue WHERE state = 'r'`))
}

// However many calls need a run that another transaction has locked, others get
// connections. No session of the server waits for longer than its caller.
func TestLockedRun_manyCalls_leaveConnections(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	db.SetMaxOpenConns(6)
	p := registered(t, s, time.Hour)
	running, queued := claimed(t, s, storeTrigger(t, s).ID), storeTrigger(t, s)
	release := heldRow(t, db, `SELECT 1 FROM webtrigger_queue FOR UPDATE`)
	leave, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var calls sync.WaitGroup
	for _, call := range []func() error{
		func() error {
			_, err := s.RequestStop(leave, running.Run.ID, webtrigger.CancelStop(""), nil)
			return err
		},
		func() error {
			_, err := s.RequeueRun(leave, running.Lease, webtrigger.Requeue{Reason: webtrigger.RequeueShutdown})
			return err
		},
		func() error {
			_, err := s.ClaimRuns(leave, webtrigger.Claim{ProcessID: p.ID, Token: webtrigger.NewToken(), Limit: 1, RunID: queued.ID})
			return err
		},
	} {
		for range 8 {
			calls.Go(func() {
				err := call()
				assert.True(t, errors.Is(err, webtrigger.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded), err)
			})
		}
	}
	time.Sleep(100 * time.Millisecond)
	storeTrigger(t, s)
	require.NoError(t, leave.Err(), "the calls had all connections")
	calls.Wait()
	eventually(t, func() bool { return waitingSessions(t, db) == 0 })
	release()
}

// The session of a call that waits for a lock does not outlast its caller.
func TestEraseTrigger_lockedRun_leavesNoSession(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	run := storeTrigger(t, s)
	finished(t, s, claimed(t, s, run.ID).Lease)
	release := heldRow(t, db, `SELECT 1 FROM webtrigger_runs FOR UPDATE`)
	for range 3 {
		limited, cancel := context.WithTimeout(ctx, time.Second)
		require.ErrorIs(t, s.EraseTrigger(limited, run.ConversationID), webtrigger.ErrUnavailable)
		cancel()
	}
	eventually(t, func() bool { return waitingSessions(t, db) == 0 })
	release()
	require.NoError(t, s.EraseTrigger(ctx, run.ConversationID))
}

// A trigger whose caller has left while its conversation was locked is not stored later:
// the caller may have repeated it.
func TestCreateTrigger_callerLeavesLockedLane_isNotStored(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	run := storeTrigger(t, s)
	joined(t, s, run.ConversationID)
	release := heldRow(t, db, `SELECT 1 FROM webtrigger_conversations FOR UPDATE`)
	limited, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	var calls sync.WaitGroup
	for range 100 {
		calls.Go(func() {
			trigger := newTrigger()
			trigger.ConversationID = run.ConversationID
			_, err := s.CreateTrigger(limited, trigger)
			assert.Error(t, err)
		})
	}
	calls.Wait()
	eventually(t, func() bool { return s.LanesUnderWay() == 0 })
	release()
	joined(t, s, run.ConversationID)
	require.Equal(t, 3, count(t, db, `SELECT count(*) FROM webtrigger_runs`))
}

// While Options.Enqueue hangs for an assistant, whose ended runs make others claimable, the
// runs of another assistant end.
func TestFinishRun_enqueueHangsForAnother_isStored(t *testing.T) {
	t.Parallel()
	var hangs atomic.Bool
	e := &engine{fail: func(ctx context.Context, _ bun.Tx) error {
		if hangs.Load() {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}}
	s, _ := withEngine(t, e, bunstore.Options{EnqueueTimeout: time.Second})
	p := registered(t, s, time.Hour)
	var bad []webtrigger.ClaimedRun
	for range 4 * 8 {
		bad = append(bad, runningInLane(t, s, p, "bad"))
	}
	other := runningInLane(t, s, p, "other")
	end := webtrigger.Finish{Outcome: webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: "Result"}}
	hangs.Store(true)
	limited, cancel := context.WithTimeout(t.Context(), 6*time.Second)
	defer cancel()
	var ends sync.WaitGroup
	for _, c := range bad {
		ends.Go(func() { _, _ = s.FinishRun(limited, c.Lease, end) })
	}
	eventually(t, func() bool { return e.seen() > len(bad)+1+4 })
	time.Sleep(200 * time.Millisecond)
	_, err := s.FinishRun(limited, other.Lease, end)
	require.NoError(t, err)
	ends.Wait()
}
