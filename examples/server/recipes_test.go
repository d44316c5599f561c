package main_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/needs"
)

// testRecipes runs every program of docs/recipes.md against a server, in the
// language of its block. A block of text is not a program. A program that is missing is
// skipped, unless WEBTRIGGER_TEST_ALL is set.
func testRecipes(t *testing.T, s *server) {
	page, err := os.ReadFile("../../docs/recipes.md")
	require.NoError(t, err)
	interpreters := map[string][]string{
		"sh": {"sh"}, "python": {"python3", "-"}, "javascript": {"node", "--input-type=module", "-"},
		"go": {"go", "run", filepath.Join(t.TempDir(), "main.go")},
	}
	blocks := codeBlock.FindAllStringSubmatch(string(page), -1)
	run := 0
	for _, block := range blocks {
		if block[1] == "text" {
			continue
		}
		run++
		args := interpreters[block[1]]
		require.NotNil(t, args, "no interpreter for %s", block[1])
		needed := args[0]
		if needed == "sh" {
			needed = "curl"
		}
		if err := needs.Programs(needed); err != nil {
			require.False(t, needs.Everything(), err)
			t.Log(err)
			continue
		}
		if needed == "go" {
			require.NoError(t, os.WriteFile(args[2], []byte(block[2]), 0o600))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "WEBTRIGGER_URL="+s.url, "WEBTRIGGER_KEY="+s.key, "no_proxy=127.0.0.1")
		cmd.Stdin = strings.NewReader(block[2])
		out, err := cmd.CombinedOutput()
		cancel()
		require.NoError(t, err, "%s: %s", block[1], out)
		require.Contains(t, string(out), "The nightly report", block[1])
	}
	require.Equal(t, len(interpreters), run)
}
