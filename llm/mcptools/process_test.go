//go:build unix

package mcptools_test

import (
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCommand_crashed_startsAgain(t *testing.T) {
	t.Parallel()
	server := connect(t, stdio(t), nil)
	first, err := call(t, server, "pid", `{}`)
	require.NoError(t, err)
	again, err := call(t, server, "pid", `{}`)
	require.NoError(t, err)
	require.Equal(t, first, again, "all calls must use one process")
	pid, err := strconv.Atoi(first)
	require.NoError(t, err)
	group, err := syscall.Getpgid(pid)
	require.NoError(t, err)
	require.Equal(t, pid, group, "the process must have its own group, so that the terminal does not interrupt it")

	_, err = call(t, server, "crash", `{}`)
	require.ErrorContains(t, err, "not known whether the call was executed", "the call must not be repeated")
	var second string
	require.Eventually(t, func() bool { // the client detects the loss after a short time
		second, err = call(t, server, "pid", `{}`)
		return err == nil
	}, patience, time.Millisecond)
	require.NotEqual(t, first, second)
	ended(t, first)
}

// ended waits until a process does not exist, not even as a zombie.
func ended(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return syscall.Kill(n, 0) != nil }, patience, 5*time.Millisecond)
}

func TestServerClose_command_endsProcess(t *testing.T) {
	t.Parallel()
	server := connect(t, stdio(t), nil)
	pid, err := call(t, server, "pid", `{}`)
	require.NoError(t, err)
	require.NoError(t, server.Close())
	ended(t, pid)
	_, err = call(t, server, "pid", `{}`)
	require.ErrorContains(t, err, "server was closed")
	require.NoError(t, server.Close(), "closing twice must not be an error")
}
