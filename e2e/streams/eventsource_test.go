package streams_test

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/needs"
)

// installNode installs npm's eventsource and returns its directory; "" where it is
// not to be had.
func installNode(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/node")))
	if err := needs.NPM(t.Context(), dir); err != nil {
		lacking(t, err.Error())
		return ""
	}
	return dir
}

// eventSource is npm's eventsource, in a process of Node.js.
func eventSource(dir string) library {
	return func(ctx context.Context, url string, got chan<- event) error {
		cmd := exec.CommandContext(ctx, "node", "follow.mjs", url)
		cmd.Dir = dir
		cmd.Stderr = os.Stderr
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			var message []string
			if err := json.Unmarshal(lines.Bytes(), &message); err != nil {
				return err
			}
			got <- event{message[0], message[1]}
		}
		return cmd.Wait()
	}
}
