//go:build unix

package pgtest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

func startStandby(t *testing.T, primary *pgtest.Server, name string, port int) *pgtest.Server {
	s, err := pgtest.StartStandby(primary, name, port)
	pgtest.Require(t, err)
	t.Cleanup(s.Stop)
	return s
}

// Commits wait for a synchronous standby that is unavailable. Reads do not.
func TestStandby_synchronous_stallsCommits(t *testing.T) {
	t.Parallel()
	primary := start(t, &pgtest.Options{Settings: map[string]string{"synchronous_commit": "on"}})
	query(t, primary, "postgres", `CREATE TABLE kept (n int)`)
	standby := startStandby(t, primary, "second", primary.Port())
	require.NoError(t, primary.Set("synchronous_standby_names", "second"))
	require.NoError(t, primary.AwaitSynchronous("second"))
	query(t, primary, "postgres", `INSERT INTO kept VALUES (1)`)

	require.NoError(t, standby.Down(pgtest.Fast))
	stalled := answer(primary, primary.DSN("postgres"), `INSERT INTO kept VALUES (2)`)
	require.Equal(t, "1", query(t, primary, "postgres", `SELECT count(*) FROM kept`))
	await(t, func() bool {
		return query(t, primary, "postgres", `SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`) == "1"
	})
	require.Empty(t, stalled)
	require.NoError(t, standby.Up())
	require.NoError(t, <-stalled)
	require.NoError(t, standby.AwaitReplay(primary))
	require.Equal(t, "2", query(t, standby, "postgres", `SELECT count(*) FROM kept`))
}

// A standby that is cut off has the commits from before, and can take over.
func TestStandby_promoted_acceptsWrites(t *testing.T) {
	t.Parallel()
	primary := start(t, nil)
	p := startProxy(t, primary.Port())
	query(t, primary, "postgres", `CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)`)
	standby := startStandby(t, primary, "second", p.Port())
	require.NoError(t, standby.AwaitReplay(primary))
	p.Disturb(pgtest.Fault{})
	query(t, primary, "postgres", `INSERT INTO kept VALUES (2)`)
	_, err := standby.Psql("postgres", `INSERT INTO kept VALUES (3)`)
	require.ErrorContains(t, err, "read-only")
	require.NoError(t, standby.Promote())
	query(t, standby, "postgres", `INSERT INTO kept VALUES (3)`)
	require.Equal(t, "1\n3", query(t, standby, "postgres", `SELECT n FROM kept ORDER BY n`))
}

// A paused server answers nothing. Afterwards it continues where it was.
func TestPause_server_continuesWhereItWas(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	session := answer(s, s.DSN("postgres"), `SELECT pg_sleep(0.3); SELECT pg_sleep(0.3)`)
	await(t, func() bool {
		return query(t, s, "postgres", `SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'`) == "1"
	})
	require.NoError(t, s.Pause())
	t.Cleanup(func() { require.NoError(t, s.Resume()) })
	fresh := answer(s, s.DSN("postgres"), `SELECT 1`)
	time.Sleep(time.Second)
	require.Empty(t, session)
	require.Empty(t, fresh)
	require.NoError(t, s.Resume())
	require.NoError(t, <-session)
	require.NoError(t, <-fresh)
	require.NoError(t, s.Resume(), "a second time")
}
