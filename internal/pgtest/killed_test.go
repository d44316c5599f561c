package pgtest_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/pgtest"
)

// victimVariable makes the test program a process that starts servers and then
// waits to be killed.
const victimVariable = "PGTEST_VICTIM"

// A killed process leaves neither a server nor a pooler nor a directory, even
// if a process that it has started lives on.
func TestKilled(t *testing.T) {
	t.Parallel()
	pgtest.Shared(t).PgBouncer(t, nil) // whether all is there
	temp := openTempDir(t)
	cmd := startVictim(t, temp)
	var server, pooler, survivor int
	_, err := fmt.Fscanln(bufio.NewReader(cmd.stdout), &server, &pooler, &survivor)
	require.NoError(t, err)
	t.Cleanup(func() {
		p, err := os.FindProcess(survivor)
		require.NoError(t, err)
		require.NoError(t, p.Kill())
	})
	require.True(t, listening(server))
	require.True(t, listening(pooler))
	require.Len(t, entries(t, temp), 2)

	cmd.kill(t)
	await(t, func() bool { return !listening(server) && !listening(pooler) && len(entries(t, temp)) == 0 })
}

// It does not matter how far the start has come.
func TestKilledEarly(t *testing.T) {
	t.Parallel()
	pgtest.Shared(t)
	for _, after := range []time.Duration{0, 50 * time.Millisecond, 500 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			temp := openTempDir(t)
			cmd := startVictim(t, temp)
			await(t, func() bool {
				logs, err := filepath.Glob(filepath.Join(temp, "*", "log"))
				return err == nil && len(logs) == 1
			})
			time.Sleep(after)
			cmd.kill(t)
			await(t, func() bool { return len(entries(t, temp)) == 0 })
		})
	}
}

// victim prints the ports of a server and a pooler and the id of a process
// that will survive this one, for a minute at most.
func victim() {
	must := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	s, err := pgtest.Start(nil)
	must(err)
	b, err := pgtest.StartPgBouncer(s, nil)
	must(err)
	survivor := exec.Command("sleep", "60")
	must(survivor.Start())
	fmt.Println(s.Port(), b.Port(), survivor.Process.Pid)
	time.Sleep(time.Minute)
	os.Exit(1)
}

type victimProcess struct {
	*exec.Cmd
	stdout *os.File
}

func startVictim(t *testing.T, temp string) *victimProcess {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimVariable+"=1", "TMPDIR="+temp)
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	require.NoError(t, cmd.Start())
	require.NoError(t, w.Close())
	return &victimProcess{cmd, r}
}

func (v *victimProcess) kill(t *testing.T) {
	require.NoError(t, v.Process.Kill())
	require.Error(t, v.Wait()) // it did not end by itself
}

// openTempDir returns an empty directory that everybody may use, as the other
// user must whom servers run as if this is root.
func openTempDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/tmp", "pgtest-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o777|os.ModeSticky))
	return dir
}

func entries(t *testing.T, dir string) []os.DirEntry {
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	return list
}

func listening(port int) bool {
	c, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	c.Close()
	return true
}
