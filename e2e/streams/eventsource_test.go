package streams_test

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// installNode installs npm's eventsource and returns its directory; "" where it is
// not to be had.
func installNode(t *testing.T) (dir string) {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			lacking(t, "there is no %s on this machine", program)
			return ""
		}
	}
	dir = t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/node")))
	npm := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		lacking(t, "npm could not install eventsource: %v: %s", err, out[max(0, len(out)-300):])
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
