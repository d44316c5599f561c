package recipes_test

import (
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/rhysd/actionlint"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/needs"
)

const actions = "../../docs/recipes/github-actions.yml"

// actionlint finds nothing wrong with the recipe, nor with our own workflow.
func TestWorkflowsOfGitHubActions(t *testing.T) {
	t.Parallel()
	linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{Shellcheck: "", Pyflakes: ""})
	require.NoError(t, err)
	for _, file := range []string{actions, "../../.github/workflows/ci.yml"} {
		found, err := linter.LintFile(file, nil)
		require.NoError(t, err)
		require.Empty(t, found, file)
	}
	found, err := linter.Lint("broken.yml", []byte("on: push\njobs: {a: {runs-on: ubuntu-latest, steps: [{run: 'echo ${{ secret.KEY }}'}]}}\n"), nil)
	require.NoError(t, err)
	require.Len(t, found, 1, "it looks")
}

// The step of the recipe, executed as GitHub's runner does: it waits for a run
// that takes a while, and fails with one that fails.
func TestGitHubActions(t *testing.T) {
	t.Parallel()
	if err := needs.Programs("bash", "curl", "python3"); err != nil {
		needs.Missing(t, err)
	}
	text, err := os.ReadFile(actions)
	require.NoError(t, err)
	workflow, faults := actionlint.Parse(text)
	require.Empty(t, faults)
	steps := workflow.Jobs["ask"].Steps
	require.Len(t, steps, 1)
	script := steps[0].Exec.(*actionlint.ExecRun).Run.Value
	h := newHost(t, time.Second, nil)
	step := func(run, message string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "bash", "-e", "-c", script)
		cmd.Env = append(os.Environ(), "WEBTRIGGER_URL="+h.url, "WEBTRIGGER_KEY="+h.key, "MESSAGE="+message,
			"GITHUB_RUN_ID="+run, "GITHUB_RUN_ATTEMPT=1", "no_proxy=127.0.0.1")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := step("1", `The "nightly" report`)
	require.NoError(t, err, out)
	require.Contains(t, out, `Done: The \"nightly\" report`)
	out, err = step("2", "fail")
	require.Error(t, err)
	require.Contains(t, out, `"run_status":"failed"`)
}
