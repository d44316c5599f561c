//go:build unix

package chaostest_test

import (
	"math/rand/v2"
	"regexp"
	"sync"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

// fault is one kind of disturbance.
type fault struct {
	name  string
	lasts time.Duration // from Begin to End
	begin func(r *rig)
	end   func(r *rig)
	after func(r *rig) // when the system has recovered; nil: nothing
	about about
	slow  bool // a round takes a minute
}

// about is the group that a fault affects, and so what is measured: the time to recover,
// or the effect on the other assistants.
type about int

const (
	everybody about = iota
	tenants         // assistants with a role of their own
	commits         // commits are lost, and the check accepts that
)

func none(*rig) {}

// which is a replica. A fault that has others execute its runs again concerns one whose
// runs have several attempts: direct, or pooled, which is behind PgBouncer.
type which int

const (
	single which = 0 // its runs have one attempt
	direct which = 1
	pooled which = 2
	either which = 3 // direct or pooled
	random which = 4
)

func (w which) of(r *rig) *replica {
	switch w {
	case either:
		w = direct + which(rand.IntN(2))
	case random:
		w = which(rand.IntN(3))
	}
	return r.replicas[w]
}

// occupy has a replica execute runs, and send callbacks to a receiver that answers late.
// Every second run stores one event only, so that its next write is its end.
func (r *rig) occupy(x *replica, takes time.Duration) (runs []*sent) {
	late := func() string { return r.receivers.slow.URL + "/" }
	at := func() *replica { return x }
	runs = make([]*sent, 6)
	var all sync.WaitGroup
	for i := range runs {
		a := r.load.assistants[i]
		all.Go(func() { runs[i] = r.load.sendTo(a, a.name(), work{takes, i%2 == 1}, late, at) })
		r.load.under.Go(func() { r.load.sendTo(a, a.name(), work{}, late, at) })
	}
	all.Wait()
	for _, s := range runs {
		require.NotNil(r, s)
	}
	return runs
}

// lead is how long the runs of a replica work before it is disturbed. By then they have
// stored more batches of events than those of the next claim soon have: the number of a
// batch must not be what rejects a late one.
const lead = 1500 * time.Millisecond

// overtaken waits until others have claimed runs again, or have ended them.
func (r *rig) overtaken(runs []*sent) {
	r.Helper()
	var keys []string
	for _, s := range runs {
		key, _ := r.load.ack(s)
		keys = append(keys, key)
	}
	require.Eventually(r, func() bool {
		var left int
		err := r.db.NewRaw(`SELECT count(*) FROM webtrigger_runs r JOIN webtrigger_queue q ON q.run_id = r.id
			WHERE r.run_key IN (?) AND q.attempts < 2`, bun.List(keys)).Scan(r.Context(), &left)
		return err == nil && left == 0
	}, patience, 20*time.Millisecond, "other replicas must claim the runs")
}

// killed is kill -9 at a random instant.
func killed(w which) *fault {
	return &fault{name: "kill -9 of a replica", end: none, begin: func(r *rig) {
		x := w.of(r)
		r.occupy(x, lease)
		time.Sleep(rand.N(600 * time.Millisecond))
		r.kill(x)
	}}
}

// stopped is SIGSTOP until others have claimed the replica's runs. When it continues, its
// Runners write at once, before it detects that it is lost.
func stopped(w which) *fault {
	var x *replica
	var runs []*sent
	return &fault{name: "SIGSTOP of a replica", lasts: lease,
		begin: func(r *rig) {
			x = w.of(r)
			runs = r.occupy(x, lead+500*time.Millisecond)
			time.Sleep(lead)
			x.signal(r.T, syscall.SIGSTOP)
		},
		end: func(r *rig) {
			r.overtaken(runs)
			x.signal(r.T, syscall.SIGCONT)
		},
	}
}

// cut is a replica without a way to the store, until others have claimed its runs. Its
// connections are closed, or, more often, are silent: then what it has sent arrives when
// other claims have the runs.
func cut(w which) *fault {
	var x *replica
	var runs []*sent
	return &fault{name: "cut between a replica and the store", lasts: lease,
		begin: func(r *rig) {
			x = w.of(r)
			runs = r.occupy(x, lead+500*time.Millisecond)
			time.Sleep(lead)
			x.link.Disturb(pgtest.Fault{Hold: w != either || rand.IntN(3) > 0})
		},
		end: func(r *rig) {
			r.overtaken(runs)
			x.link.Heal()
		},
	}
}

var (
	writes = regexp.MustCompile(`(?i)\b(insert\s+into|delete\s+from|update)\s+webtrigger_`)
	begins = regexp.MustCompile(`(?i)\bupdate\s+webtrigger_deliveries\s+(d\s+)?set\s+state\s*=\s*'sending'`)
)

// unanswered is a replica that often gets no answer to its writes: the connection is
// closed. In turns, none of these writes is stored, and all are.
func unanswered(w which) *fault {
	return &fault{name: "writes of a replica without an answer", end: none, begin: func(r *rig) {
		x := w.of(r)
		for i := range 10 {
			x.link.Disturb(pgtest.Fault{Answers: i%2 == 0, Statements: func(text string) bool { return writes.MatchString(text) && rand.IntN(3) == 0 }})
			time.Sleep(200 * time.Millisecond)
		}
		x.link.Heal()
	}}
}

// unansweredClaims is a replica that gets no answers to its claims of callbacks, which are
// stored, for longer than the 10 s of an attempt.
func unansweredClaims(w which) *fault {
	return disturbed("claims of callbacks without an answer", w, 12*time.Second,
		pgtest.Fault{Answers: true, Statements: begins.MatchString})
}

// lateClaims is a replica whose claims of callbacks arrive when it has given them up.
func lateClaims(w which) *fault {
	return disturbed("claims of callbacks that arrive late", w, 12*time.Second,
		pgtest.Fault{Hold: true, Statements: begins.MatchString})
}

// disturbed is a replica some of whose statements are disturbed.
func disturbed(name string, w which, lasts time.Duration, how pgtest.Fault) *fault {
	var x *replica
	return &fault{name: name, lasts: lasts, slow: true,
		begin: func(r *rig) {
			x = w.of(r)
			x.link.Disturb(how)
		},
		end: func(*rig) { x.link.Heal() },
	}
}

// jumped is a clock that is an hour wrong on two of three replicas.
func jumped() *fault {
	jump := func(r *rig) {
		for _, x := range r.replicas[1:] {
			x.signal(r.T, syscall.SIGUSR1)
		}
	}
	return &fault{name: "clock jumps", lasts: 2 * time.Second, begin: jump, end: jump}
}

// restarted is an orderly restart of PostgreSQL.
func restarted() *fault {
	return &fault{name: "restart of Postgres", lasts: 300 * time.Millisecond,
		begin: func(r *rig) { require.NoError(r, r.primary.Down(pgtest.Fast)) },
		end:   func(r *rig) { require.NoError(r, r.primary.Up()) },
	}
}
