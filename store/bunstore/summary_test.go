package bunstore_test

import (
	"crypto/rand"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
)

// Postgres stores large texts apart from the row. Summaries, grants and owners do not
// read these parts, and neither does a list.
func TestSummaries_largeResult_readNoPartsOfIt(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	db.SetMaxOpenConns(1) // the one that counts what it reads
	random := make([]byte, webtrigger.MaxResultBytes/2)
	_, _ = rand.Read(random)
	large := hex.EncodeToString(random)
	hash := webtrigger.KeyHash{1}
	key, err := s.CreateKey(ctx, webtrigger.NewKey{AssistantID: "1", Name: "Name", Prefix: "0123abcd", Hash: hash})
	require.NoError(t, err)
	trigger := newTrigger()
	trigger.AssistantID = key.AssistantID
	trigger.TaskDefinition = &webtrigger.TaskDefinition{ID: 1 << 62, AssistantID: "1", Name: "é", Instructions: large}
	use := &webtrigger.Idempotency{Key: "key", TTL: 1 << 40}
	trigger.Idempotency = use
	accepted, err := s.CreateTrigger(ctx, trigger)
	require.NoError(t, err)
	run := accepted.Run
	claim := claimed(t, s, run.ID)
	_, err = s.FinishRun(ctx, claim.Lease, webtrigger.Finish{Outcome: webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: large}})
	require.NoError(t, err)

	parts := func() (n int) {
		t.Helper()
		for _, text := range []string{`SELECT pg_stat_force_next_flush()`, `SELECT pg_stat_clear_snapshot()`} {
			_, err := db.ExecContext(ctx, text)
			require.NoError(t, err)
		}
		return count(t, db, `SELECT coalesce(sum(toast_blks_read + toast_blks_hit), 0) FROM pg_statio_user_tables`)
	}
	parts()
	before := parts()
	stored, err := s.RunByID(ctx, run.ID)
	require.NoError(t, err)
	require.Equal(t, large, stored.Result)
	require.Equal(t, large, stored.TaskDefinition.Instructions)
	require.Greater(t, parts(), before+200, "what the test counts")

	for name, read := range map[string]func() (webtrigger.Run, error){
		"grant": func() (webtrigger.Run, error) {
			grant, err := s.Authenticate(ctx, hash, run.ConversationID, 0)
			require.True(t, grant.ResultOmitted)
			return *grant.Run, err
		},
		"summary": func() (webtrigger.Run, error) { return s.RunSummary(ctx, run.ID) },
		"by key":  func() (webtrigger.Run, error) { return s.RunByKey(ctx, run.Key) },
		"list": func() (webtrigger.Run, error) {
			runs, err := s.Runs(ctx, webtrigger.RunQuery{Page: webtrigger.Page{Limit: 1}})
			return runs[0], err
		},
		"replay": func() (webtrigger.Run, error) { return s.Replay(ctx, "1", *use) },
		"repeated trigger": func() (webtrigger.Run, error) {
			accepted, err := s.CreateTrigger(ctx, trigger)
			return accepted.Run, err
		},
	} {
		before := parts()
		got, err := read()
		require.NoError(t, err)
		require.Empty(t, got.Result, name)
		require.EqualValues(t, 1<<62, got.TaskDefinitionID, name)
		require.LessOrEqual(t, parts(), before+20, "%s: only the beginning of the definition", name)
	}
	before = parts()
	_, err = s.Owner(ctx, webtrigger.ResourceRun, run.ID)
	require.NoError(t, err)
	require.Equal(t, before, parts())
}
