package main

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The program listens when it prints its line, and drains at SIGTERM.
func TestQuickstart_sigterm_ends(t *testing.T) {
	t.Parallel()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := free.Addr().String()
	require.NoError(t, free.Close())
	program := filepath.Join(t.TempDir(), "quickstart")
	out, err := exec.Command("go", "build", "-ldflags=-w -X main.addr="+addr, "-o", program, ".").CombinedOutput()
	require.NoError(t, err, string(out))

	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		cmd := exec.Command(program)
		stdout, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		watchdog := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		lines := bufio.NewScanner(stdout)
		require.True(t, lines.Scan())
		first := lines.Text()
		require.True(t, lines.Scan())
		connection, err := net.DialTimeout("tcp", addr, time.Second)
		require.NoError(t, err, "it must listen when it prints the line")
		require.NoError(t, connection.Close())
		_, rest, _ := strings.Cut(first, "Bearer ")
		key, _, _ := strings.Cut(rest, "'")

		post, err := http.NewRequest(http.MethodPost, "http://"+addr+"/api/v1/assistants/1/web-trigger", strings.NewReader(`{"message": "hello"}`))
		require.NoError(t, err)
		post.Header.Set("Authorization", "Bearer "+key)
		post.Header.Set("Content-Type", "application/json")
		accepted, err := http.DefaultClient.Do(post)
		require.NoError(t, err)
		require.NoError(t, accepted.Body.Close())
		require.Equal(t, http.StatusAccepted, accepted.StatusCode)

		require.NoError(t, cmd.Process.Signal(signal))
		require.NoError(t, cmd.Wait(), "it must end with status 0")
		watchdog.Stop()
	}
}

func TestQuickstart_staysShort(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("main.go")
	require.NoError(t, err)
	require.Less(t, bytes.Count(source, []byte("\n")), 80)
}
