package pgtest_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

// Tests in parallel have one server and a database each.
func TestShared(t *testing.T) {
	t.Parallel()
	s := pgtest.Shared(t)
	var mu sync.Mutex
	names := map[string]bool{}
	t.Run("group", func(t *testing.T) {
		for i := range 8 {
			t.Run("same name", func(t *testing.T) {
				t.Parallel()
				require.Same(t, s, pgtest.Shared(t))
				dsn := pgtest.Database(t)
				name := dsn[strings.LastIndex(dsn, "/")+1 : strings.Index(dsn, "?")]
				mu.Lock()
				require.NotContains(t, names, name)
				names[name] = true
				mu.Unlock()
				require.Equal(t, "0", query(t, s, name, `SELECT count(*) FROM pg_class WHERE relname = 'mine'`))
				query(t, s, name, `CREATE TABLE mine (n int); INSERT INTO mine VALUES (`+strconv.Itoa(i)+`)`)
				require.Equal(t, strconv.Itoa(i), query(t, s, name, `SELECT n FROM mine`))
			})
		}
	})
	require.Len(t, names, 8)
	left := strings.Split(query(t, s, "postgres", `SELECT datname FROM pg_database`), "\n")
	for name := range names {
		require.NotContains(t, left, name)
	}
}

// A database is dropped although it has connections.
func TestDropDatabase(t *testing.T) {
	t.Parallel()
	s := pgtest.Shared(t)
	name, err := s.CreateDatabase("Drop it; DROP")
	require.NoError(t, err)
	require.Regexp(t, `^drop_it__drop_\d+$`, name)
	slept := make(chan error)
	go func() {
		_, err := s.Psql(name, `SELECT pg_sleep(60)`)
		slept <- err
	}()
	await(t, func() bool {
		return query(t, s, "postgres", `SELECT count(*) FROM pg_stat_activity WHERE datname = '`+name+`'`) == "1"
	})
	require.NoError(t, s.DropDatabase(name))
	require.Error(t, <-slept)
	require.NoError(t, s.DropDatabase(name), "a second time")
	_, err = s.Psql(name, `SELECT 1`)
	require.ErrorContains(t, err, "does not exist")
}

// A copy has what its template had, and is independent of it.
func TestCopy(t *testing.T) {
	t.Parallel()
	s := pgtest.Shared(t)
	template := s.Database(t)
	query(t, s, template, `CREATE TABLE mine (n int); INSERT INTO mine VALUES (7)`)
	name := s.Copy(t, template)
	require.Equal(t, "7", query(t, s, name, `SELECT n FROM mine; DELETE FROM mine`))
	require.Equal(t, "7", query(t, s, s.Copy(t, template), `SELECT n FROM mine`))
	_, err := s.CopyDatabase("absent", "x")
	require.ErrorContains(t, err, `template database "absent" does not exist`)
	_, err = s.CreateDatabase("x")
	require.NoError(t, err, "the session continues after an error")
}

// The session that creates databases may end: it is one of the server's.
func TestCreateDatabase_sessionEnded_connectsAgain(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for range 2 {
		_, err := s.CreateDatabase("x")
		require.NoError(t, err)
		query(t, s, "postgres", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`)
	}
	require.NoError(t, s.Restart(pgtest.Fast))
	_, err := s.CreateDatabase("x")
	require.NoError(t, err)
}

func TestPsql(t *testing.T) {
	t.Parallel()
	s := pgtest.Shared(t)
	name := s.Database(t)
	require.Equal(t, "1|ä\n2|", query(t, s, name, `SELECT 1, 'ä'; SELECT 2, NULL`))
	_, err := s.Psql(name, `CREATE TABLE first (n int); SELECT nonsense; CREATE TABLE second (n int)`)
	require.ErrorContains(t, err, `column "nonsense" does not exist`)
	require.Equal(t, "first", query(t, s, name, `SELECT relname FROM pg_class WHERE relname IN ('first', 'second')`))
}

// The socket and the port lead to the same server.
func TestSocket(t *testing.T) {
	t.Parallel()
	s := pgtest.Shared(t)
	name := s.Database(t)
	query(t, s, name, `CREATE TABLE here ()`)
	out, err := s.PsqlAt(fmt.Sprintf("host=%s port=%d user=%s dbname=%s", s.SocketDir(), s.Port(), pgtest.Superuser, name),
		`SELECT count(*), inet_server_port() FROM here`)
	require.NoError(t, err)
	require.Equal(t, "0|", out)
}

func TestIdentifier(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                      "test",
		"TestStore/Some_case#1": "teststore_some_case_1",
		"1st":                   "t1st",
		"äöü":                   "test",
		`"; x`:                  "x",
		strings.Repeat("a", 90): strings.Repeat("a", 40),
	} {
		require.Equal(t, want, pgtest.Identifier(text), text)
	}
}
