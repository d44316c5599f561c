package pgtest_test

import (
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

func startProxy(t *testing.T, target int) *pgtest.Proxy {
	p, err := pgtest.StartProxy(target)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

// answer sends the outcome of statements in psql.
func answer(s *pgtest.Server, dsn, sql string) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := s.PsqlAt(dsn, sql)
		done <- err
	}()
	return done
}

// proxied returns a proxy before a database with a table.
func proxied(t *testing.T) (s *pgtest.Server, name string, p *pgtest.Proxy) {
	t.Helper()
	s = pgtest.Shared(t)
	name = s.Database(t)
	p = startProxy(t, s.Port())
	require.NoError(t, <-answer(s, p.DSN(name), `CREATE TABLE kept (n int)`))
	return s, name, p
}

func TestProxy_closesAndHolds(t *testing.T) {
	t.Parallel()
	s, name, p := proxied(t)
	dsn := p.DSN(name)

	p.Disturb(pgtest.Fault{})
	require.Error(t, <-answer(s, dsn, `SELECT 1`), "a new connection")
	p.Heal()
	require.NoError(t, <-answer(s, dsn, `SELECT 1`))

	slow := answer(s, dsn, `SELECT pg_sleep(60)`)
	await(t, func() bool {
		return query(t, s, "postgres", `SELECT count(*) FROM pg_stat_activity WHERE datname = '`+name+`' AND wait_event = 'PgSleep'`) == "1"
	})
	p.Disturb(pgtest.Fault{})
	require.Error(t, <-slow, "an open connection")

	p.Disturb(pgtest.Fault{Hold: true})
	held := answer(s, dsn, `INSERT INTO kept VALUES (1)`)
	select {
	case err := <-held:
		require.Fail(t, "nothing passes while the proxy holds", "%v", err)
	case <-time.After(300 * time.Millisecond):
	}
	require.Equal(t, "0", query(t, s, name, `SELECT count(*) FROM kept`))
	p.Heal()
	require.NoError(t, <-held, "what was held is delivered")
	require.Equal(t, "1", query(t, s, name, `SELECT count(*) FROM kept`))
}

func TestProxy_statements_disturbsOnlyThese(t *testing.T) {
	t.Parallel()
	s, name, p := proxied(t)
	dsn := p.DSN(name)
	inserts := func(text string) bool { return strings.Contains(text, "INSERT") }

	p.Disturb(pgtest.Fault{Statements: inserts})
	require.NoError(t, <-answer(s, dsn, `SELECT * FROM kept`))
	require.Error(t, <-answer(s, dsn, `INSERT INTO kept VALUES (1)`))
	require.NoError(t, <-answer(s, dsn, `PREPARE reading AS SELECT 1; EXECUTE reading`))
	require.Equal(t, "0", query(t, s, name, `SELECT count(*) FROM kept`))

	p.Disturb(pgtest.Fault{Statements: inserts, Hold: true})
	held := answer(s, dsn, `INSERT INTO kept VALUES (2)`)
	require.NoError(t, <-answer(s, dsn, `SELECT * FROM kept`))
	require.Equal(t, "0", query(t, s, name, `SELECT count(*) FROM kept`))
	p.Heal()
	require.NoError(t, <-held)
	require.Equal(t, "2", query(t, s, name, `SELECT n FROM kept`))
}

// A statement whose answer is lost is executed.
func TestProxy_answers_areLost(t *testing.T) {
	t.Parallel()
	s, name, p := proxied(t)
	p.Disturb(pgtest.Fault{Answers: true, Statements: func(text string) bool { return strings.Contains(text, "INSERT") }})
	require.NoError(t, <-answer(s, p.DSN(name), `SELECT * FROM kept`))
	require.Error(t, <-answer(s, p.DSN(name), `INSERT INTO kept VALUES (1)`))
	await(t, func() bool { return query(t, s, name, `SELECT n FROM kept`) == "1" })
	p.Heal()
	require.NoError(t, <-answer(s, p.DSN(name), `INSERT INTO kept VALUES (2)`))
}

// A statement reaches the server with the Sync that ends it, or not at all.
func TestProxy_statement_isDeliveredWhole(t *testing.T) {
	t.Parallel()
	server, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer server.Close()
	p := startProxy(t, server.Addr().(*net.TCPAddr).Port)
	start, execute, sync := "\x00\x00\x00\x08\x00\x03\x00\x00", "E\x00\x00\x00\x09\x00\x00\x00\x00\x00", "S\x00\x00\x00\x04"
	for sent, want := range map[string]string{
		start + execute:               start,
		start + execute + sync:        start + execute + sync,
		start + sync + execute + "S":  start + sync,
		start + execute + sync + sync: start + execute + sync + sync,
	} {
		client, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Port())))
		require.NoError(t, err)
		_, err = client.Write([]byte(sent))
		require.NoError(t, err)
		require.NoError(t, client.(*net.TCPConn).CloseWrite())
		accepted, err := server.Accept()
		require.NoError(t, err)
		got, err := io.ReadAll(accepted)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
		accepted.Close()
		client.Close()
	}
}

func TestProxy_point_leadsNewConnectionsElsewhere(t *testing.T) {
	t.Parallel()
	s := pgtest.Shared(t)
	p := startProxy(t, 1) // nothing listens there
	require.Error(t, <-answer(s, p.DSN("postgres"), `SELECT 1`))
	p.Point(s.Port())
	require.NoError(t, <-answer(s, p.DSN("postgres"), `SELECT 1`))
}
