// Package needs is for tests that need a program or a package of npm's registry, which
// a machine may lack.
package needs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Variable is an environment variable. If it is not empty, nothing may be skipped:
// a test fails if one of its programs or packages is missing. scripts/test.sh sets it.
const Variable = "WEBTRIGGER_TEST_ALL"

// Everything reports whether nothing may be missing.
func Everything() bool { return os.Getenv(Variable) != "" }

// Missing skips a test with the reason, or fails it where nothing may be missing.
func Missing(tb testing.TB, reason any) {
	tb.Helper()
	if Everything() {
		tb.Fatal(reason)
	} else {
		tb.Skip(reason)
	}
}

// Programs is an error that names the first program which is not on the PATH.
func Programs(names ...string) error {
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("there is no %s on this machine", name)
		}
	}
	return nil
}

// NPM installs what the package-lock.json of a directory names there. It runs no
// script of a package.
func NPM(ctx context.Context, dir string) error {
	if err := Programs("node", "npm"); err != nil {
		return err
	}
	install := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("npm could not install its packages: %w: %s", err, out[max(0, len(out)-300):])
	}
	return nil
}
