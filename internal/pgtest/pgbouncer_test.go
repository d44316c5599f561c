package pgtest_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

func TestPgBouncer(t *testing.T) {
	t.Parallel()
	s := pgtest.Shared(t)
	b := s.PgBouncer(t, nil)
	name := s.Database(t)
	through := func(database, sql string) string {
		out, err := b.Psql(database, sql)
		require.NoError(t, err, b.LogTail())
		return out
	}
	require.Equal(t, "7", through(name, `CREATE TABLE pooled (n int); INSERT INTO pooled VALUES (7); SELECT n FROM pooled`))
	require.Equal(t, "7", query(t, s, name, `SELECT n FROM pooled`))

	pools := through("pgbouncer", `SHOW POOLS`)
	require.Regexp(t, `(?m)^`+name+`\|postgres\|.*\|transaction\b`, pools)
	config := through("pgbouncer", `SHOW CONFIG`)
	require.Contains(t, config, "default_pool_size|4|")
	require.Contains(t, config, "ignore_startup_parameters|extra_float_digits|")
	if strings.Contains(config, "max_prepared_statements|") {
		require.Contains(t, config, "max_prepared_statements|0|")
	}

	b.Stop()
	b.Stop()
	require.False(t, listening(b.Port()))
	require.True(t, listening(s.Port()))
}

// Five sessions are open while the server has two: none holds a connection
// beyond its transaction.
func TestPgBouncerTransactionMode(t *testing.T) {
	t.Parallel()
	s := pgtest.Shared(t)
	b := s.PgBouncer(t, &pgtest.BouncerOptions{PoolSize: 2})
	name := s.Database(t)
	const sessions = 5
	done := make(chan error, sessions)
	for range sessions {
		go func() {
			_, err := b.Psql(name, strings.Repeat("SELECT pg_sleep(0.01);\n", 20))
			done <- err
		}()
	}
	for range sessions {
		require.NoError(t, <-done)
	}
	require.Contains(t, []string{"1", "2"}, query(t, s, name, `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'`))
}

// Other roles than the superuser get through, as themselves.
func TestPgBouncerRole(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	b := s.PgBouncer(t, nil)
	query(t, s, "postgres", `CREATE ROLE app LOGIN`)
	out, err := s.PsqlAt(strings.Replace(b.DSN("postgres"), pgtest.Superuser+"@", "app@", 1), `SELECT current_user`)
	require.NoError(t, err)
	require.Equal(t, "app", out)
}

// The pooler finds the server again after a restart.
func TestPgBouncerServerRestart(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	b := s.PgBouncer(t, nil)
	_, err := b.Psql("postgres", `SELECT 1`)
	require.NoError(t, err)
	require.NoError(t, s.Restart(pgtest.Fast))
	await(t, func() bool {
		_, err := b.Psql("postgres", `SELECT 1`)
		return err == nil
	})
}

func TestPgBouncerPreparedStatements(t *testing.T) {
	t.Parallel()
	s := pgtest.Shared(t)
	s.PgBouncer(t, nil) // whether there is one
	b, err := pgtest.StartPgBouncer(s, &pgtest.BouncerOptions{PreparedStatements: 50})
	if err != nil { // each version has a right answer of its own
		require.ErrorContains(t, err, "needs PgBouncer 1.21")
		return
	}
	defer b.Stop()
	config, err := b.Psql("pgbouncer", `SHOW CONFIG`)
	require.NoError(t, err)
	require.Contains(t, config, "max_prepared_statements|50|")
}

// The error of a pooler that does not start shows what it has logged.
func TestPgBouncerFails(t *testing.T) {
	t.Parallel()
	s := pgtest.Shared(t)
	s.PgBouncer(t, nil) // whether there is one
	for setting, value := range map[string]string{"pool_mode": "none", "listen_port": strconv.Itoa(s.Port())} {
		b, err := pgtest.StartPgBouncer(s, &pgtest.BouncerOptions{Settings: map[string]string{setting: value}})
		require.Nil(t, b)
		want := map[string]string{"pool_mode": `invalid value "none"`, "listen_port": "the port is taken"}[setting]
		require.ErrorContains(t, err, want)
	}
}
