//go:build unix && chaos

package chaostest_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

// The names of the standbys.
const (
	second = "second" // synchronous
	third  = "third"  // asynchronous
)

// standbys are the standbys of a cluster, and the addresses to which they connect.
type standbys struct {
	*cluster
	synchronous, asynchronous         *pgtest.Server
	feedSynchronous, feedAsynchronous *pgtest.Proxy
}

func (s *standbys) start(c *cluster) {
	s.cluster = c
	s.feedSynchronous = startProxy(c.T, c.primary.Port())
	s.feedAsynchronous = startProxy(c.T, c.primary.Port())
	c.Cleanup(func() {
		for _, standby := range []*pgtest.Server{s.synchronous, s.asynchronous} {
			if standby != nil {
				standby.Stop()
			}
		}
	})
	s.complete()
}

// complete starts the standbys that are missing. Then commits wait for the
// synchronous one.
func (s *standbys) complete() {
	s.Helper()
	if s.synchronous != nil && s.asynchronous != nil {
		return
	}
	var both sync.WaitGroup
	var errs [2]error
	for i, start := range []struct {
		standby **pgtest.Server
		name    string
		feed    *pgtest.Proxy
	}{{&s.synchronous, second, s.feedSynchronous}, {&s.asynchronous, third, s.feedAsynchronous}} {
		if *start.standby == nil {
			both.Go(func() { *start.standby, errs[i] = pgtest.StartStandby(s.primary, start.name, start.feed.Port()) })
		}
	}
	both.Wait()
	require.NoError(s, errors.Join(errs[:]...))
	require.NoError(s, s.primary.Set("synchronous_standby_names", second))
	require.NoError(s, s.primary.AwaitSynchronous(second))
	require.NoError(s, s.asynchronous.AwaitReplay(s.primary))
}

// failover ends the primary as a crash does, and has the addresses lead to a standby
// that is promoted. The others end: complete replaces them.
func (s *standbys) failover(to *pgtest.Server) error {
	all := []*pgtest.Server{s.primary, s.synchronous, s.asynchronous}
	var errs []error
	for _, server := range all {
		if server != to {
			errs = append(errs, server.Down(pgtest.Immediate))
		}
	}
	errs = append(errs, to.Promote())
	for _, p := range append(s.follow, s.address, s.feedSynchronous, s.feedAsynchronous) {
		p.Point(to.Port())
	}
	for _, server := range all {
		if server != to {
			server.Stop()
		}
	}
	s.primary, s.synchronous, s.asynchronous = to, nil, nil
	return errors.Join(errs...)
}

// stalled is a synchronous standby that does not answer: commits wait for it, and reads
// do not.
func (s *standbys) stalled() *fault {
	return &fault{name: "stalled commits", slow: true, lasts: 13 * time.Second, // for longer than a statement may take
		begin: func(r *rig) { require.NoError(r, s.synchronous.Pause()) },
		end:   func(r *rig) { require.NoError(r, s.synchronous.Resume()) },
	}
}

// failedOver is a crash of the primary. The synchronous standby is promoted.
func (s *standbys) failedOver() *fault {
	return &fault{name: "failover to the synchronous standby", slow: true, end: none,
		begin: func(r *rig) { require.NoError(r, s.failover(s.synchronous)) },
		after: func(*rig) { s.complete() },
	}
}

// promoted is a crash of the primary and of its synchronous standby. The asynchronous
// standby, which is a moment behind, is promoted.
func (s *standbys) promoted() *fault {
	return &fault{name: "promotion of the asynchronous standby", slow: true, about: commits, end: none,
		begin: func(r *rig) {
			s.feedAsynchronous.Disturb(pgtest.Fault{Hold: true})
			time.Sleep(500*time.Millisecond + rand.N(500*time.Millisecond))
			require.NoError(r, s.failover(s.asynchronous))
			s.feedAsynchronous.Heal()
		},
		after: func(*rig) { s.complete() },
	}
}
