package bunstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// under is a trigger with a conversation key.
func under(key string) webtrigger.NewTrigger {
	trigger := newTrigger()
	trigger.ConversationKey = key
	return trigger
}

// While a host's transaction holds a key, triggers with this key pause. They hold no
// connection, and other callers' triggers are stored, however many pause.
func TestCreateTrigger_conversationKeyInAHostsTransaction_othersAreStored(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	host, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	inHost, err := s.Tx(host).CreateTrigger(ctx, under("k"))
	require.NoError(t, err)
	const same = 20
	var waiting []<-chan creation
	for range same {
		waiting = append(waiting, creating(t, s, under("k")))
	}
	eventually(t, func() bool { return s.LanesPaused() == same })
	for _, key := range []string{"other", "k2"} {
		_, err = s.CreateTrigger(ctx, under(key))
		require.NoError(t, err)
	}
	foreign := under("k")
	foreign.AssistantID = "2"
	_, err = s.CreateTrigger(ctx, foreign)
	require.NoError(t, err)
	storeTrigger(t, s)

	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	_, err = s.CreateTrigger(short, under("k"))
	require.ErrorIs(t, err, context.DeadlineExceeded)

	require.NoError(t, host.Commit())
	for _, answer := range waiting {
		a := <-answer
		require.NoError(t, a.err)
		require.Equal(t, inHost.Run.ConversationID, a.accepted.Run.ConversationID)
		require.True(t, a.accepted.Run.Behind)
	}
}

// A host that rolls back leaves the key to the next trigger, which starts the
// conversation.
func TestCreateTrigger_hostWithKeyRollsBack_nextStarts(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	host, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	_, err = s.Tx(host).CreateTrigger(ctx, under("k"))
	require.NoError(t, err)
	answer := creating(t, s, under("k"))
	eventually(t, func() bool { return s.LanesPaused() == 1 })
	require.NoError(t, host.Rollback())
	a := <-answer
	require.NoError(t, a.err)
	require.False(t, a.accepted.Run.Continues)
}

// A trigger that needs a locked conversation, queue row or first run pauses, and is
// stored afterwards.
func TestCreateTrigger_lockedLane_pauses(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	_, err := s.CreateTrigger(ctx, under("k"))
	require.NoError(t, err)
	interrupting := under("k")
	interrupting.OnBusy = webtrigger.BusyInterrupt
	byID := func() webtrigger.NewTrigger { // of a single conversation
		trigger := newTrigger()
		trigger.ConversationID = storeTrigger(t, s).ConversationID
		return trigger
	}
	for _, c := range []struct {
		lock    string
		trigger webtrigger.NewTrigger
	}{
		{`SELECT 1 FROM webtrigger_conversations FOR UPDATE`, under("k")},
		{`SELECT 1 FROM webtrigger_queue WHERE shared FOR UPDATE`, interrupting},
		{`SELECT 1 FROM webtrigger_runs FOR UPDATE`, byID()},
		{`SELECT 1 FROM webtrigger_queue WHERE NOT shared FOR UPDATE`, byID()},
	} {
		release := heldRow(t, db, c.lock)
		answer := creating(t, s, c.trigger)
		eventually(t, func() bool { return s.LanesPaused() == 1 })
		release()
		a := <-answer
		require.NoError(t, a.err, c.lock)
	}
}

// The audit puts lanes in order that a version without lanes, or a hand, has left.
func TestSweepRuns_audit_repairsLanes(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		ctx, db := t.Context(), open()
		s := migrated(t, db, nil)
		p := registered(t, s, time.Hour)
		var runs []webtrigger.Run
		for range 3 {
			created, err := s.CreateTrigger(ctx, under("k"))
			require.NoError(t, err)
			runs = append(runs, created.Run)
		}
		audit := func() {
			_, err := s.SweepRuns(ctx, webtrigger.Sweep{ProcessID: p.ID, Limit: 10, Audit: true})
			require.NoError(t, err)
		}
		for _, state := range []string{"q", "b"} {
			_, err := db.ExecContext(ctx, `UPDATE webtrigger_queue SET state = ?`, state)
			require.NoError(t, err)
			audit()
			for i, run := range runs {
				got, err := s.RunByID(ctx, run.ID)
				require.NoError(t, err)
				require.Equal(t, i > 0, got.Behind, state)
			}
		}
		head := claimedBy(t, s, p, 10, 0)
		require.Len(t, head, 1)
		require.Equal(t, runs[0].ID, head[0].Run.ID)
		audit()
		require.Empty(t, claimedBy(t, s, p, 10, 0))
	})
}

// Runs that become claimable go to the other engine in the same transaction, once each.
func TestEnqueue_lane_getsEachRunWhenItsTurnComes(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	var handed []int64
	s := migrated(t, db, &bunstore.Options{Enqueue: func(_ context.Context, _ bun.Tx, runs []bunstore.RunRef) error {
		for _, run := range runs {
			handed = append(handed, run.RunID)
		}
		return nil
	}})
	var ids []int64
	for range 3 {
		created, err := s.CreateTrigger(ctx, under("k"))
		require.NoError(t, err)
		ids = append(ids, created.Run.ID)
	}
	require.Equal(t, ids[:1], handed)
	finished(t, s, claimed(t, s, ids[0]).Lease)
	require.Equal(t, ids[:2], handed)
	interrupting := under("k")
	interrupting.OnBusy = webtrigger.BusyInterrupt
	created, err := s.CreateTrigger(ctx, interrupting)
	require.NoError(t, err)
	require.Equal(t, append(ids[:2:2], created.Run.ID), handed)
}
