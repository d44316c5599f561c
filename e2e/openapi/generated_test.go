package openapi_test

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/oapi-codegen/runtime"       // the base of generated clients,
	_ "github.com/oapi-codegen/runtime/types" // in the version that this module pins
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/openapi"
	"github.com/webtrigger-go/webtrigger/webtriggertest"
)

// TestGeneratedClient generates a Go client of the document with oapi-codegen, pinned in
// tools. It compiles the client with testdata/generated, and calls a service with it.
func TestGeneratedClient(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds a generator and a client")
	}
	svc := webtriggertest.New(t, &webtriggertest.Options{Runner: webtrigger.RunnerFunc(
		func(ctx context.Context, task *webtrigger.Task, emit webtrigger.Emit) (*webtrigger.Result, error) {
			if task.Input.Message == "hang" {
				<-ctx.Done()
			}
			err := emit("x_step", map[string]any{"n": 1})
			return &webtrigger.Result{Text: string(task.Input.Context), Usage: &webtrigger.Usage{OutputTokens: 3}}, err
		})})
	server := httptest.NewServer(svc)
	defer server.Close()

	ctx, stop := context.WithTimeout(t.Context(), 4*time.Minute)
	defer stop()
	command := exec.CommandContext(ctx, buildGenerated(t, ctx))
	command.Env = append(os.Environ(), "BASE_URL="+server.URL, "KEY="+svc.Key)
	said, err := command.CombinedOutput()
	require.NoError(t, err, string(said))
	require.Equal(t, `accepted 1 1 true true 
accepted 1 1 true true true
status completed completed {"build":17} 3 true true
unchanged 304
events 4
cancel cancel_requested
then cancelled
again cancelled
rejected invalid_request /message
rejected forbidden
rejected not_found
`, string(said))
}

// buildGenerated returns a program with a client made of the document.
func buildGenerated(t *testing.T, ctx context.Context) string {
	t.Helper()
	run := func(dir, name string, args ...string) string {
		t.Helper()
		command := exec.CommandContext(ctx, name, args...)
		command.Dir = dir
		var problems strings.Builder
		command.Stderr = &problems
		out, err := command.Output()
		require.NoError(t, err, problems.String())
		return strings.TrimSpace(string(out))
	}
	dir := t.TempDir()
	document, client, program := filepath.Join(dir, "openapi.json"), filepath.Join(dir, "client.go"), filepath.Join(dir, "program")
	require.NoError(t, os.WriteFile(document, openapi.JSON(), 0o600))
	generator := run("", "sh", "../../scripts/tool.sh", "oapi-codegen")
	run("", generator, "-generate", "types,client", "-package", "main", "-o", client, document)
	driver, err := os.ReadFile("testdata/generated/main.go")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), driver, 0o600))
	run("", "go", "build", "-o", program, client, filepath.Join(dir, "main.go")) // files of no module see what this one requires
	return program
}
