package main_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/client"
	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

// Stored runs continue after a restart, also runs that were queued when the server was
// killed.
func TestServer_sqliteAfterRestart_continuesRuns(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "a file?100%.db")
	first := start(t, "-db", "sqlite:"+file)
	require.Contains(t, first.Stdout.String(), "the SQLite file "+file)
	done := first.say("/emit 2\n/say kept")
	status, events := first.ended(done), first.events(done)
	stop(t, first)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "conversations are in it")

	second := start(t, "-db", "sqlite:"+file, "-workers", "0")
	target := "/api/v1/web-triggers/" + fmt.Sprint(done.TriggerID) + "/status"
	require.Equal(t, status, second.do(http.MethodGet, target, "", bearer(second.key)).decode(t))
	done.EventsURL = second.url + strings.TrimPrefix(done.EventsURL, first.url)
	require.Equal(t, events, second.events(done))
	queued := second.say("/say at last")
	require.NoError(t, second.Cmd.Process.Kill())
	<-second.Exited

	third := start(t, "-db", "sqlite:"+file)
	queued.StatusURL = third.url + strings.TrimPrefix(queued.StatusURL, second.url)
	require.Equal(t, "at last", third.ended(queued)["result"])
}

func TestMemory(t *testing.T) {
	t.Parallel()
	s := start(t, "-db", "memory")
	require.EqualValues(t, 1, s.say("/say not kept").TriggerID)
	require.Equal(t, http.StatusOK, s.do(http.MethodGet, "/healthz", "").Status)
	left, err := os.ReadDir(s.Cmd.Dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

// Servers that start at once on an empty database are one system.
func TestPostgres(t *testing.T) {
	t.Parallel()
	dsn := withPassword(pgtest.Database(t))
	key := strings.Repeat("0f", 32)
	servers := make([]*server, 3)
	var wg sync.WaitGroup
	for i, workers := range []string{"0", "4", "0"} {
		wg.Go(func() { servers[i] = start(t, "-db", dsn, "-key", key, "-workers", workers) })
	}
	wg.Wait()
	for _, s := range servers {
		require.NotNil(t, s)
		require.NotContains(t, s.Stdout.String(), "hush")
		require.Contains(t, s.Stdout.String(), "the Postgres database ")
		s.hush.add("hush")
		require.Equal(t, http.StatusOK, s.do(http.MethodGet, "/healthz", "").Status)
	}
	a := servers[0].say("/emit 5\n/say executed elsewhere")
	a.EventsURL = servers[2].url + strings.TrimPrefix(a.EventsURL, servers[0].url)
	require.Contains(t, types(servers[2].events(a)), "run_completed")
	require.Equal(t, "executed elsewhere", servers[0].ended(a)["result"])
}

// If the store is unavailable, the server reports it, and continues as soon as the store
// is available again.
func TestServer_postgresUnavailable_recovers(t *testing.T) {
	t.Parallel()
	pgtest.Shared(t) // skips where PostgreSQL is missing
	pg, err := pgtest.Start(nil)
	require.NoError(t, err)
	t.Cleanup(pg.Stop)
	s := start(t, "-db", withPassword(pg.DSN("postgres")))
	s.hush.add("hush")
	s.ended(s.say("/say before"))
	require.NoError(t, pg.Down(pgtest.Fast))
	resp := s.do(http.MethodGet, "/healthz", "")
	require.Equal(t, http.StatusServiceUnavailable, resp.Status)
	require.Equal(t, "store does not respond\n", resp.Body)
	require.NoError(t, pg.Up())
	require.Eventually(t, func() bool { return s.do(http.MethodGet, "/healthz", "").Status == http.StatusOK }, patience, 50*time.Millisecond)
	s.ended(s.say("/say after"))
}

func TestPostgresThatIsNotThere(t *testing.T) {
	t.Parallel()
	cmd := command(t, "-addr", "127.0.0.1:0", "-db", "postgres://u:hush@127.0.0.1:1/x?sslmode=disable")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Start())
	impatient := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	impatient.Stop()
	require.Equal(t, 1, cmd.ProcessState.ExitCode(), stderr.String())
	require.Contains(t, stderr.String(), "server: -db: ")
	require.NotContains(t, stderr.String()+stdout.String(), "hush")
}

// If the store has a key as revoked, the server does not print it.
func TestServer_revokedKey_isNotPrinted(t *testing.T) {
	t.Parallel()
	flags := []string{"-db", "sqlite:" + filepath.Join(t.TempDir(), "webtrigger.db"), "-key", strings.Repeat("ab", 32)}
	s := start(t, flags...)
	stop(t, s)
	s = start(t, flags...)
	s.say("/say the key of the last start, given again")
	items := s.do(http.MethodGet, "/admin/api/assistants/1/keys", "", s.basic).decode(t)["items"].([]any)
	require.Len(t, items, 1)
	id := items[0].(map[string]any)["id"]
	require.Equal(t, http.StatusOK, s.do(http.MethodPost, fmt.Sprintf("/admin/api/keys/%v/revoke", id), "", s.basic).Status)
	stop(t, s)
	cmd := command(t, append(flags, "-addr", "127.0.0.1:0")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	require.Error(t, cmd.Run())
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	require.Contains(t, stderr.String(), "-key: this key is revoked")
}

func TestCallbackSecret(t *testing.T) {
	t.Parallel()
	const secret = "whsec_c2VjcmV0IG9mIHRoZSBldmFsdWF0aW9uIHNlcnZlcg=="
	r := newReceiver(t)
	s := start(t, append(r.flags(), "-callback-secret", secret)...)
	s.hush.add(secret)
	require.NotContains(t, s.Stdout.String(), secret)
	require.Contains(t, s.Stdout.String(), "callbacks are signed")
	a := s.trigger(map[string]any{"message": "/say signed", "callback_url": r.url("/hook")})
	require.Eventually(t, func() bool { return len(r.received()) == 1 }, patience, 10*time.Millisecond)
	verifier, err := client.NewVerifier([]string{secret}, nil)
	require.NoError(t, err)
	got := r.received()[0]
	require.Equal(t, a.RunKey, got.header.Get("Webhook-Id"))
	require.NoError(t, verifier.Verify(got.header, got.raw))
}

// stop ends a server as an operator does.
func stop(t *testing.T, s *server) {
	t.Helper()
	require.NoError(t, s.Cmd.Process.Signal(syscall.SIGTERM))
	<-s.Exited
	require.Zero(t, s.Cmd.ProcessState.ExitCode(), s.Stderr.String())
}

// withPassword adds a password to a DSN. The test server does not check it.
func withPassword(dsn string) string { return strings.Replace(dsn, "postgres@", "postgres:hush@", 1) }
