//go:build unix

package chaostest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

// cluster is a server, and the addresses that lead to it. In the campaign, standbys
// may replace it.
type cluster struct {
	*testing.T
	database string
	disk     *pgtest.Disk // of the first server; nil: this process cannot make one
	first    *pgtest.Server

	primary *pgtest.Server // the one that accepts writes
	address *pgtest.Proxy
	follow  []*pgtest.Proxy // its further addresses
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
	return c
}

func startProxy(t *testing.T, port int) *pgtest.Proxy {
	t.Helper()
	proxy, err := pgtest.StartProxy(port)
	require.NoError(t, err)
	t.Cleanup(proxy.Close)
	return proxy
}

// psql runs statements on the server that accepts writes.
func (c *cluster) psql(sql string) string {
	c.Helper()
	out, err := c.primary.Psql(c.database, sql)
	require.NoError(c, err)
	return out
}
