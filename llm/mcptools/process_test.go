//go:build unix

package mcptools_test

import (
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestACrashedServerIsStartedAgain(t *testing.T) {
	t.Parallel()
	server := connect(t, stdio(t), nil)
	first, err := call(t, server, "pid", `{}`)
	require.NoError(t, err)
	again, err := call(t, server, "pid", `{}`)
	require.NoError(t, err)
	require.Equal(t, first, again, "one process for all calls")
	pid, err := strconv.Atoi(first)
	require.NoError(t, err)
	group, err := syscall.Getpgid(pid)
	require.NoError(t, err)
	require.Equal(t, pid, group, "out of reach of the terminal's interrupts")

	_, err = call(t, server, "crash", `{}`)
	require.Error(t, err, "nobody knows how far it came, and it is not repeated")
	var second string
	require.Eventually(t, func() bool { // the loss is noticed soon, not at once
		second, err = call(t, server, "pid", `{}`)
		return err == nil
	}, patience, time.Millisecond)
	require.NotEqual(t, first, second)
	ended(t, first)
}

// ended waits until a process is gone, and not just a zombie.
func ended(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return syscall.Kill(n, 0) != nil }, patience, 5*time.Millisecond)
}

func TestClose(t *testing.T) {
	t.Parallel()
	server := connect(t, stdio(t), nil)
	pid, err := call(t, server, "pid", `{}`)
	require.NoError(t, err)
	require.NoError(t, server.Close())
	ended(t, pid)
	_, err = call(t, server, "pid", `{}`)
	require.ErrorContains(t, err, "the connection was closed")
	require.NoError(t, server.Close(), "closing twice is no error")
}
