//go:build unix

package outagetest_test

import (
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

// The statements of a store by their texts.
var (
	renewal = regexp.MustCompile(`(?i)\bupdate\s+webtrigger_processes\s+set\s+contact_since\b`)
	write   = regexp.MustCompile(`(?i)\b(insert\s+into|delete\s+from|update)\s+webtrigger_`)
)

func isRenewal(text string) bool { return renewal.MatchString(text) }
func isWrite(text string) bool   { return write.MatchString(text) && !isRenewal(text) }

// One replica, which executes all runs, is cut off from the store, in whole or in
// part. Another one works. Whatever is cut, each run has one end and one callback, and
// nothing is stored for a Runner whose run another claim has.
func TestCutReplica_eachRunEndsOnce(t *testing.T) {
	t.Parallel()
	const n = 4
	swept, executed := webtrigger.RunTimedOut, webtrigger.RunCompleted
	for name, test := range map[string]struct {
		fault    pgtest.Fault
		lasts    time.Duration
		attempts int
		want     webtrigger.RunStatus
		calls    int  // of the Runner for each run, at least
		extra    bool // only in long
	}{
		"everything is closed, one attempt":              {pgtest.Fault{}, 5 * lease / 2, 1, swept, 1, false},
		"everything is closed, two attempts":             {pgtest.Fault{}, 5 * lease / 2, 2, executed, 2, true},
		"everything is held, one attempt":                {pgtest.Fault{Hold: true}, 5 * lease / 2, 1, swept, 1, true},
		"everything is held, two attempts":               {pgtest.Fault{Hold: true}, 5 * lease / 2, 2, executed, 2, false},
		"everything is closed for half a lease":          {pgtest.Fault{}, lease / 2, 1, executed, 1, true},
		"renewals are closed, one attempt":               {pgtest.Fault{Statements: isRenewal}, 5 * lease / 2, 1, swept, 1, false},
		"renewals are held, two attempts":                {pgtest.Fault{Statements: isRenewal, Hold: true}, 5 * lease / 2, 2, executed, 2, false},
		"writes are closed":                              {pgtest.Fault{Statements: isWrite}, 5 * lease / 2, 1, executed, 1, true},
		"writes are held for longer than their deadline": {pgtest.Fault{Statements: isWrite, Hold: true}, 11 * time.Second, 1, executed, 1, false},
	} {
		if test.extra && !long {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pgtest.Shared(t)
			p, database := placeOn(t, server)
			proxy := startProxy(t, server.Port())
			opts := webtrigger.Options{Workers: n, MaxAttempts: test.attempts}
			a := p.join("a", openStore(t, proxy.DSN(database)), opts)
			p.trigger(a, n, "hold")
			p.awaitRunning(n)
			for _, calls := range p.callsOf() {
				require.Equal(t, []string{"a"}, calls)
			}
			b := p.join("b", openStore(t, server.DSN(database)), opts)
			time.Sleep(lease) // b may sweep

			proxy.Disturb(test.fault)
			end := time.Now().Add(test.lasts)
			if test.calls > 1 || test.want == swept {
				eventually(t, func() bool { return p.tally()[webtrigger.RunTimedOut] == n || p.calledBy("b") == n })
			}
			time.Sleep(time.Until(end))
			proxy.Heal()
			time.Sleep(lease) // for the late writes of a
			p.open()
			require.Equal(t, map[webtrigger.RunStatus]int{test.want: n}, p.settle(n))
			a.stop()
			b.stop()
			require.Equal(t, map[webtrigger.RunStatus]int{test.want: n}, p.settle(n))
			for run, calls := range p.callsOf() {
				require.GreaterOrEqual(t, len(calls), test.calls, "run %d", run)
				if test.attempts == 1 {
					require.Len(t, calls, 1, "run %d", run)
				}
			}
		})
	}
}
