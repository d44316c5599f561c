//go:build unix

package outagetest_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

// cluster is a primary with a standby, and the address that leads to the one that
// accepts writes.
type cluster struct {
	primary, standby *pgtest.Server
	address          *pgtest.Proxy // of the cluster
	replication      *pgtest.Proxy // what the standby connects to
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{primary: startServer(t)}
	c.address = startProxy(t, c.primary.Port())
	c.replication = startProxy(t, c.primary.Port())
	c.standby = startStandby(t, c.primary, c.replication.Port())
	return c
}

// misdirect leads the address to the standby for a second: nothing is stored, and
// within 5 s of its end the store works again.
func (c *cluster) misdirect(t *testing.T, situations ...*lastCommits) {
	t.Helper()
	c.address.Point(c.standby.Port())
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		for _, s := range situations {
			require.Equal(t, http.StatusServiceUnavailable, s.post(s.front, "misdirected").Code)
		}
	}
	c.address.Point(c.primary.Port())
	began := time.Now()
	for _, s := range situations {
		for s.post(s.front, "misdirected").Code != http.StatusAccepted {
			require.Less(t, time.Since(began), 5*time.Second)
			time.Sleep(20 * time.Millisecond)
		}
		s.settle(1)
	}
}

// A standby takes over that does not have the last commits of the primary. Whether or
// not commits wait for it, old holders of claims store nothing. Only if they do not
// wait, a trigger that was answered with 202 is lost, and a callback is sent twice.
func TestFailover_standbyWithoutLastCommits(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	require.NoError(t, c.primary.Set("synchronous_standby_names", standbyName))
	require.NoError(t, c.primary.AwaitSynchronous(standbyName))
	asynchronous, synchronous := newLastCommits(t, c, false), newLastCommits(t, c, true)
	c.misdirect(t, asynchronous, synchronous)
	asynchronous.begin()
	synchronous.begin()
	require.NoError(t, c.standby.AwaitReplay(c.primary))
	c.replication.Disturb(pgtest.Fault{}) // later commits do not reach the standby
	asynchronous.commit()                 // first: its callback has 10 s
	synchronous.commit()

	require.NoError(t, c.standby.Promote())
	c.address.Point(c.standby.Port())
	t.Run("asynchronous", func(t *testing.T) {
		t.Parallel()
		asynchronous.after(t)
	})
	t.Run("synchronous", func(t *testing.T) {
		t.Parallel()
		synchronous.after(t)
	})
}

// lastCommits is a place in which claims of runs, the claim of a callback and a
// trigger are the last commits before a failover.
type lastCommits struct {
	*place
	dsn         string
	synchronous bool
	front, a, b *replica
	release     func()   // permits the claim of the callback
	late        chan int // the answer to the last trigger
}

const lastRuns = 8 // that are claimed

func newLastCommits(t *testing.T, c *cluster, synchronous bool) *lastCommits {
	t.Helper()
	p, database := placeOn(t, c.primary)
	if !synchronous {
		_, err := c.primary.Psql("postgres", `ALTER DATABASE `+database+` SET synchronous_commit = local`)
		require.NoError(t, err)
	}
	p.lease = 2 * lease // no process expires while the address leads to the standby
	s := &lastCommits{place: p, dsn: c.address.DSN(database), synchronous: synchronous, late: make(chan int, 1)}
	s.front = p.join("front", openStore(t, s.dsn), webtrigger.Options{NoWorkers: true})
	s.a = p.join("a", openStore(t, s.dsn), worker(lastRuns))
	s.b = p.join("b", openStore(t, s.dsn), worker(lastRuns))
	return s
}

// begin queues runs, and connects a callback that is not claimed yet.
func (s *lastCommits) begin() {
	s.Helper()
	s.release = s.receiver.holdHandshakes(s.T)
	s.trigger(s.front, 1, "work")
	eventually(s.T, func() bool { return s.receiver.handshakes() == 1 })
	s.a.store.noClaims.Store(true)
	s.b.store.noClaims.Store(true)
	s.trigger(s.front, lastRuns, "hold")
}

// commit claims the runs and the callback, and triggers.
func (s *lastCommits) commit() {
	s.Helper()
	s.release()
	s.a.store.noClaims.Store(false)
	s.a.Wake()
	go func() { s.late <- s.post(s.front, "late").Code }()
	const before = 2 // runs that have ended
	if s.synchronous {
		time.Sleep(time.Second)
		require.Equal(s, before, s.callCount(), "a claim that is not on the standby must not execute a run")
		return
	}
	eventually(s.T, func() bool {
		return s.callCount() == before+lastRuns && s.deliveries()[webtrigger.DeliveryDelivered] == before
	})
	require.Equal(s, http.StatusAccepted, <-s.late)
}

func (s *lastCommits) after(t *testing.T) {
	s.T = t
	s.b.store.noClaims.Store(false)
	s.b.Wake()
	if s.synchronous {
		require.Equal(t, http.StatusServiceUnavailable, <-s.late, "a commit that is not on the standby must not be acknowledged")
	}
	s.store = openStore(t, s.dsn)
	var again *httptest.ResponseRecorder
	eventually(t, func() bool { again = s.post(s.front, "late"); return again.Code == http.StatusAccepted })
	require.Empty(t, again.Header().Get("Idempotent-Replayed"), "the standby did not have that trigger")
	eventually(t, func() bool { return s.tally()[webtrigger.RunRunning] == lastRuns })
	time.Sleep(lease)
	s.open()
	all := lastRuns + 3
	if !s.synchronous {
		runs := s.runs() // the newest first
		twice := runs[len(runs)-2].Key
		s.receiver.expect(twice, 2)
		eventually(t, func() bool { return s.receiver.count(twice) == 2 }) // when the lease of the delivery has ended
	}
	require.Equal(t, map[webtrigger.RunStatus]int{webtrigger.RunCompleted: all}, s.settle(all))
	s.checkTokens(s.a, s.b)
	if s.synchronous {
		s.checkCalledOnce(all)
	}
}

// checkTokens checks that no two claims of a run have the same token.
func (p *place) checkTokens(replicas ...*replica) {
	p.Helper()
	seen := make(map[webtrigger.Lease]bool)
	for _, r := range replicas {
		for _, lease := range r.store.claimed() {
			require.False(p, seen[lease], "two claims of run %d have the token %d", lease.RunID, lease.Token)
			seen[lease] = true
		}
	}
	require.NotEmpty(p, seen)
}
