package needs_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Without any program on the machine, scripts/deps.sh misses each of those that have no
// known place outside of PATH. It does not take one of its functions for a program.
func TestDeps_emptyPath_missesEachProgram(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("../../scripts/deps.sh")
	require.NoError(t, err)
	cmd := exec.Command("/bin/sh", "-c", string(script))
	cmd.Env = []string{"PATH=" + t.TempDir()} // without apt-get, it installs nothing
	output, err := cmd.CombinedOutput()
	require.Error(t, err)
	missing, _, _ := strings.Cut(string(output), "Install:")
	for _, name := range []string{"a C compiler", "curl", "Chromium", "Node.js with npm", "Python 3"} {
		require.Contains(t, missing, name)
	}
}
