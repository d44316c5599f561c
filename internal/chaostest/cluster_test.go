//go:build unix && chaos

package chaostest_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

// The names of the standbys.
const (
	second = "second" // synchronous
	third  = "third"  // asynchronous
)

// cluster is a primary with two standbys. Addresses lead to the server that accepts
// writes, and to what the standbys connect to.
type cluster struct {
	*testing.T
	database string
	disk     *pgtest.Disk // of the first server; nil: this process cannot make one
	first    *pgtest.Server

	primary, synchronous, asynchronous *pgtest.Server
	address                            *pgtest.Proxy
	feedSynchronous, feedAsynchronous  *pgtest.Proxy
	follow                             []*pgtest.Proxy // more addresses of the server that accepts writes
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	pgtest.Shared(t) // skips the test if PostgreSQL is missing
	c := &cluster{T: t}
	var err error
	c.disk, err = pgtest.NewDisk(600 << 20)
	if err == nil {
		t.Cleanup(c.disk.Close)
	} else {
		require.ErrorIs(t, err, pgtest.ErrNoDisk)
		c.disk = nil
	}
	c.primary, err = pgtest.Start(&pgtest.Options{Disk: c.disk, Settings: map[string]string{
		"synchronous_commit": "on",
		"max_connections":    "300", // statements that stall keep theirs
		"wal_keep_size":      "128MB",
	}})
	require.NoError(t, err)
	c.first = c.primary
	t.Cleanup(func() { c.primary.Stop() })
	c.database, err = c.primary.CreateDatabase("chaos")
	require.NoError(t, err)
	c.address = startProxy(t, c.primary.Port())
	c.feedSynchronous = startProxy(t, c.primary.Port())
	c.feedAsynchronous = startProxy(t, c.primary.Port())
	t.Cleanup(func() {
		for _, s := range []*pgtest.Server{c.synchronous, c.asynchronous} {
			if s != nil {
				s.Stop()
			}
		}
	})
	c.complete()
	return c
}

func startProxy(t *testing.T, port int) *pgtest.Proxy {
	t.Helper()
	proxy, err := pgtest.StartProxy(port)
	require.NoError(t, err)
	t.Cleanup(proxy.Close)
	return proxy
}

// complete starts the standbys that are missing. Then commits wait for the
// synchronous one.
func (c *cluster) complete() {
	c.Helper()
	if c.synchronous != nil && c.asynchronous != nil {
		return
	}
	var both sync.WaitGroup
	var errs [2]error
	for i, start := range []struct {
		standby **pgtest.Server
		name    string
		feed    *pgtest.Proxy
	}{{&c.synchronous, second, c.feedSynchronous}, {&c.asynchronous, third, c.feedAsynchronous}} {
		if *start.standby == nil {
			both.Go(func() { *start.standby, errs[i] = pgtest.StartStandby(c.primary, start.name, start.feed.Port()) })
		}
	}
	both.Wait()
	require.NoError(c, errors.Join(errs[:]...))
	require.NoError(c, c.primary.Set("synchronous_standby_names", second))
	require.NoError(c, c.primary.AwaitSynchronous(second))
	require.NoError(c, c.asynchronous.AwaitReplay(c.primary))
}

// failover ends the primary as a crash does, and has the addresses lead to a standby
// that is promoted. The others end: complete replaces them.
func (c *cluster) failover(to *pgtest.Server) error {
	var errs []error
	for _, s := range []*pgtest.Server{c.primary, c.synchronous, c.asynchronous} {
		if s != to {
			errs = append(errs, s.Down(pgtest.Immediate))
		}
	}
	errs = append(errs, to.Promote())
	for _, p := range append(c.follow, c.address, c.feedSynchronous, c.feedAsynchronous) {
		p.Point(to.Port())
	}
	for _, s := range []*pgtest.Server{c.primary, c.synchronous, c.asynchronous} {
		if s != to {
			s.Stop()
		}
	}
	c.primary, c.synchronous, c.asynchronous = to, nil, nil
	return errors.Join(errs...)
}

// psql runs statements on the server that accepts writes.
func (c *cluster) psql(sql string) string {
	c.Helper()
	out, err := c.primary.Psql(c.database, sql)
	require.NoError(c, err)
	return out
}
