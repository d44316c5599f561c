package bunstore_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
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

// endedAgo is a run that ended some hours ago.
func endedAgo(t *testing.T, s *bunstore.Store, db *bun.DB, age int64) {
	t.Helper()
	p := registered(t, s, time.Hour)
	storeTrigger(t, s)
	lease := claimedBy(t, s, p, 1, 0)[0].Lease
	_, err := s.FinishRun(t.Context(), lease, webtrigger.Finish{Outcome: webtrigger.Outcome{Status: webtrigger.RunCompleted}})
	require.NoError(t, err)
	earlier := "- " + strconv.FormatInt(age*3600*1_000_000, 10)
	if db.Dialect().Name().String() == "pg" {
		earlier = fmt.Sprintf("- interval '%d hours'", age)
	}
	for _, column := range []string{"ends SET completed_at = completed_at", "runs SET created_at = created_at"} {
		_, err := db.ExecContext(t.Context(), "UPDATE webtrigger_"+column+" "+earlier)
		require.NoError(t, err)
	}
}

// ended counts the runs that ended in the last day.
func ended(t *testing.T, s *bunstore.Store) (n int) {
	t.Helper()
	to := time.Now().Truncate(time.Hour).Add(time.Hour)
	counts, complete, err := s.EndCounts(t.Context(), webtrigger.StatsQuery{From: to.Add(-24 * time.Hour), To: to, Step: time.Hour})
	require.NoError(t, err)
	require.True(t, complete)
	for _, c := range counts {
		n += c.Runs
	}
	return n
}

// Statistics have runs that were purged before anyone looked at them.
func TestPurge_uncountedRuns_countsThemFirst(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		db := open()
		s := migrated(t, db, nil)
		endedAgo(t, s, db, 3)
		done, err := s.Purge(t.Context(), webtrigger.Purge{Keep: webtrigger.Retention{Completed: time.Hour}, Stats: webtrigger.StatsAge, Limit: 10})
		require.NoError(t, err)
		require.Equal(t, 1, done.Triggers)
		require.Equal(t, 1, ended(t, s))
	})
}

// A purge does not wait for another process that counts.
func TestPurge_whileOthersCount_doesNotWait(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	endedAgo(t, s, db, 3)
	other, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	require.NoError(t, s.LockStats(ctx, other))
	_, err = s.Purge(ctx, webtrigger.Purge{Stats: webtrigger.StatsAge, Limit: 10})
	require.NoError(t, err)
	require.NoError(t, other.Rollback())
	require.Equal(t, 1, ended(t, s))
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

// Hours before the oldest run are not counted: the first look at 30 days of a store with a
// million runs would spend its time on them.
func TestEndCounts_hoursBeforeOldestRun_areNotCounted(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		db := open()
		s := migrated(t, db, nil)
		counted := func() (n int) {
			require.NoError(t, db.NewRaw(`SELECT count(*) FROM webtrigger_stats WHERE status = ''`).Scan(t.Context(), &n))
			return n
		}
		require.Zero(t, ended(t, s))
		require.Zero(t, counted())
		endedAgo(t, s, db, 3)
		require.Equal(t, 1, ended(t, s))
		require.Contains(t, []int{2, 3, 4}, counted(), "the hour of the run, and those since")
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
