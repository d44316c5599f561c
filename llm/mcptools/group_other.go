//go:build !unix

package mcptools

import "os/exec"

// alone is for systems whose terminals signal process groups.
func alone(*exec.Cmd) {}
