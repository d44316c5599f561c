package admin_test

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/needs"
)

func TestConsoleMarkdown_longTexts_takeLinearTime(t *testing.T) {
	t.Parallel()
	if err := needs.Programs("node"); err != nil {
		needs.Missing(t, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "node", "testdata/markdown.mjs", "console/static/markdown.js").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Empty(t, string(out))
}
