package main_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGoOfDocumentsCompiles compiles every block of Go that is a whole file, as a
// package of the module of the examples that an overlay adds. Blocks without a
// package clause are pieces.
func TestGoOfDocumentsCompiles(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles what the documents show")
	}
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	here, err := filepath.Abs(".")
	require.NoError(t, err)
	replace, packages := make(map[string]string), []string(nil)
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for i, block := range codeBlock.FindAllStringSubmatch(string(text), -1) {
			if block[1] != "go" || !strings.HasPrefix(block[2], "package ") {
				continue
			}
			name := strings.TrimSuffix(filepath.Base(page), ".md") + string(rune('a'+i))
			file := filepath.Join(t.TempDir(), "block.go")
			require.NoError(t, os.WriteFile(file, []byte(block[2]), 0o600))
			replace[filepath.Join(here, "documented", name, "block.go")] = file
			packages = append(packages, "./documented/"+name)
		}
	}
	require.GreaterOrEqual(t, len(packages), 8)
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "overlay.json")
	require.NoError(t, os.WriteFile(file, overlay, 0o600))
	args := []string{"build", "-overlay", file}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race") // what this test is built of is compiled already
	}
	said, err := exec.Command("go", append(args, packages...)...).CombinedOutput()
	require.NoError(t, err, string(said))
}
