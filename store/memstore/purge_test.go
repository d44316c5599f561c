package memstore_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

func TestPurgeEvents(t *testing.T) {
	t.Parallel()
	s := memstore.New(nil)
	register(t, s, "w", time.Hour)
	var runs []webtrigger.Run
	var conversationID int64
	for n := range int64(2) { // each run has run_queued and run_started
		trigger := trigger(n + 1)
		trigger.ConversationID, trigger.Claim = conversationID, &webtrigger.Claimant{ProcessID: "w", Token: 1}
		accepted, err := s.CreateTrigger(t.Context(), trigger)
		require.NoError(t, err)
		conversationID = accepted.Run.ConversationID
		runs = append(runs, accepted.Run)
		_, err = s.FinishRun(t.Context(), *accepted.Lease, webtrigger.Finish{Outcome: webtrigger.Outcome{Status: webtrigger.RunFailed},
			Events: webtrigger.EventBatch{Number: 1, Events: []webtrigger.NewEvent{{Type: "x_step", Payload: json.RawMessage(`{}`)}}}})
		require.NoError(t, err)
	} // the runs have 1 to 4 and 5 to 8
	page := func(runID, afterID, afterSequence int64, limit int) (ids []int64, purgedTo int64, more bool) {
		p, err := s.Events(t.Context(), webtrigger.EventQuery{
			ConversationID: conversationID, RunID: runID, AfterID: afterID, AfterSequence: afterSequence, Limit: limit,
		})
		require.NoError(t, err)
		require.EqualValues(t, 8, p.LastID)
		for _, e := range p.Events {
			ids = append(ids, e.ID)
		}
		return ids, p.PurgedTo, p.More
	}
	for _, c := range []struct {
		run         int
		through     int64
		n, afterAll int
	}{{0, 3, 3, 3}, {0, 2, 0, 3}, {0, 9, 1, 4}, {1, 2, 2, 6}, {1, 0, 0, 6}} {
		n, err := s.PurgeEvents(t.Context(), runs[c.run].ID, c.through)
		require.NoError(t, err)
		require.Equal(t, c.n, n)
		p, err := s.Events(t.Context(), webtrigger.EventQuery{ConversationID: conversationID, Limit: 100})
		require.NoError(t, err)
		require.Len(t, p.Events, 8-c.afterAll)
	}

	for _, c := range []struct {
		run                    int // 0: both
		afterID, afterSequence int64
		limit                  int
		ids                    []int64
		purgedTo               int64
		more                   bool
	}{
		{0, 0, 0, 9, []int64{7, 8}, 6, false},
		{0, 5, 0, 1, []int64{7}, 6, true},
		{0, 6, 0, 9, []int64{7, 8}, 0, false},
		{0, 8, 0, 9, nil, 0, false},
		{1, 0, 0, 9, nil, 4, false},
		{1, 3, 0, 9, nil, 4, false},
		{1, 4, 0, 9, nil, 0, false},
		{1, 0, 4, 9, nil, 0, false},
		{2, 0, 0, 9, []int64{7, 8}, 6, false},
		{2, 0, 1, 9, []int64{7, 8}, 6, false},
		{2, 0, 2, 1, []int64{7}, 0, true},
	} {
		var run int64
		if c.run > 0 {
			run = runs[c.run-1].ID
		}
		ids, purgedTo, more := page(run, c.afterID, c.afterSequence, c.limit)
		require.Equal(t, c.ids, ids, "%+v", c)
		require.Equal(t, c.purgedTo, purgedTo, "%+v", c)
		require.Equal(t, c.more, more, "%+v", c)
	}
	_, err := s.PurgeEvents(t.Context(), 4711, 1)
	require.ErrorIs(t, err, webtrigger.ErrNotFound)
}

// Statistics do not reach back further than those of a store that keeps counts.
func TestEndCounts_olderThanStatsAge_isNotCounted(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := memstore.New(&memstore.Options{Clock: c})
	created, err := s.CreateTrigger(t.Context(), trigger(1))
	require.NoError(t, err)
	run, err := s.RequestStop(t.Context(), created.Run.ID, webtrigger.CancelStop(""), nil)
	require.NoError(t, err)
	hour := run.CompletedAt.Truncate(time.Hour)
	query := webtrigger.StatsQuery{From: hour, To: hour.Add(time.Hour), Step: time.Hour}
	for _, age := range []struct {
		moved time.Duration
		want  int
	}{{webtrigger.StatsAge - time.Hour, 1}, {2 * time.Hour, 0}} {
		c.t = c.t.Add(age.moved)
		counts, complete, err := s.EndCounts(t.Context(), query)
		require.NoError(t, err)
		require.True(t, complete)
		require.Len(t, counts, age.want)
	}
}
