package bunstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// joined makes a run join a conversation.
func joined(t *testing.T, s webtrigger.Store, conversationID int64) webtrigger.Run {
	t.Helper()
	trigger := newTrigger()
	trigger.ConversationID = conversationID
	accepted, err := s.CreateTrigger(t.Context(), trigger)
	require.NoError(t, err)
	return accepted.Run
}

func claimed(t *testing.T, s webtrigger.Store, runID int64) webtrigger.ClaimedRun {
	t.Helper()
	runs := claimedBy(t, s, registered(t, s, time.Hour), 1, runID)
	require.Len(t, runs, 1)
	return runs[0]
}

// claimedBy are runs that a process claims.
func claimedBy(t *testing.T, s webtrigger.Store, p webtrigger.Process, limit int, runID int64) []webtrigger.ClaimedRun {
	t.Helper()
	runs, err := s.ClaimRuns(t.Context(), webtrigger.Claim{ProcessID: p.ID, Token: webtrigger.NewToken(), Limit: limit, RunID: runID})
	require.NoError(t, err)
	return runs
}

// registered is a new process.
func registered(t *testing.T, s webtrigger.Store, lease time.Duration) webtrigger.Process {
	t.Helper()
	p := webtrigger.Process{ID: uuid.NewString(), Lease: lease, MaxAttempts: 1}
	require.NoError(t, s.RegisterProcess(t.Context(), p))
	return p
}

func stepped(t *testing.T, s webtrigger.Store, lease webtrigger.Lease, number int64) {
	t.Helper()
	require.NoError(t, s.AppendEvents(t.Context(), lease, webtrigger.EventBatch{Number: number,
		Events: []webtrigger.NewEvent{{Type: "x_step", Payload: []byte(`{}`)}, {Type: "x_step", Payload: []byte(`{}`)}}}))
}

func finished(t *testing.T, s webtrigger.Store, lease webtrigger.Lease) webtrigger.Run {
	t.Helper()
	run, err := s.FinishRun(t.Context(), lease, webtrigger.Finish{Outcome: webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: "Result"},
		Messages: []webtrigger.NewMessage{{Role: webtrigger.RoleTool, Content: "found"}}})
	require.NoError(t, err)
	return run
}

// reading is all that can be read of a run and its events and messages.
type reading struct {
	run          webtrigger.Run
	input        webtrigger.RunInput
	conversation webtrigger.Conversation
	messages     []webtrigger.Message
	pages        []webtrigger.EventPage
}

func readingOf(t *testing.T, s webtrigger.Store, runID int64) (r reading) {
	t.Helper()
	ctx := t.Context()
	var err error
	r.run, err = s.RunByID(ctx, runID)
	require.NoError(t, err)
	r.input, err = s.RunInput(ctx, runID)
	require.NoError(t, err)
	r.conversation, err = s.Conversation(ctx, r.run.ConversationID)
	require.NoError(t, err)
	messages, err := s.Messages(ctx, webtrigger.MessageQuery{ConversationID: r.run.ConversationID, Limit: 100})
	require.NoError(t, err)
	for _, m := range messages {
		if m.RunID == runID {
			r.messages = append(r.messages, m)
		}
	}
	for after := range int64(8) {
		for _, limit := range []int{1, 2, 100} {
			for _, bytes := range []int{0, 1, 20} {
				page, err := s.Events(ctx, webtrigger.EventQuery{ConversationID: r.run.ConversationID, RunID: runID, AfterSequence: after, Limit: limit, MaxBytes: bytes})
				require.NoError(t, err)
				page.LastID = 0 // that of the conversation
				r.pages = append(r.pages, page)
			}
		}
	}
	return r
}

// A run reads the same before and after a second one has joined its conversation,
// whatever it has come to.
func TestPromote_anyState_readsTheSame(t *testing.T) {
	t.Parallel()
	states := map[string]func(t *testing.T, s *bunstore.Store, run webtrigger.Run){
		"queued": func(*testing.T, *bunstore.Store, webtrigger.Run) {},
		"running": func(t *testing.T, s *bunstore.Store, run webtrigger.Run) {
			stepped(t, s, claimed(t, s, run.ID).Lease, 1)
		},
		"requeued": func(t *testing.T, s *bunstore.Store, run webtrigger.Run) {
			lease := claimed(t, s, run.ID).Lease
			stepped(t, s, lease, 1)
			_, err := s.RequeueRun(t.Context(), lease, webtrigger.Requeue{Reason: webtrigger.RequeueShutdown})
			require.NoError(t, err)
		},
		"running again": func(t *testing.T, s *bunstore.Store, run webtrigger.Run) {
			_, err := s.RequeueRun(t.Context(), claimed(t, s, run.ID).Lease, webtrigger.Requeue{Reason: webtrigger.RequeueShutdown})
			require.NoError(t, err)
			stepped(t, s, claimed(t, s, run.ID).Lease, 1)
		},
		"stopping": func(t *testing.T, s *bunstore.Store, run webtrigger.Run) {
			claimed(t, s, run.ID)
			_, err := s.RequestStop(t.Context(), run.ID, webtrigger.CancelStop(""), nil)
			require.NoError(t, err)
		},
		"completed": func(t *testing.T, s *bunstore.Store, run webtrigger.Run) {
			lease := claimed(t, s, run.ID).Lease
			stepped(t, s, lease, 1)
			finished(t, s, lease)
		},
		"cancelled while queued": func(t *testing.T, s *bunstore.Store, run webtrigger.Run) {
			_, err := s.RequestStop(t.Context(), run.ID, webtrigger.CancelStop("reason"), nil)
			require.NoError(t, err)
		},
		"purged": func(t *testing.T, s *bunstore.Store, run webtrigger.Run) {
			finished(t, s, claimed(t, s, run.ID).Lease)
			eventually(t, func() bool {
				_, err := s.Purge(t.Context(), webtrigger.Purge{Keep: webtrigger.Retention{Events: 1}, Limit: 10})
				require.NoError(t, err)
				page, err := s.Events(t.Context(), webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID, Limit: 1})
				require.NoError(t, err)
				return page.PurgedTo > 0
			})
		},
	}
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		s := migrated(t, open(), nil)
		for name, come := range states {
			run := storeTrigger(t, s)
			come(t, s, run)
			before := readingOf(t, s, run.ID)
			second := joined(t, s, run.ConversationID)
			require.Equal(t, before, readingOf(t, s, run.ID), name)

			all, err := s.Events(t.Context(), webtrigger.EventQuery{ConversationID: run.ConversationID, Limit: 100})
			require.NoError(t, err)
			require.Equal(t, all.LastID, all.Events[len(all.Events)-1].ID, name)
			require.Equal(t, second.ID, all.Events[len(all.Events)-1].RunID, name)
			require.False(t, all.Ended, name)
			_, err = s.RequestStop(t.Context(), second.ID, webtrigger.CancelStop(""), nil)
			require.NoError(t, err)
			require.Equal(t, before, readingOf(t, s, run.ID), name)
		}
	})
}

// A run that is running when its conversation becomes shared continues under its
// lease.
func TestPromote_running_leaseStaysHeld(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		s := migrated(t, open(), nil)
		p := registered(t, s, time.Hour)
		run := claimedBy(t, s, p, 1, storeTrigger(t, s).ID)[0]
		stepped(t, s, run.Lease, 1)
		behind := joined(t, s, run.Run.ConversationID)
		stepped(t, s, run.Lease, 1) // stored already
		stepped(t, s, run.Lease, 2)
		renewed, err := s.RenewProcess(t.Context(), p)
		require.NoError(t, err)
		require.Equal(t, []webtrigger.HeldClaim{{Lease: run.Lease}}, renewed.Claims)
		finished(t, s, run.Lease)
		second := claimedBy(t, s, p, 1, behind.ID)[0]
		stepped(t, s, second.Lease, 1)
		finished(t, s, second.Lease)
		page, err := s.Events(t.Context(), webtrigger.EventQuery{ConversationID: run.Run.ConversationID, Limit: 100})
		require.NoError(t, err)
		require.Len(t, page.Events, 7+5)
		for i, e := range page.Events {
			require.EqualValues(t, i+1, e.ID)
		}
		messages, err := s.Messages(t.Context(), webtrigger.MessageQuery{ConversationID: run.Run.ConversationID, Limit: 100})
		require.NoError(t, err)
		require.Len(t, messages, 6)
	})
}

// A conversation becomes shared after a claim has begun to read, and before it locks the
// run. A claim of a single run would not store run_started, so it must leave the run.
func TestClaimRuns_promotedMeanwhile_storesRunStarted(t *testing.T) {
	t.Parallel()
	for name, named := range map[string]bool{"any run": false, "a named run": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
			s := migrated(t, db, nil)
			p, run := registered(t, s, time.Hour), storeTrigger(t, s)
			var id int64
			if named {
				id = run.ID
			}
			// A claim looks at its process first, and there it waits.
			_, err := db.ExecContext(ctx, `ALTER TABLE webtrigger_processes RENAME TO kept;
				CREATE VIEW webtrigger_processes AS SELECT * FROM kept WHERE pg_advisory_xact_lock_shared(1)::text IS NOT NULL`)
			require.NoError(t, err)
			release := heldRow(t, db, `SELECT pg_advisory_xact_lock(1)`)
			claimed := make(chan []webtrigger.ClaimedRun, 1)
			go func() {
				runs, err := s.ClaimRuns(ctx, webtrigger.Claim{ProcessID: p.ID, Token: webtrigger.NewToken(), Limit: 1, RunID: id})
				assert.NoError(t, err)
				claimed <- runs
			}()
			awaitBlocked(t, db, 1)
			joined(t, s, run.ConversationID)
			release()
			if runs := <-claimed; len(runs) == 0 {
				require.Len(t, claimedBy(t, s, p, 1, id), 1)
			}
			page, err := s.Events(ctx, webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID, Limit: 10})
			require.NoError(t, err)
			require.Len(t, page.Events, 2)
			require.Equal(t, webtrigger.EventRunStarted, page.Events[1].Type)
		})
	}
}

// The conversation of a shared run is locked before the run: a call that waits for the
// conversation has not locked the run. Otherwise two calls would wait for each other.
func TestRequestStop_lockedConversation_leavesRunUnlocked(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	run := storeTrigger(t, s)
	joined(t, s, run.ConversationID)
	release := heldRow(t, db, `SELECT 1 FROM webtrigger_conversations FOR UPDATE`)
	stopped := make(chan error, 1)
	go func() {
		_, err := s.RequestStop(ctx, run.ID, webtrigger.CancelStop(""), nil)
		stopped <- err
	}()
	awaitBlocked(t, db, 1)
	require.Equal(t, 2, count(t, db, `SELECT count(*) FROM (SELECT 1 FROM webtrigger_queue FOR UPDATE SKIP LOCKED) q`))
	release()
	require.NoError(t, <-stopped)
}

// An audit restores the missing queue row of an open run, in both forms of a
// conversation.
func TestSweepRuns_audit_restoresLostRows(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		ctx, db := t.Context(), open()
		s := migrated(t, db, nil)
		single := claimed(t, s, storeTrigger(t, s).ID)
		stepped(t, s, single.Lease, 1)
		fresh := storeTrigger(t, s)
		first := storeTrigger(t, s)
		finished(t, s, claimed(t, s, first.ID).Lease)
		running := claimed(t, s, joined(t, s, first.ConversationID).ID).Run
		waiting := joined(t, s, first.ConversationID)
		_, err := db.ExecContext(ctx, `DELETE FROM webtrigger_queue`)
		require.NoError(t, err)
		swept, err := s.SweepRuns(ctx, webtrigger.Sweep{Limit: 10, Audit: true})
		require.NoError(t, err)
		var ended []int64
		for _, run := range swept {
			require.Equal(t, webtrigger.RunTimedOut, run.Status)
			ended = append(ended, run.ID)
			page, err := s.Events(ctx, webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID, Limit: 100})
			require.NoError(t, err)
			for i, e := range page.Events {
				require.EqualValues(t, i+1, e.Sequence)
			}
			require.Equal(t, webtrigger.EventType("run_timed_out"), page.Events[len(page.Events)-1].Type)
		}
		require.ElementsMatch(t, []int64{single.Run.ID, fresh.ID, running.ID}, ended)
		require.Equal(t, waiting.ID, claimed(t, s, waiting.ID).Run.ID)
	})
}

// heldRow locks the queue row of a run in a transaction of the host.
func heldRow(t *testing.T, db *bun.DB, text string) (release func()) {
	t.Helper()
	tx, err := db.BeginTx(context.WithoutCancel(t.Context()), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), text)
	require.NoError(t, err)
	return func() { require.NoError(t, tx.Rollback()) }
}

// Batches do not wait for locks: while a transaction has one run locked, appends, ends,
// claims, renewals and sweeps of others continue. The locked run's own calls wait alone,
// under their own deadlines.
func TestBatches_lockedRow_othersContinue(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	p := registered(t, s, time.Hour)
	locked, other := claimedBy(t, s, p, 1, storeTrigger(t, s).ID)[0], claimedBy(t, s, p, 1, storeTrigger(t, s).ID)[0]
	release := heldRow(t, db, `SELECT 1 FROM webtrigger_queue ORDER BY run_id LIMIT 1 FOR UPDATE`)
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	batch := webtrigger.EventBatch{Number: 1, Events: []webtrigger.NewEvent{{Type: "x_step", Payload: []byte(`{}`)}}}
	require.ErrorIs(t, s.AppendEvents(short, locked.Lease, batch), context.DeadlineExceeded)

	appended := make(chan error, 1)
	go func() { appended <- s.AppendEvents(ctx, locked.Lease, batch) }()
	eventually(t, func() bool { return s.AppendsPaused() == 1 })
	stepped(t, s, other.Lease, 1)
	renewed, err := s.RenewProcess(ctx, p)
	require.NoError(t, err)
	require.Equal(t, []webtrigger.HeldClaim{{Lease: locked.Lease}, {Lease: other.Lease}}, renewed.Claims)
	_, err = s.SweepRuns(ctx, webtrigger.Sweep{ProcessID: p.ID, Limit: 10, Audit: true})
	require.NoError(t, err)
	finished(t, s, other.Lease)
	storeTrigger(t, s)
	require.Len(t, claimedBy(t, s, p, 10, 0), 1)
	release()
	require.NoError(t, <-appended)
}

// A claim passes over the runs of a conversation that a transaction has locked, and over
// no others.
func TestClaimRuns_lockedConversation_hidesItsOwnRuns(t *testing.T) {
	t.Parallel()
	db := postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	lanes := []webtrigger.Run{storeTrigger(t, s), storeTrigger(t, s)}
	for _, run := range lanes {
		finished(t, s, claimed(t, s, run.ID).Lease)
	}
	joined(t, s, lanes[0].ConversationID)
	joined(t, s, lanes[0].ConversationID)
	free := []int64{joined(t, s, lanes[1].ConversationID).ID, storeTrigger(t, s).ID}
	release := heldRow(t, db, `SELECT 1 FROM webtrigger_conversations ORDER BY id LIMIT 1 FOR UPDATE`)
	p := registered(t, s, time.Hour)
	runs := claimedBy(t, s, p, 2, 0)
	require.Len(t, runs, 2)
	require.Equal(t, free, []int64{runs[0].Run.ID, runs[1].Run.ID})
	release()
	require.Len(t, claimedBy(t, s, p, 10, 0), 1)
}

// creation is the answer of CreateTrigger.
type creation struct {
	accepted webtrigger.CreatedTrigger
	err      error
}

// creating creates a trigger in the background.
func creating(t *testing.T, s *bunstore.Store, trigger webtrigger.NewTrigger) <-chan creation {
	answer := make(chan creation, 1)
	go func() {
		accepted, err := s.CreateTrigger(t.Context(), trigger)
		answer <- creation{accepted, err}
	}()
	return answer
}

// While a host's transaction has an idempotency key, other triggers are stored. One
// with the same key waits alone, and gets the host's run once that is committed.
func TestCreateTrigger_keyInAHostsTransaction_othersContinue(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	host, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	first, err := s.Tx(host).CreateTrigger(ctx, keyed("k", 1))
	require.NoError(t, err)
	again := creating(t, s, keyed("k", 1))
	awaitBlocked(t, db, 1)
	storeTrigger(t, s)
	_, err = s.CreateTrigger(ctx, keyed("other", 1))
	require.NoError(t, err)
	require.NoError(t, host.Commit())
	a := <-again
	require.NoError(t, a.err)
	require.True(t, a.accepted.Replayed)
	require.Equal(t, first.Run.ID, a.accepted.Run.ID)
}

// A run that is erased while its request is repeated is not replayed, and the
// repetition is stored as a run of its own.
func TestCreateTrigger_erasedWhileReplayed_isStored(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	first, err := s.CreateTrigger(ctx, keyed("k", 1))
	require.NoError(t, err)
	repeated := keyed("k", 1)
	repeated.ConversationID = storeTrigger(t, s).ConversationID // is stored alone
	eraser, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	_, err = eraser.ExecContext(ctx, `LOCK TABLE webtrigger_runs`) // after the record is read, before the run is
	require.NoError(t, err)
	again := creating(t, s, repeated)
	awaitBlocked(t, db, 1)
	for _, text := range []string{`DELETE FROM webtrigger_idempotency_keys WHERE run_id = ?`,
		`DELETE FROM webtrigger_queue WHERE run_id = ?`, `DELETE FROM webtrigger_runs WHERE id = ?`} {
		_, err = eraser.ExecContext(ctx, text, first.Run.ID)
		require.NoError(t, err)
	}
	require.NoError(t, eraser.Commit())
	a := <-again
	require.NoError(t, a.err)
	require.False(t, a.accepted.Replayed)
	require.NotEqual(t, first.Run.ID, a.accepted.Run.ID)
}
