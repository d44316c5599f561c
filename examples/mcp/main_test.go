package main

import (
	"bufio"
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "notes")
	out, err := exec.Command("go", "build", "-o", binary, "./notes").CombinedOutput()
	require.NoError(t, err, string(out))
	return binary
}

func TestRun(t *testing.T) {
	t.Parallel()
	notes := build(t)
	var out bytes.Buffer
	err := run(t.Context(), &out, []string{notes},
		"/tool notes_add {\"text\": \"water the plants\"}\n/tool notes_add {\"text\": \"feed the cat\"}\n/tool notes_list")
	require.NoError(t, err)
	require.Equal(t, strings.Join([]string{
		"tool notes_add: Keeps a note.", "tool notes_list: Lists the notes, oldest first.",
		"run completed: The tool said: water the plants", "feed the cat", "",
	}, "\n"), out.String())

	require.Error(t, run(t.Context(), &out, []string{notes + "-absent"}, "x"))
}

func TestNotesOverHTTP(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(build(t), "-http", "127.0.0.1:0")
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	url, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Regexp(t, `^http://127\.0\.0\.1:\d+/\n$`, url)
}
