package bunstore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
)

// Kept statistics are purged by the hour, oldest first, also if no other age is set. A call
// deletes at most as many hours as its limit.
func TestPurge_oldStatistics_deletesWholeHours(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		db := open()
		s := migrated(t, db, nil)
		hour := time.Now().Unix() / 3600
		for _, age := range []int64{400, 300, 200, 100, 5} {
			for _, row := range []struct{ assistant, status string }{{"", ""}, {"", "completed"}, {"1", "completed"}} {
				_, err := db.ExecContext(t.Context(), `INSERT INTO webtrigger_stats (assistant_id, hour, status, slot, runs) VALUES (?, ?, ?, -1, 1)`,
					row.assistant, hour-age, row.status)
				require.NoError(t, err)
			}
		}
		kept := func() (ages []int64) {
			require.NoError(t, db.NewRaw(`SELECT ? - hour FROM webtrigger_stats ORDER BY hour`, hour).Scan(t.Context(), &ages))
			return ages
		}
		purge := func(limit int) webtrigger.Purged {
			done, err := s.Purge(t.Context(), webtrigger.Purge{Stats: 150 * time.Hour, Limit: limit})
			require.NoError(t, err)
			return done
		}
		require.Equal(t, webtrigger.Purged{StatsHours: 2}, purge(2))
		require.Equal(t, []int64{200, 200, 200, 100, 100, 100, 5, 5, 5}, kept())
		require.Equal(t, webtrigger.Purged{StatsHours: 1}, purge(2))
		require.Equal(t, webtrigger.Purged{}, purge(2))
		require.Equal(t, []int64{100, 100, 100, 5, 5, 5}, kept())
		_, err := s.Purge(t.Context(), webtrigger.Purge{Limit: 10})
		require.NoError(t, err)
		require.Len(t, kept(), 6, "without an age nothing is deleted")
	})
}

// Steps are counted from the beginning of the query, also if statistics do not reach back
// to it.
func TestEndCounts_rangeBeforeStatsAge_keepsSteps(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		db := open()
		s := migrated(t, db, nil)
		oldest := time.Now().Add(-webtrigger.StatsAge).Truncate(time.Hour)
		for _, hour := range []time.Time{oldest.Add(-2 * time.Hour), oldest.Add(time.Hour)} {
			for _, status := range []string{"", "completed"} {
				_, err := db.ExecContext(t.Context(), `INSERT INTO webtrigger_stats (assistant_id, hour, status, slot, runs) VALUES ('', ?, ?, -1, 1)`,
					hour.Unix()/3600, status)
				require.NoError(t, err)
			}
		}
		counts, complete, err := s.EndCounts(t.Context(), webtrigger.StatsQuery{From: oldest.Add(-4 * time.Hour), To: oldest.Add(3 * time.Hour), Step: time.Hour})
		require.NoError(t, err)
		require.True(t, complete)
		require.Equal(t, []webtrigger.EndCount{{Step: 5, Status: webtrigger.RunCompleted, Slot: -1, Runs: 1}}, counts)
	})
}

// Large numbers are estimates: by the statistics of Postgres, or by the ids on SQLite.
func TestDataState_manyRows_estimates(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		db := open()
		s := migrated(t, db, nil)
		postgres := db.Dialect().Name().String() == "pg"
		series, at := `(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10001) SELECT i FROM n)`, "0"
		if postgres {
			series, at = `generate_series(1, 10001) i`, "now()"
		}
		fill := func(where string) {
			_, err := db.ExecContext(t.Context(), `INSERT INTO webtrigger_audit (at, actor, action, object, request_id) SELECT `+at+`, '', '', '', '' FROM `+series+` WHERE `+where)
			require.NoError(t, err)
		}
		count := func() webtrigger.StoredCount {
			state, err := s.DataState(t.Context())
			require.NoError(t, err)
			require.Positive(t, state.Bytes)
			return state.AuditEntries
		}
		fill("i < 10001")
		require.Equal(t, webtrigger.StoredCount{Count: webtrigger.ExactCount}, count())
		fill("i = 10001")
		n := count()
		require.True(t, n.Estimated)
		require.GreaterOrEqual(t, n.Count, int64(webtrigger.ExactCount), "also before the table is analyzed")
		_, err := db.ExecContext(t.Context(), `ANALYZE webtrigger_audit`)
		require.NoError(t, err)
		require.Equal(t, webtrigger.StoredCount{Count: 10_001, Estimated: true}, count())
	})
}
