package pgtest_test

import (
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/needs"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

func start(t *testing.T, opts *pgtest.Options) *pgtest.Server {
	s, err := pgtest.Start(opts)
	pgtest.Require(t, err)
	t.Cleanup(s.Stop)
	return s
}

func query(t *testing.T, s *pgtest.Server, database, sql string) string {
	out, err := s.Psql(database, sql)
	require.NoError(t, err)
	return out
}

// await polls for 20 s until ready returns true.
func await(t *testing.T, ready func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ready(); time.Sleep(2 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "not within 20 s")
	}
}

func TestStart(t *testing.T) {
	t.Parallel()
	const settings = `SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),
		current_setting('max_connections'), current_setting('work_mem')`
	for name, test := range map[string]struct {
		opts *pgtest.Options
		want string
	}{
		"default":  {nil, "off|off|off|200|4MB"},
		"durable":  {&pgtest.Options{Durable: true}, "on|on|on|200|4MB"},
		"settings": {&pgtest.Options{Settings: map[string]string{"work_mem": "1MB", "fsync": "on"}}, "on|off|off|200|1MB"},
		"quoted":   {&pgtest.Options{Settings: map[string]string{"work_mem": "2MB", "log_line_prefix": "it's 'quoted' "}}, "off|off|off|200|2MB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, test.opts)
			require.Equal(t, test.want, query(t, s, "postgres", settings))
			require.Equal(t, "UTF8|C|C|UTC", query(t, s, "postgres", `SELECT pg_encoding_to_char(encoding), datcollate, datctype,
				current_setting('timezone') FROM pg_database WHERE datname = 'postgres'`))
			require.Contains(t, s.LogTail(), "database system is ready to accept connections")
			require.GreaterOrEqual(t, s.Version(), 13)
			dir := s.SocketDir()
			require.DirExists(t, dir)
			s.Stop()
			s.Stop()
			require.NoDirExists(t, dir)
			require.False(t, listening(s.Port()))
		})
	}
}

// The error of a server that does not start shows what it has logged.
func TestStartFails(t *testing.T) {
	t.Parallel()
	pgtest.Shared(t)
	s, err := pgtest.Start(&pgtest.Options{Settings: map[string]string{"shared_buffers": "much"}})
	require.Nil(t, s)
	require.ErrorContains(t, err, `invalid value for parameter "shared_buffers": "much"`)
}

// Some variables change what PostgreSQL's programs do.
func TestEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"PGPORT": "1", "PGHOST": "nowhere.invalid", "PGUSER": "unknown", "PGDATA": "/nowhere", "PGOPTIONS": "-c work_mem=1MB",
		"PGSERVICE": "none", "LC_ALL": "tlh_KX", "LANG": "tlh_KX", "TZ": "Europe/Berlin",
	} {
		t.Setenv(name, value)
	}
	s := start(t, nil)
	require.Equal(t, "UTC|4MB|postgres", query(t, s, "postgres",
		`SELECT current_setting('timezone'), current_setting('work_mem'), current_user`))
}

func TestRestart(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]pgtest.Mode{"fast": pgtest.Fast, "immediate": pgtest.Immediate} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, &pgtest.Options{Durable: true})
			port := s.Port()
			query(t, s, "postgres", `CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)`)
			const started = `SELECT pg_postmaster_start_time()`
			first := query(t, s, "postgres", started)

			slept := make(chan error)
			go func() {
				_, err := s.Psql("postgres", `SELECT 'a session'; SELECT pg_sleep(60)`)
				slept <- err
			}()
			await(t, func() bool {
				return query(t, s, "postgres", `SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'`) == "1"
			})
			require.NoError(t, s.Restart(mode))
			require.Error(t, <-slept)

			require.Equal(t, port, s.Port())
			require.NotEqual(t, first, query(t, s, "postgres", started))
			require.Equal(t, "1", query(t, s, "postgres", `SELECT n FROM kept`))
			crashed := assert.NotContains
			if mode == pgtest.Immediate {
				crashed = assert.Contains
			}
			crashed(t, s.LogTail(), "automatic recovery in progress")
		})
	}
}

func TestDown(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	name := s.Database(t)
	query(t, s, name, `CREATE TABLE kept (n int)`)
	require.NoError(t, s.Down(pgtest.Fast))
	require.NoError(t, s.Down(pgtest.Immediate), "a second time")
	require.False(t, listening(s.Port()))
	_, err := s.Psql(name, `SELECT 1`)
	require.Error(t, err)

	other, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port())))
	require.NoError(t, err)
	require.ErrorContains(t, s.Up(), "the port is taken")
	require.NoError(t, other.Close())
	require.NoError(t, s.Up())
	require.Error(t, s.Up(), "a second time")
	require.Equal(t, "0", query(t, s, name, `SELECT count(*) FROM kept`))
}

func TestNotInstalled(t *testing.T) {
	pgtest.HidePrograms(t)
	s, err := pgtest.Start(nil)
	require.Nil(t, s)
	require.ErrorIs(t, err, pgtest.ErrNotInstalled)
	require.EqualError(t, err, "PostgreSQL not installed: run scripts/deps.sh")
	_, err = pgtest.StartPgBouncer(s, nil)
	require.EqualError(t, err, "PgBouncer not installed: run scripts/deps.sh")

	t.Setenv("WEBTRIGGER_POSTGRES_BIN", t.TempDir())
	_, err = pgtest.Start(nil)
	require.ErrorContains(t, err, "holds no initdb")
	require.NotErrorIs(t, err, pgtest.ErrNotInstalled, "a wrong path must not skip the test")
}

// fakeTB records whether a test was skipped or failed, which ends its goroutine.
type fakeTB struct {
	testing.TB
	result string
}

func (f *fakeTB) Helper()      {}
func (f *fakeTB) Skip(...any)  { f.result = "skipped" }
func (f *fakeTB) Fatal(...any) { f.result = "failed" }

func TestRequire(t *testing.T) {
	outcome := func(err error) string {
		tb := &fakeTB{}
		pgtest.Require(tb, err)
		return tb.result
	}
	t.Setenv(needs.Variable, "")
	require.Equal(t, "", outcome(nil))
	require.Equal(t, "skipped", outcome(pgtest.ErrNotInstalled))
	require.Equal(t, "failed", outcome(os.ErrPermission))
	t.Setenv(needs.Variable, "1")
	require.Equal(t, "", outcome(nil))
	require.Equal(t, "failed", outcome(pgtest.ErrNotInstalled))
}
