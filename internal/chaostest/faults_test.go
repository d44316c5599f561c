//go:build unix && chaos

package chaostest_test

import (
	"math/rand/v2"
	"regexp"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"

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

// several is a replica whose runs have several attempts. A fault of one replica concerns
// one of them. The others are the first one, and the one that is behind PgBouncer.
type several int

const (
	direct several = 1
	pooled several = 2
	either several = 0
)

func (s several) of(r *rig) *replica {
	if s == either {
		s = several(1 + rand.IntN(2))
	}
	return r.replicas[s]
}

// occupy has a replica execute runs that take as long as a fault lasts, also if the
// others sweep them meanwhile and execute them again, and send callbacks to a receiver
// that answers late.
func (r *rig) occupy(x *replica, takes time.Duration) {
	late := func() string { return r.receivers.slow.URL + "/" }
	for i := range 6 {
		a := r.load.assistants[i]
		r.load.under.Go(func() { r.load.send(a, takes, func() *replica { return x }) })
		r.load.under.Go(func() { r.load.sendTo(a, a.name(), 0, late, func() *replica { return x }) })
	}
	time.Sleep(300 * time.Millisecond)
}

// killed is kill -9 at a random instant.
func killed(which several) *fault {
	return &fault{name: "kill -9 of a replica", end: none, begin: func(r *rig) {
		x := which.of(r)
		r.occupy(x, lease)
		time.Sleep(rand.N(300 * time.Millisecond))
		r.kill(x)
	}}
}

// stopped is SIGSTOP for longer than a lease: the others sweep the replica's runs, and
// execute them when it continues.
func stopped(which several, lasts time.Duration) *fault {
	var x *replica
	return &fault{name: "SIGSTOP of a replica", lasts: lasts,
		begin: func(r *rig) {
			x = which.of(r)
			r.occupy(x, lasts)
			x.signal(r.T, syscall.SIGSTOP)
		},
		end: func(r *rig) { x.signal(r.T, syscall.SIGCONT) },
	}
}

// cut is a replica without a way to the store, for longer than a lease. Its connections
// are closed, or are silent.
func cut(which several, lasts time.Duration) *fault {
	var x *replica
	return &fault{name: "cut between a replica and the store", lasts: lasts,
		begin: func(r *rig) {
			x = which.of(r)
			r.occupy(x, lasts)
			x.link.Disturb(pgtest.Fault{Hold: rand.IntN(2) == 0})
		},
		end: func(*rig) { x.link.Heal() },
	}
}

var writes = regexp.MustCompile(`(?i)\b(insert\s+into|delete\s+from|update)\s+webtrigger_`)

// unanswered is a replica that often gets no answer to its writes: the connection is
// closed. In turns, none of these writes is stored, and all are.
func unanswered() *fault {
	return &fault{name: "writes of a replica without an answer", end: none, begin: func(r *rig) {
		x := r.replicas[rand.IntN(3)]
		for i := range 10 {
			x.link.Disturb(pgtest.Fault{Answers: i%2 == 0, Statements: func(text string) bool { return writes.MatchString(text) && rand.IntN(3) == 0 }})
			time.Sleep(200 * time.Millisecond)
		}
		x.link.Heal()
	}}
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
