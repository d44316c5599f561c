//go:build unix

package outagetest_test

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/driver/pgdriver"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
	"github.com/webtrigger-go/webtrigger/store/bunstore"
)

// startServer starts a server of the test's own, whose commits are on its disk and on
// its synchronous standbys.
func startServer(t *testing.T) *pgtest.Server {
	t.Helper()
	pgtest.Shared(t) // skips the test if PostgreSQL is missing
	server, err := pgtest.Start(&pgtest.Options{Settings: map[string]string{
		"synchronous_commit": "on",
		"max_connections":    "500", // statements that stall keep theirs
	}})
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	return server
}

func startStandby(t *testing.T, primary *pgtest.Server, port int) *pgtest.Server {
	t.Helper()
	standby, err := pgtest.StartStandby(primary, standbyName, port)
	require.NoError(t, err)
	t.Cleanup(standby.Stop)
	return standby
}

const standbyName = "second"

func startProxy(t *testing.T, port int) *pgtest.Proxy {
	t.Helper()
	proxy, err := pgtest.StartProxy(port)
	require.NoError(t, err)
	t.Cleanup(proxy.Close)
	return proxy
}

func openDB(t *testing.T, dsn string) *bun.DB {
	t.Helper()
	db := sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(dsn)))
	db.SetMaxOpenConns(10)
	db.SetMaxIdleConns(10)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return bun.NewDB(db, pgdialect.New())
}

// openStore opens a store on a database that has its tables.
func openStore(t *testing.T, dsn string) *bunstore.Store {
	t.Helper()
	store, err := bunstore.New(openDB(t, dsn), nil)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	return store
}

// placeOn is a place on a new database of a server. The database ends with the server:
// one whose commits stall cannot drop it.
func placeOn(t *testing.T, server *pgtest.Server) (p *place, database string) {
	t.Helper()
	database, err := server.CreateDatabase("outage")
	require.NoError(t, err)
	store := openStore(t, server.DSN(database))
	require.NoError(t, store.Migrate(t.Context()))
	return newPlace(t, store), database
}

// worker are the options of a replica that executes up to n runs.
func worker(n int) webtrigger.Options { return webtrigger.Options{Workers: n, MaxAttempts: 1} }
