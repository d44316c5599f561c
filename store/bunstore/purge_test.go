package bunstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
)

// Entries of the audit log that are locked, or that cannot be deleted, do not keep a purge
// from the rest.
func TestPurge_auditEntries_restIsPurged(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	must := func(text string) {
		_, err := db.ExecContext(ctx, text)
		require.NoError(t, err)
	}
	old := webtrigger.Purge{Keep: webtrigger.Retention{Audit: time.Hour, Cancelled: time.Millisecond}, Limit: 10}
	must(`INSERT INTO webtrigger_audit (at, actor, action, object, request_id) SELECT now() - interval '1 day', '', '', '', '' FROM generate_series(1, 3)`)
	release := heldRow(t, db, `SELECT 1 FROM webtrigger_audit ORDER BY id LIMIT 1 FOR UPDATE`)
	purged, err := s.Purge(ctx, old)
	require.NoError(t, err)
	require.Equal(t, webtrigger.Purged{AuditEntries: 2}, purged)
	release()

	_, err = s.RequestStop(ctx, storeTrigger(t, s).ID, webtrigger.CancelStop(""), nil)
	require.NoError(t, err)
	time.Sleep(10 * time.Millisecond)
	must(`CREATE FUNCTION reject() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'rejected'; END $$`)
	must(`CREATE TRIGGER reject BEFORE DELETE ON webtrigger_audit FOR EACH ROW EXECUTE FUNCTION reject()`)
	purged, err = s.Purge(ctx, old)
	require.ErrorContains(t, err, "purge audit log: ")
	require.Equal(t, webtrigger.Purged{Triggers: 1}, purged)
}

// A run that cannot be deleted does not keep a purge from the others. The purge
// completes its pass and names the run.
func TestPurge_brokenRun_othersArePurged(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	var runs []int64
	for range 4 {
		run := storeTrigger(t, s)
		_, err := s.RequestStop(ctx, run.ID, webtrigger.CancelStop(""), nil)
		require.NoError(t, err)
		runs = append(runs, run.ID)
	}
	time.Sleep(10 * time.Millisecond)
	for _, text := range []string{
		fmt.Sprintf(`CREATE FUNCTION reject() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN IF OLD.id = %d THEN RAISE EXCEPTION 'rejected'; END IF; RETURN OLD; END $$`, runs[1]),
		`CREATE TRIGGER reject BEFORE DELETE ON webtrigger_runs FOR EACH ROW EXECUTE FUNCTION reject()`,
	} {
		_, err := db.ExecContext(ctx, text)
		require.NoError(t, err)
	}
	purged, err := s.Purge(ctx, webtrigger.Purge{Keep: webtrigger.Retention{Cancelled: time.Millisecond}, Limit: 100})
	require.ErrorContains(t, err, fmt.Sprintf("run %d: ", runs[1]))
	require.Equal(t, webtrigger.Purged{Triggers: 3}, purged)
	require.Equal(t, 1, count(t, db, `SELECT count(*) FROM webtrigger_runs`))

	_, err = db.ExecContext(ctx, `DROP TRIGGER reject ON webtrigger_runs`)
	require.NoError(t, err)
	purged, err = s.Purge(ctx, webtrigger.Purge{Keep: webtrigger.Retention{Cancelled: time.Millisecond}, Limit: 100})
	require.NoError(t, err)
	require.Equal(t, webtrigger.Purged{Triggers: 1}, purged)
}
