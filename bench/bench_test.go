package main

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger/bench/internal/child"
	"github.com/webtrigger-go/webtrigger/bench/internal/postgres"
	"github.com/webtrigger-go/webtrigger/bench/internal/serve"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

// The test program is started again as the children.
func TestMain(m *testing.M) {
	if child.IsChild() {
		child.Main(serve.Makers())
		return
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { pgtest.StopShared(); os.Exit(code) }))
}

// tiny makes a path so short that only its working is tested. Windows and rounds
// are far too few to measure speed.
var tiny = []string{"-rounds", "1", "-d", "30ms", "-clients", "2", "-n", "20"}

func measure(t *testing.T, args ...string) string {
	t.Helper()
	var out strings.Builder
	require.NoError(t, run(context.Background(), append(args, tiny...), &out, &out), out.String())
	return out.String()
}

// assertMeasured looks for a row of the table for each variant.
func assertMeasured(t *testing.T, out string, variants ...string) {
	t.Helper()
	for _, v := range variants {
		assert.Regexp(t, `(?m)^  `+v+` .*\d+(\.\d+)? \[\d`, out, v)
	}
}

func TestInMemory(t *testing.T) {
	t.Parallel()
	out := measure(t, "accept-memory")
	assertMeasured(t, out, "null", "webtrigger", `webtrigger\+runs`, "a2a")
	assert.Contains(t, out, "webtrigger / null, req/s")

	out = measure(t, "fanout")
	assertMeasured(t, out, "webtrigger", "r3labs", "go-sse")
	assert.Regexp(t, `webtrigger, lost +≤ 0 +0\.00 \[0\.00–0\.00\] +met`, out)

	out = measure(t, "fanout-1000")
	assertMeasured(t, out, "loop", "webtrigger")
	assert.Regexp(t, `webtrigger, lost +≤ 0 +0\.00 \[0\.00–0\.00\] +met`, out)

	out = measure(t, "callback", "-only", "http.Client,memory")
	assertMeasured(t, out, "http.Client", "memory")
	assert.Contains(t, out, "not measured", "a variant that is not chosen")
}

func TestIdle(t *testing.T) {
	t.Parallel()
	if _, _, ok := child.Parent(os.Getpid()); !ok {
		t.Skip("memory is read from /proc")
	}
	assertMeasured(t, measure(t, "idle"), "bare", "bare after an event", "webtrigger")
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	assertMeasured(t, measure(t, "sqlite"), "accept", "accept one", "complete", "status unfinished", "status finished")
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	t.Run("paths", func(t *testing.T) { testPaths(t, server.DSN("postgres")) })
	left, err := server.Psql("postgres", `SELECT datname FROM pg_database WHERE datname LIKE '`+postgres.DatabasePrefix+`%'`)
	require.NoError(t, err)
	assert.Empty(t, left, "databases that were not dropped")
}

func testPaths(t *testing.T, dsn string) {
	for _, c := range []struct {
		args     []string
		variants []string
	}{
		{[]string{"accept-one"}, []string{"statement", "webtrigger", "river-tx"}},
		{[]string{"complete"}, []string{"webtrigger", "river"}},
		{[]string{"status"}, []string{"select", "unfinished", "finished"}},
		{[]string{"pickup"}, []string{"own process", "other process", "river"}},
		{[]string{"drain"}, []string{"webtrigger", "river"}},
		{[]string{"append"}, []string{"insert", "webtrigger", "emit"}},
		{[]string{"live"}, []string{"log", "own process", "notify", "other process"}},
		{[]string{"stored", "-only", "n stored"}, []string{"n stored"}},
	} {
		t.Run(c.args[0], func(t *testing.T) {
			t.Parallel()
			assertMeasured(t, measure(t, append(c.args, "-dsn", dsn)...), c.variants...)
		})
	}
}

// Rows that SQL fills in must equal rows that the product stores.
func TestFilledRunsAreWhole(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	dsn := server.DSN(server.Database(t))
	p, err := child.Start("webtrigger-stored", serve.Config{DSN: dsn, Rows: 3})
	require.NoError(t, err)
	defer p.Stop()
	const perRun = `SELECT r.conversation_id - r.id, e.last_sequence, e.last_message_id, e.status, e.attempts,
		(SELECT count(*) FROM webtrigger_events v WHERE v.run_id = r.id), (SELECT count(*) FROM webtrigger_messages m WHERE m.run_id = r.id)
		FROM webtrigger_runs r JOIN webtrigger_ends e ON e.run_id = r.id ORDER BY r.id`
	filled, err := server.Psql(strings.TrimPrefix(dsn[strings.LastIndex(dsn, "/"):strings.Index(dsn, "?")], "/"), perRun)
	require.NoError(t, err)
	assert.Equal(t, strings.TrimSuffix(strings.Repeat("0|3|2|completed|1|0|0\n", 3), "\n"), filled)
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	require.NoError(t, run(context.Background(), []string{"-list"}, &out, io.Discard))
	for _, p := range paths() {
		assert.Contains(t, out.String(), p.name)
		assert.NotEmpty(t, p.columns, p.name)
		names := map[string]bool{}
		for _, v := range p.variants {
			names[v.name] = true
		}
		for _, g := range p.goals {
			assert.Contains(t, p.columns, g.Figure, p.name)
			assert.True(t, names[g.Of], "%s: %s", p.name, g)
			assert.True(t, g.Over == "" || names[g.Over], "%s: %s", p.name, g)
		}
	}
	for _, args := range [][]string{{}, {"no-such-path"}, {"accept", "-rounds", "-1"}, {"accept", "stray", "-d", "1s"}} {
		require.Error(t, run(context.Background(), args, &out, io.Discard), args)
	}
}
