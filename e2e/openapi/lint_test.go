package openapi_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/needs"
	"github.com/webtrigger-go/webtrigger/openapi"
)

// TestLint lints the document with Redocly's recommended rules. The linter comes
// from npm, pinned by package-lock.json.
func TestLint(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a linter in Node.js")
	}
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o644))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "openapi.yaml"), openapi.YAML(), 0o644))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	run := func(name string, args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "REDOCLY_TELEMETRY=off", "REDOCLY_SUPPRESS_UPDATE_NOTICE=true")
		return cmd.CombinedOutput()
	}
	if err := needs.NPM(ctx, dir); err != nil {
		needs.Missing(t, err)
	}
	out, err := run("node", "node_modules/@redocly/cli/bin/cli.js", "lint", "openapi.yaml")
	require.NoError(t, err, string(out))
}
