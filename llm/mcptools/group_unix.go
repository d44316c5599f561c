//go:build unix

package mcptools

import (
	"os/exec"
	"syscall"
)

// alone puts a server into a process group of its own: an interrupt from the
// terminal is the host's business, whose runs may still need the server while they
// drain.
func alone(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
