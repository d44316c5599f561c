package bunstore_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger"
)

// The calls of the console's pages answer out of many runs. With
// WEBTRIGGER_LIST_RUNS=1000000 and -v it shows how long they take, of 20 calls each
// instead of 2.
func TestConsoleCalls_outOfMany_areAnswered(t *testing.T) {
	t.Parallel()
	n, each := manyRuns(t, 3000), 2
	if n > 3000 {
		each = 20
	}
	onBoth(t, func(t *testing.T, open func() *bun.DB) {
		db := open()
		s := migrated(t, db, nil)
		fillRuns(t, db, n)
		logDeliveries(t, db, n)
		fillRest(t, db, n)
		began := time.Now()
		for complete := false; !complete; {
			var err error
			_, complete, err = s.EndCounts(t.Context(), webtrigger.StatsQuery{From: listBegin.Truncate(time.Hour), To: listBegin.Truncate(time.Hour).Add(30 * 24 * time.Hour), Step: time.Hour})
			require.NoError(t, err)
		}
		t.Logf("the hours of all runs counted once: %v", time.Since(began).Round(time.Millisecond))
		measure(t, each, consoleCalls(s, n))
		measure(t, each, consoleRequests(t, s, n))
	})
}

// measure makes each call some times and logs how long it takes.
func measure(t *testing.T, each int, calls map[string]func(ctx context.Context) error) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		var took []time.Duration
		for range each {
			began := time.Now()
			require.NoError(t, calls[name](t.Context()), name)
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		t.Logf("%-90s median %8.2f ms, p95 %8.2f ms", name, ms(took[(each-1)/2]), ms(took[each*19/20-1]))
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// consoleCalls are what the pages ask of the store, by name.
func consoleCalls(s webtrigger.Store, n int64) map[string]func(ctx context.Context) error {
	page := webtrigger.Page{Limit: 51}
	end := listBegin.Add(time.Duration(n) * time.Second)
	undelivered := []webtrigger.DeliveryState{webtrigger.DeliveryFailed, webtrigger.DeliveryBlocked, webtrigger.DeliveryUnknown}
	runs := func(query webtrigger.RunQuery) func(ctx context.Context) error {
		query.Page = page
		return func(ctx context.Context) error { return failure(s.Runs(ctx, query)) }
	}
	counts := func(query webtrigger.RunQuery) func(ctx context.Context) error {
		return func(ctx context.Context) error { return failure(s.CountRuns(ctx, query, 1000)) }
	}
	texts := func(all bool) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			return failure(s.RunTexts(ctx, webtrigger.RunQuery{Page: webtrigger.Page{Limit: 250}}, all))
		}
	}
	find := func(filter webtrigger.DeliveryFilter) func(ctx context.Context) error {
		filter.Page = page
		return func(ctx context.Context) error { return failure(s.FindDeliveries(ctx, filter)) }
	}
	countDeliveries := func(filter webtrigger.DeliveryFilter) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			return failure(s.CountDeliveries(ctx, filter, webtrigger.MaxCount))
		}
	}
	return map[string]func(ctx context.Context) error{
		"runs, failed or timed out":             runs(webtrigger.RunQuery{Statuses: []webtrigger.RunStatus{webtrigger.RunFailed, webtrigger.RunTimedOut}}),
		"runs, callback failed":                 runs(webtrigger.RunQuery{CallbackStates: []webtrigger.DeliveryState{webtrigger.DeliveryFailed}}),
		"runs, callback failed, an assistant":   runs(webtrigger.RunQuery{AssistantID: "4", CallbackStates: undelivered}),
		"runs, callback pending":                runs(webtrigger.RunQuery{CallbackStates: []webtrigger.DeliveryState{webtrigger.DeliveryPending}}),
		"runs, callback delivered":              runs(webtrigger.RunQuery{CallbackStates: []webtrigger.DeliveryState{webtrigger.DeliveryDelivered}}),
		"runs, open, oldest first":              runs(webtrigger.RunQuery{OldestFirst: true, Statuses: []webtrigger.RunStatus{webtrigger.RunQueued, webtrigger.RunRunning, webtrigger.RunWaiting}}),
		"runs, completed":                       runs(webtrigger.RunQuery{Statuses: []webtrigger.RunStatus{webtrigger.RunCompleted}}),
		"runs, of a task":                       runs(webtrigger.RunQuery{TaskDefinitionID: 7}),
		"runs, oldest first":                    runs(webtrigger.RunQuery{OldestFirst: true}),
		"counts by status":                      counts(webtrigger.RunQuery{}),
		"counts by status, an assistant":        counts(webtrigger.RunQuery{AssistantID: "3"}),
		"counts by status, callback failed":     counts(webtrigger.RunQuery{CallbackStates: undelivered}),
		"counts by status, last day":            counts(webtrigger.RunQuery{From: end.Add(-24 * time.Hour)}),
		"texts of runs":                         texts(false),
		"texts of runs, with messages":          texts(true),
		"deliveries":                            find(webtrigger.DeliveryFilter{}),
		"deliveries, not delivered":             find(webtrigger.DeliveryFilter{States: undelivered}),
		"deliveries, not delivered, of a host":  find(webtrigger.DeliveryFilter{States: undelivered, Host: "host0"}),
		"deliveries, of an absent host":         find(webtrigger.DeliveryFilter{Host: "absent", States: undelivered}),
		"deliveries, pending":                   find(webtrigger.DeliveryFilter{States: []webtrigger.DeliveryState{webtrigger.DeliveryPending}}),
		"deliveries, blocked":                   find(webtrigger.DeliveryFilter{States: []webtrigger.DeliveryState{webtrigger.DeliveryBlocked}}),
		"deliveries, delivered, of a host":      find(webtrigger.DeliveryFilter{States: []webtrigger.DeliveryState{webtrigger.DeliveryDelivered}, Host: "host4"}),
		"deliveries by receiver, not delivered": countDeliveries(webtrigger.DeliveryFilter{Last: true, States: undelivered}),
		"deliveries by receiver, an assistant":  countDeliveries(webtrigger.DeliveryFilter{Last: true, AssistantID: "4"}),
		"deliveries by receiver":                countDeliveries(webtrigger.DeliveryFilter{Last: true}),
		"deliveries by receiver, last hour":     countDeliveries(webtrigger.DeliveryFilter{Last: true, From: end.Add(-time.Hour)}),
		"statistics of 30 days": func(ctx context.Context) error {
			from := listBegin.Truncate(time.Hour)
			_, _, err := s.EndCounts(ctx, webtrigger.StatsQuery{From: from, To: from.Add(30 * 24 * time.Hour), Step: 24 * time.Hour})
			return err
		},
		"statistics of 30 days, an assistant": func(ctx context.Context) error {
			from := listBegin.Truncate(time.Hour)
			_, _, err := s.EndCounts(ctx, webtrigger.StatsQuery{AssistantID: "3", From: from, To: from.Add(30 * 24 * time.Hour), Step: 24 * time.Hour})
			return err
		},
		"frequent errors": func(ctx context.Context) error { return failure(s.ErrorCounts(ctx, "", listBegin, 1000)) },
		"audit log":       func(ctx context.Context) error { return failure(s.Audit(ctx, webtrigger.AuditQuery{Page: page})) },
		"queue":           func(ctx context.Context) error { return failure(s.QueueState(ctx)) },
	}
}

// failure is the error of a call with a result.
func failure[T any](_ T, err error) error { return err }
