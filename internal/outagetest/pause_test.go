//go:build unix

package outagetest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

// The whole store pauses for three leases: its processes are stopped. Later, it
// crashes and is unavailable for more than a lease. None of the runs under way ends, and all
// complete afterwards, also if each replica restarts once.
func TestPausedStore_runsUnderWay_complete(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	steady := newUnderWay(t, server, webtrigger.Options{MaxAttempts: 1})
	restarted := newUnderWay(t, server, webtrigger.Options{MaxAttempts: 2, DrainTimeout: -1})
	time.Sleep(pausedLease) // now all replicas are in contact for a lease: they may sweep

	require.NoError(t, server.Pause())
	t.Cleanup(func() { require.NoError(t, server.Resume()) })
	end := time.Now().Add(scaled(3*pausedLease, 120*time.Second))
	restarted.a.stop()
	restarted.a = restarted.start("a again", openStore(t, restarted.dsn), restarted.opts)
	time.Sleep(time.Until(end))
	require.NoError(t, server.Resume())
	steady.checkAllRunning()

	require.NoError(t, server.Down(pgtest.Immediate))
	time.Sleep(pausedLease + pausedLease/2)
	require.NoError(t, server.Up())
	restarted.b.stop()
	restarted.b = restarted.start("b again", openStore(t, restarted.dsn), restarted.opts)
	steady.checkAllRunning()

	for name, u := range map[string]*underWay{"steady replicas": steady, "restarted replicas": restarted} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u.T = t
			u.open()
			require.Equal(t, map[webtrigger.RunStatus]int{webtrigger.RunCompleted: manyRuns}, u.settle(manyRuns))
			if u == steady {
				u.checkCalledOnce(manyRuns)
			}
		})
	}
}

var (
	manyRuns    = number(40, 100)
	pausedLease = scaled(2*time.Second, 30*time.Second)
)

// underWay is a place where two replicas hold many runs.
type underWay struct {
	*place
	dsn  string
	opts webtrigger.Options
	a, b *replica
}

func newUnderWay(t *testing.T, server *pgtest.Server, opts webtrigger.Options) *underWay {
	t.Helper()
	p, database := placeOn(t, server)
	p.pace, p.lease = time.Second, pausedLease
	opts.Workers = manyRuns / 2
	hold := webtrigger.TriggerRequest{Message: "hold"}
	u := &underWay{place: p, dsn: server.DSN(database), opts: opts}
	u.a = p.join("a", openStore(t, u.dsn), opts)
	p.triggerAll(u.a, manyRuns/2, hold)
	u.b = p.join("b", openStore(t, u.dsn), opts)
	p.triggerAll(u.b, manyRuns/2, hold)
	p.awaitRunning(manyRuns)
	return u
}

// checkAllRunning checks that no run has ended, when sweeps have had their time: a
// process may sweep one lease after its first renewal.
func (u *underWay) checkAllRunning() {
	u.Helper()
	time.Sleep(pausedLease + pausedLease/2)
	require.Equal(u, map[webtrigger.RunStatus]int{webtrigger.RunRunning: manyRuns}, u.tally())
}
