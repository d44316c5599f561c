package main_test

import (
	"bufio"
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// notes builds the example MCP server.
func notes(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notes")
	out, err := exec.Command("go", "build", "-o", path, "../mcp/notes").CombinedOutput()
	require.NoError(t, err, string(out))
	return path
}

func TestToolsOfMCPServers(t *testing.T) {
	t.Parallel()
	path := notes(t)
	far := exec.Command(path, "-http", "127.0.0.1:0")
	stdout, err := far.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, far.Start())
	t.Cleanup(func() {
		_ = far.Process.Kill()
		_ = far.Wait()
	})
	url, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	s := start(t, "-mcp", path, "-mcp", "far="+strings.TrimSpace(url)+"?token=hush")
	s.hush.add("hush")
	require.Contains(t, s.Stdout.String(), "MCP server "+path)
	require.Contains(t, s.Stdout.String(), "MCP server "+strings.TrimSpace(url)+"\n")
	require.NotContains(t, s.Stdout.String(), "hush")

	for _, add := range []string{"notes_add", "far_notes_add"} {
		status := s.ended(s.say("/tool " + add + " {\"text\": \"from " + add + "\"}\n/tool " + strings.Replace(add, "add", "list", 1)))
		require.Equal(t, "completed", status["status"])
		require.Equal(t, "The tool said: from "+add, status["result"], "each server has its own notes")
	}
	listed := s.do(http.MethodGet, "/admin/api/tools", "", s.basic)
	for _, name := range []string{"calculator", "notes_list", "far_notes_list"} {
		require.Contains(t, listed.Body, `"`+name+`"`)
	}

	// The task's list holds for them like for any other tool.
	const definition = `{"name": "Sums", "instructions": "Add up.", "output_type": "text", "allowed_tools": ["calculator"], "active": true}`
	resp := s.do(http.MethodPost, "/admin/api/assistants/1/tasks", definition, s.basic)
	require.Equal(t, http.StatusCreated, resp.Status, resp.Body)
	a := s.trigger(map[string]any{"message": "/tool notes_list", "task_definition_id": resp.decode(t)["id"]})
	require.Contains(t, s.ended(a)["result"], `The tool said: Error: the tool "notes_list" is not available. Call one of these tools`)
	require.Contains(t, types(s.events(a)), "tool_failed")
}

func TestMCPServerThatDoesNotStart(t *testing.T) {
	t.Parallel()
	cmd := command(t, "-addr", "127.0.0.1:0", "-mcp", "./absent --token hush")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	require.Error(t, cmd.Run())
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	require.Contains(t, stderr.String(), "-mcp ./absent: ")
	require.NotContains(t, stderr.String(), "hush")
}

// The scripted model counts what it reads, and so shows that it got them.
func TestInstructions(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "instructions.txt")
	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("Be kind. ", 400)), 0o600))
	tokens := func(flags ...string) float64 {
		s := start(t, flags...)
		usage := s.ended(s.say("/say hello"))["usage"].(map[string]any)
		return usage["input_tokens"].(float64)
	}
	plain := tokens()
	require.Equal(t, plain+100, tokens("-instructions", strings.Repeat("Be brief", 50)))
	require.Equal(t, plain+900, tokens("-instructions", "@"+file))
}
