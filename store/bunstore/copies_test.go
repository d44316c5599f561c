package bunstore_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
)

// withTask is a trigger with a task definition whose copy is large.
func withTask(instructions string) webtrigger.NewTrigger {
	trigger := newTrigger()
	trigger.RunKey = uuid.NewString()
	trigger.TaskDefinition = &webtrigger.TaskDefinition{ID: 12, AssistantID: "1", Name: "Report", OutputType: webtrigger.OutputText,
		Instructions: strings.Repeat(instructions, 5000), AllowedTools: []string{"search"}, OutputSchema: []byte(`{"a": 1e22}`), Active: true}
	return trigger
}

func created(t *testing.T, s webtrigger.TriggerStore, trigger webtrigger.NewTrigger) webtrigger.Run {
	t.Helper()
	accepted, err := s.CreateTrigger(context.WithoutCancel(t.Context()), trigger)
	require.NoError(t, err)
	return accepted.Run
}

const (
	storedCopies = `SELECT count(*) FROM webtrigger_task_copies`
	longTasks    = `SELECT count(*) FROM webtrigger_runs WHERE octet_length(task) > 1000`
)

var longAgo = map[string]string{"pg": `'2020-01-01'`, "sqlite": `0`}

// The copy of a large definition is stored once, and every read of a run that keeps it
// has all of it. A small one is stored with its run.
func TestTaskCopies_sameDefinition_isStoredOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		ctx, db := t.Context(), open()
		s := migrated(t, db, nil)
		p := registered(t, s, time.Hour)
		trigger := withTask("Be brief. ")
		task := *trigger.TaskDefinition
		for range 3 {
			trigger.RunKey = uuid.NewString()
			run := created(t, s, trigger)
			require.Equal(t, &task, run.TaskDefinition)
			read, err := s.RunByID(ctx, run.ID)
			require.NoError(t, err)
			require.Equal(t, &task, read.TaskDefinition)
			claimed := claimedBy(t, s, p, 1, run.ID)
			require.Equal(t, &task, claimed[0].Run.TaskDefinition)
			summary, err := s.RunByKey(ctx, trigger.RunKey)
			require.NoError(t, err)
			require.EqualValues(t, 12, summary.TaskDefinitionID)
		}
		require.Equal(t, 1, count(t, db, storedCopies))
		require.Zero(t, count(t, db, longTasks))

		created(t, s, withTask("Be long. "))
		require.Equal(t, 2, count(t, db, storedCopies))
		small := withTask("")
		small.TaskDefinition.Instructions = "Be brief."
		run := created(t, s, small)
		require.Equal(t, 2, count(t, db, storedCopies))
		read, err := s.RunByID(ctx, run.ID)
		require.NoError(t, err)
		require.Equal(t, small.TaskDefinition, read.TaskDefinition)
	})
}

// A copy is deleted when no run has it, and stored again with the next run.
func TestTaskCopies_noRunLeft_isDeleted(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		ctx, db := t.Context(), open()
		s := migrated(t, db, nil)
		sweeper := registered(t, s, time.Hour)
		sweep := func() {
			_, err := db.ExecContext(ctx, `UPDATE webtrigger_task_copies SET created_at = `+longAgo[db.Dialect().Name().String()])
			require.NoError(t, err)
			_, err = s.SweepRuns(ctx, webtrigger.Sweep{ProcessID: sweeper.ID, Limit: 10, Audit: true})
			require.NoError(t, err)
		}
		trigger := withTask("Be brief. ")
		run := created(t, s, trigger)
		created(t, s, withTask("Be long. "))
		sweep()
		require.Equal(t, 2, count(t, db, storedCopies), "both have runs")
		_, err := s.RequestStop(ctx, run.ID, webtrigger.CancelStop(""), nil)
		require.NoError(t, err)
		require.NoError(t, s.EraseTrigger(ctx, run.ConversationID))
		sweep()
		require.Equal(t, 1, count(t, db, storedCopies))
		for range 2 {
			trigger.RunKey = uuid.NewString()
			read, err := s.RunByID(ctx, created(t, s, trigger).ID)
			require.NoError(t, err)
			require.Equal(t, trigger.TaskDefinition, read.TaskDefinition)
		}
		require.Equal(t, 2, count(t, db, storedCopies))
	})
}

// A copy that another transaction is deleting delays no trigger: the run keeps the
// definition itself.
func TestTaskCopies_lockedCopy_delaysNoTrigger(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	created(t, s, withTask("Be brief. "))
	host, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	_, err = host.ExecContext(ctx, `DELETE FROM webtrigger_task_copies`)
	require.NoError(t, err)
	trigger := withTask("Be brief. ")
	run := created(t, s, trigger)
	require.Equal(t, 1, count(t, db, longTasks))
	require.NoError(t, host.Commit())
	read, err := s.RunByID(ctx, run.ID)
	require.NoError(t, err)
	require.Equal(t, trigger.TaskDefinition, read.TaskDefinition)
}

// A host's open transaction with a definition delays no other trigger with it.
func TestTaskCopies_openHostTransaction_othersAreStored(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	host, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	run := created(t, s.Tx(host), withTask("Be brief. "))
	short, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	_, err = s.CreateTrigger(short, withTask("Be brief. "))
	require.NoError(t, err)
	require.NoError(t, host.Commit())
	read, err := s.RunByID(ctx, run.ID)
	require.NoError(t, err)
	require.Equal(t, withTask("Be brief. ").TaskDefinition, read.TaskDefinition)
}

// Before the tables go back to the version before, each run gets its own copy.
func TestTaskCopies_rollback_runsHaveTheirOwn(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		ctx, db := t.Context(), open()
		s := opened(t, db, nil)
		require.NoError(t, s.MigrateBefore(ctx, "20261130000002"))
		require.NoError(t, s.Migrate(ctx))
		trigger := withTask("Be brief. ")
		run := created(t, s, trigger)
		require.Zero(t, count(t, db, longTasks))
		require.NoError(t, s.Rollback(ctx))
		require.Equal(t, 1, count(t, db, longTasks))
		require.NoError(t, s.Migrate(ctx))
		read, err := s.RunByID(ctx, run.ID)
		require.NoError(t, err)
		require.Equal(t, trigger.TaskDefinition, read.TaskDefinition)
	})
}
