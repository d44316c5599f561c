package bunstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/schemas"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// consolePlans are the plans of calls that were slow out of many runs, each with the index
// that it needs.
func consolePlans(ctx context.Context, s *bunstore.Store, explain string, n int64) map[string]struct {
	plan func() (string, error)
	by   string
} {
	type entry = struct {
		plan func() (string, error)
		by   string
	}
	failed := []webtrigger.DeliveryState{webtrigger.DeliveryFailed}
	undelivered := append(failed, webtrigger.DeliveryBlocked, webtrigger.DeliveryUnknown)
	page := webtrigger.Page{Limit: 5} // few of those that have failed
	runs := func(query webtrigger.RunQuery, by string) entry {
		query.Page = page
		return entry{func() (string, error) { return s.Explain(ctx, explain, query) }, by}
	}
	deliveries := func(filter webtrigger.DeliveryFilter, by string) entry {
		filter.Page = page
		return entry{func() (string, error) { return s.ExplainDeliveries(ctx, explain, filter) }, by}
	}
	receivers := func(filter webtrigger.DeliveryFilter, by string) entry {
		filter.Last = true
		return entry{func() (string, error) { return s.ExplainDeliveryCount(ctx, explain, filter) }, by}
	}
	end := listBegin.Add(time.Duration(n) * time.Second)
	return map[string]entry{
		"runs, callback failed":                runs(webtrigger.RunQuery{CallbackStates: failed}, "deliveries_failed_runs"),
		"runs, callback not delivered":         runs(webtrigger.RunQuery{CallbackStates: undelivered}, "deliveries_failed_runs"),
		"runs, callback failed, oldest first":  runs(webtrigger.RunQuery{CallbackStates: failed, OldestFirst: true}, "deliveries_failed_runs"),
		"runs, failed or timed out":            runs(webtrigger.RunQuery{Statuses: []webtrigger.RunStatus{webtrigger.RunFailed, webtrigger.RunTimedOut}}, "ends_unsuccessful"),
		"deliveries, failed":                   deliveries(webtrigger.DeliveryFilter{States: failed}, "deliveries_unsuccessful"),
		"deliveries, not delivered":            deliveries(webtrigger.DeliveryFilter{States: undelivered}, "deliveries_unsuccessful"),
		"deliveries, not delivered, of a host": deliveries(webtrigger.DeliveryFilter{States: undelivered, Host: "host0"}, "deliveries_"),
		"deliveries by receiver":               receivers(webtrigger.DeliveryFilter{}, "deliveries_run"),
		"deliveries by receiver, last hour":    receivers(webtrigger.DeliveryFilter{From: end.Add(-time.Hour)}, "deliveries_run"),
		"deliveries by receiver, failed":       receivers(webtrigger.DeliveryFilter{States: failed}, "deliveries_run"),
	}
}

// On Postgres no call of the console reads all runs or deliveries, starts workers, or has a
// plan compiled.
func TestConsoleCalls_outOfMany_plansReadFewRows(t *testing.T) {
	t.Parallel()
	const n = 20_000
	db := postgresDB(t, schemas.Database(t))
	s := migrated(t, db, nil)
	fillRuns(t, db, n)
	logDeliveries(t, db, n)
	for name, c := range consolePlans(t.Context(), s, "EXPLAIN (SETTINGS)", n) {
		plan, err := c.plan()
		require.NoError(t, err)
		require.Contains(t, plan, "webtrigger_"+c.by, "%s:\n%s", name, plan)
		require.Contains(t, plan, "jit = 'off', max_parallel_workers_per_gather = '0'", "%s:\n%s", name, plan)
		for _, no := range []string{"Seq Scan on webtrigger_runs", "Seq Scan on webtrigger_ends", "Hash Join", "Merge Join", "Anti Join"} {
			require.NotContains(t, plan, no, "%s:\n%s", name, plan)
		}
	}
	plan, err := s.ExplainDeliveries(t.Context(), "EXPLAIN", webtrigger.DeliveryFilter{Host: "absent", Page: webtrigger.Page{Limit: 50}})
	require.NoError(t, err)
	require.Contains(t, plan, "webtrigger_deliveries_receiver", plan)
}

// On SQLite a page of runs by their callbacks reads them in their order.
func TestRuns_callbackFailedOnSQLite_areNotSorted(t *testing.T) {
	t.Parallel()
	db := sqliteDB(t, "")
	s := migrated(t, db, nil)
	fillRuns(t, db, 3000)
	logDeliveries(t, db, 3000)
	for name, c := range consolePlans(t.Context(), s, "EXPLAIN QUERY PLAN", 3000) {
		plan, err := c.plan()
		require.NoError(t, err)
		if c.by == "deliveries_failed_runs" {
			require.Contains(t, plan, "webtrigger_"+c.by, "%s:\n%s", name, plan)
			require.NotContains(t, plan, "ORDER BY", "%s:\n%s", name, plan)
		}
	}
}
