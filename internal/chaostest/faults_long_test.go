//go:build unix && chaos

package chaostest_test

import (
	"math/rand/v2"
	"net"
	"regexp"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

// crashed is a crash of PostgreSQL, which is unavailable for longer than a lease. The first
// replica, whose runs have one attempt, reaches it later than the others: for that time
// it has expired, and they have not.
func crashed(later time.Duration) *fault {
	return &fault{name: "crash of Postgres", lasts: lease + lease/2,
		begin: func(r *rig) {
			r.occupy(r.replicas[0], lease)
			require.NoError(r, r.primary.Down(pgtest.Immediate))
			r.replicas[0].link.Disturb(pgtest.Fault{})
		},
		end: func(r *rig) {
			require.NoError(r, r.primary.Up())
			time.Sleep(later)
			r.replicas[0].link.Heal()
		},
	}
}

var outcomes = regexp.MustCompile(`(?i)\bupdate\s+webtrigger_deliveries\s+(d\s+)?set\s+state\b`)

// lostClaims is a replica whose claims and outcomes of callbacks are not stored, until the
// leases of 15 s have expired.
func lostClaims(w which) *fault {
	return disturbed("claims and outcomes of callbacks that are lost", w, 20*time.Second,
		pgtest.Fault{Statements: outcomes.MatchString})
}

// killedLocked is kill -9 of a replica, while another program has locked some of its
// rows. The others sweep the rest in time.
func killedLocked(w which) *fault {
	return &fault{name: "kill -9 of a replica, some of its rows locked", end: none, begin: func(r *rig) {
		x, locked := w.of(r), r.load.assistants[lockedAssistant]
		var first []*sent // a sweep begins with them
		for range 4 {
			first = append(first, r.load.send(locked, work{takes: 2 * lease}, func() *replica { return x }))
			require.NotNil(r, first[len(first)-1])
		}
		runs := r.occupy(x, lease)
		tx := r.transaction()
		_, err := tx.ExecContext(r.Context(), `SELECT FROM webtrigger_queue WHERE assistant_id = ? FOR UPDATE`, locked.id)
		require.NoError(r, err)
		r.kill(x)
		began := time.Now()
		r.overtaken(runs)
		took := time.Since(began).Round(time.Millisecond)
		r.T.Logf("the runs that are not locked are swept after %v", took)
		assert.Less(r.T, took, 2*lease+2*time.Second, "time to sweep the runs that are not locked")
		require.NoError(r, tx.Rollback())
	}}
}

// slowReceiver is a receiver of one assistant that takes seconds to answer.
func slowReceiver(lasts time.Duration) *fault {
	return &fault{name: "slow receiver", lasts: lasts, slow: true, about: tenants,
		begin: func(r *rig) { r.divert(slowAssistant, lasts, func() string { return r.receivers.slow.URL + "/" }) },
		end:   func(r *rig) { r.load.assistants[slowAssistant].url.Store(nil) },
	}
}

// deadReceivers are receivers of one assistant that do not respond, on several hosts.
func deadReceivers(lasts time.Duration) *fault {
	return &fault{name: "dead receivers", lasts: lasts, slow: true, about: tenants,
		begin: func(r *rig) { r.divert(silentAssistant, lasts, r.silent()) },
		end:   func(r *rig) { r.load.assistants[silentAssistant].url.Store(nil) },
	}
}

// divert has an assistant's callbacks go elsewhere: for as long as the fault lasts, those
// of more runs than all replicas together have senders.
func (r *rig) divert(assistant int, lasts time.Duration, url func() string) {
	a := r.load.assistants[assistant]
	a.url.Store(&url)
	for range 3 * senders * max(int(lasts/(8*time.Second)), 1) {
		r.load.under.Go(func() { r.load.send(a, work{}, r.load.next) })
	}
}

// silent returns addresses that accept connections and do not respond.
func (r *rig) silent() func() string {
	r.Helper()
	var all []string
	for range 8 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		require.NoError(r, err)
		r.Cleanup(func() { l.Close() })
		all = append(all, "https://"+l.Addr().String()+"/")
	}
	return func() string { return all[rand.IntN(len(all))] }
}
