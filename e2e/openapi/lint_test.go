package openapi_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/openapi"
)

// TestLint lints the document with Redocly's recommended rules. The linter comes
// from npm, pinned by package-lock.json.
func TestLint(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a linter in Node.js")
	}
	lacking := func(reason string) {
		if os.Getenv("WEBTRIGGER_TEST_ALL") != "" {
			require.FailNow(t, reason)
		}
		t.Skip(reason)
	}
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			lacking("there is no " + program + " on this machine")
		}
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
	if out, err := run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"); err != nil {
		lacking("npm could not install the linter: " + err.Error() + ": " + string(out[max(0, len(out)-300):]))
	}
	out, err := run("node", "node_modules/@redocly/cli/bin/cli.js", "lint", "openapi.yaml")
	require.NoError(t, err, string(out))
}
