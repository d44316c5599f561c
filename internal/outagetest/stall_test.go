//go:build unix

package outagetest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

// The synchronous standby is unavailable for longer than a lease, and for longer than
// the 10 s that a statement, and a callback's claim, may take. Afterwards each replica
// has a lease to connect again, in attempts of a third of it, which takes seconds on a
// busy machine. A process that fails is swept, and its claims count as attempts.
var (
	outage       = scaled(13*time.Second, 36*time.Second)
	stalledLease = scaled(9*time.Second, 30*time.Second)
)

// stalled is one situation in which commits begin to stall. The situations share one
// outage, each on a database of its own.
type stalled struct {
	name   string
	begin  func(p *place, join func(name string, opts webtrigger.Options) *replica)
	during func() // while commits stall; returns at their end at the latest
	after  func() // when commits proceed
}

// A synchronous standby is unavailable for longer than a lease. Commits wait for it, and reads
// do not.
func TestStalledCommits_loseNothing(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	standby := startStandby(t, server, server.Port())
	require.NoError(t, server.Set("synchronous_standby_names", standbyName))
	require.NoError(t, server.AwaitSynchronous(standbyName))

	situations := []*stalled{
		queuedRuns(), createdTriggers(), runsUnderWay(),
		claimedCallback(), // last: its 10 s begin
	}
	var places []*place
	for _, s := range situations {
		p, database := placeOn(t, server)
		p.lease = stalledLease
		places = append(places, p)
		s.begin(p, func(name string, opts webtrigger.Options) *replica {
			return p.join(name, openStore(t, server.DSN(database)), opts)
		})
	}

	require.NoError(t, standby.Down(pgtest.Fast))
	began := time.Now()
	var all sync.WaitGroup
	for _, s := range situations {
		all.Go(s.during)
	}
	for time.Since(began) < outage {
		read := time.Now()
		for _, p := range places {
			p.runs()
		}
		require.Less(t, time.Since(read), 5*time.Second, "reads must not wait for commits")
		time.Sleep(time.Second)
	}
	require.NoError(t, standby.Up())
	all.Wait()
	for i, s := range situations {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			places[i].T = t
			s.after()
		})
	}
}

// queuedRuns are claimed by two workers whose claims are answered too late, or never.
func queuedRuns() *stalled {
	n := number(80, 200)
	var p *place
	var workers []*replica
	return &stalled{
		name: "queued runs are executed once",
		begin: func(place *place, join func(string, webtrigger.Options) *replica) {
			p = place
			front := join("front", webtrigger.Options{NoWorkers: true})
			for _, name := range []string{"a", "b"} {
				workers = append(workers, p.withoutClaims(join, name, worker(16)))
			}
			p.trigger(front, n, "work")
		},
		during: func() {
			for _, w := range workers {
				w.store.noClaims.Store(false)
				w.Wake()
			}
		},
		after: func() {
			require.Equal(p, map[webtrigger.RunStatus]int{webtrigger.RunCompleted: n}, p.settle(n))
			p.checkCalledOnce(n)
		},
	}
}

// createdTriggers are answered with 503. Their callers repeat them.
func createdTriggers() *stalled {
	const n = 10
	var p *place
	var a *replica
	var answers [n]*httptest.ResponseRecorder
	return &stalled{
		name: "created triggers are executed, and replayed",
		begin: func(place *place, join func(string, webtrigger.Options) *replica) {
			p, a = place, join("a", worker(16))
			require.Equal(p, http.StatusAccepted, p.post(a, "warm-up").Code)
			p.settle(1)
		},
		during: func() {
			var all sync.WaitGroup
			for i := range n {
				all.Go(func() { answers[i] = p.post(a, fmt.Sprint("job-", i)) })
			}
			all.Wait()
		},
		after: func() {
			unavailable := 0
			for i, first := range answers {
				if first.Code == http.StatusServiceUnavailable {
					unavailable++
				} else {
					require.Equal(p, http.StatusAccepted, first.Code, first.Body)
				}
				var again *httptest.ResponseRecorder
				eventually(p.T, func() bool {
					again = p.post(a, fmt.Sprint("job-", i))
					return again.Code == http.StatusAccepted
				})
				var body struct {
					RunID int64 `json:"run_id"`
				}
				require.NoError(p, json.Unmarshal(again.Body.Bytes(), &body))
				run, err := p.store.RunByID(p.Context(), body.RunID)
				require.NoError(p, err)
				require.Contains(p, []webtrigger.RunStatus{webtrigger.RunQueued, webtrigger.RunRunning, webtrigger.RunCompleted}, run.Status,
					"a replayed 202 must not name a run that has failed")
			}
			require.Positive(p, unavailable, "commits must have stalled")
			require.Equal(p, map[webtrigger.RunStatus]int{webtrigger.RunCompleted: n + 1}, p.settle(n+1))
			p.checkCalledOnce(n + 1)
		},
	}
}

// runsUnderWay are executed by one replica. Another one sweeps.
func runsUnderWay() *stalled {
	const n = 8
	var p *place
	return &stalled{
		name: "runs under way continue",
		begin: func(place *place, join func(string, webtrigger.Options) *replica) {
			p = place
			join("front", webtrigger.Options{NoWorkers: true})
			p.trigger(join("a", worker(n)), n, "hold")
			p.awaitRunning(n)
		},
		during: func() {},
		after: func() {
			time.Sleep(p.lease + p.lease/2) // for sweeps
			require.Equal(p, map[webtrigger.RunStatus]int{webtrigger.RunRunning: n}, p.tally())
			p.open()
			require.Equal(p, map[webtrigger.RunStatus]int{webtrigger.RunCompleted: n}, p.settle(n))
			p.checkCalledOnce(n)
		},
	}
}

// claimedCallback is a callback whose connection stands, and whose claim stalls for
// longer than the 10 s that it may take.
func claimedCallback() *stalled {
	var p *place
	var release func()
	return &stalled{
		name: "a callback is sent once, although its claim may be stored",
		begin: func(place *place, join func(string, webtrigger.Options) *replica) {
			p = place
			release = p.receiver.holdHandshakes(p.T)
			a := join("a", worker(1))
			join("b", webtrigger.Options{NoWorkers: true})
			p.trigger(a, 1, "work")
			eventually(p.T, func() bool { return p.receiver.handshakes() == 1 })
		},
		during: func() { release() },
		after: func() {
			require.Equal(p, map[webtrigger.RunStatus]int{webtrigger.RunCompleted: 1}, p.settle(1))
			require.Equal(p, map[webtrigger.DeliveryState]int{webtrigger.DeliveryDelivered: 1}, p.deliveries())
		},
	}
}

// withoutClaims joins a replica that claims nothing yet.
func (p *place) withoutClaims(join func(string, webtrigger.Options) *replica, name string, opts webtrigger.Options) *replica {
	p.Helper()
	p.noClaims = true
	defer func() { p.noClaims = false }()
	return join(name, opts)
}

// checkCalledOnce checks that n runs were given to a Runner, each once.
func (p *place) checkCalledOnce(n int) {
	p.Helper()
	calls := p.callsOf()
	require.Len(p, calls, n)
	for run, replicas := range calls {
		require.Len(p, replicas, 1, "run %d", run)
	}
}
