// Package storetest is the contract of [webtrigger.Store] as tests: every rule
// that its doc comments state, by name. A store that passes Run whole, also
// under the race detector, is a store; there are no options and no exceptions.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) webtrigger.Store { return memstore.New(nil) })
//	}
//
// The suite looks at a store through its interface only and goes by the store's
// own clock, so the store may sit on a database of another machine. It waits for
// short leases to expire, never for a certain time to pass, and asserts orders
// rather than durations. It depends on no absolute ids.
package storetest

import (
	"context"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
)

// rule is one sentence of the contract and the check of it.
type rule struct {
	says  string
	check func(b *rig)
}

type group struct {
	name  string
	rules []rule
}

func groups() []group {
	return []group{
		{"channels", channelRules()},
		{"secrets", secretRules()},
		{"keys", keyRules()},
		{"tasks", taskRules()},
		{"triggers", triggerRules()},
		{"take", takeRules()},
		{"text", textRules()},
		{"json", jsonRules()},
		{"idempotency", idempotencyRules()},
		{"bounds", boundRules()},
		{"runs", runRules()},
		{"summaries", summaryRules()},
		{"conversations", conversationRules()},
		{"history", historyRules()},
		{"lanes", laneRules()},
		{"claims", claimRules()},
		{"fairness", fairnessRules()},
		{"processes", processRules()},
		{"contact", contactRules()},
		{"fencing", fencingRules()},
		{"batches", batchRules()},
		{"steps", stepRules()},
		{"events", eventRules()},
		{"tail", tailRules()},
		{"finish", finishRules()},
		{"stops", stopRules()},
		{"inputs", inputRules()},
		{"requeue", requeueRules()},
		{"sweep", sweepRules()},
		{"queue", queueRules()},
		{"deliveries", deliveryRules()},
		{"outcomes", deliveryOutcomeRules()},
		{"returns", returnRules()},
		{"retries", retryRules()},
		{"turns", turnRules()},
		{"retention", retentionRules()},
		{"audit", auditRules()},
		{"finds", findRules()},
		{"stats", statsRules()},
		{"isolation", isolationRules()},
		{"copies", copyRules()},
		{"times", timeRules()},
		{"contexts", contextRules()},
		{"watch", watchRules()},
	}
}

// Run holds a store to the contract. Each rule is a subtest "group/rule" with a
// store of its own: newStore returns an empty one and registers its disposal with
// t.Cleanup. Six rules are under way at a time, independent of -parallel: most
// of a rule's time is waiting. Names of groups restrict it to these, for a store
// in another configuration; none: all.
func Run(t *testing.T, newStore func(t *testing.T) webtrigger.Store, only ...string) {
	t.Helper()
	all := groups()
	for _, name := range only {
		if !slices.ContainsFunc(all, func(g group) bool { return g.name == name }) {
			t.Fatalf("storetest: there is no group %q", name)
		}
	}
	if len(only) > 0 {
		all = slices.DeleteFunc(all, func(g group) bool { return !slices.Contains(only, g.name) })
	}
	slots := make(chan struct{}, atOnce)
	together(all, func(g group) {
		t.Run(g.name, func(t *testing.T) {
			together(g.rules, func(r rule) {
				slots <- struct{}{}
				defer func() { <-slots }()
				t.Run(r.says, func(t *testing.T) { r.hold(t, newStore) })
			})
		})
	})
}

// atOnce is how many rules are under way at a time.
const atOnce = 6

// together calls do with each item at once and returns when all have returned.
func together[T any](items []T, do func(item T)) {
	var done sync.WaitGroup
	for _, item := range items {
		done.Go(func() { do(item) })
	}
	done.Wait()
}

// hold holds a new store to the rule.
func (r rule) hold(t *testing.T, newStore func(t *testing.T) webtrigger.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	defer failPanic(t)
	b := &rig{Assertions: require.New(t), t: t, ctx: ctx, store: newStore(t)}
	b.begin()
	r.check(b)
}

// patience bounds one rule, so that a store that hangs fails by name.
const patience = 2 * time.Minute

// failPanic fails one rule instead of the whole suite if the rule panics, for example
// because a store returned fewer items than the rule reads.
func failPanic(t *testing.T) {
	if p := recover(); p != nil {
		t.Errorf("panic: %v\n%s", p, debug.Stack())
	}
}
