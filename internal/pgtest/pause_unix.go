//go:build unix

package pgtest

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Pause stops all processes of the server where they are (SIGSTOP), until Resume.
// Connections stay open without an answer. Its clock continues.
func (s *Server) Pause() error {
	postmaster, err := strconv.Atoi(s.lockLine(0))
	if err != nil {
		return fmt.Errorf("pgtest: pausing PostgreSQL: %w", err)
	}
	// First the process that starts the others.
	err = syscall.Kill(postmaster, syscall.SIGSTOP)
	for range 2 { // a child that was being started
		err = errors.Join(err, signalChildren(postmaster, syscall.SIGSTOP))
	}
	return err
}

// Resume ends a Pause. Without one it does nothing.
func (s *Server) Resume() error {
	postmaster, err := strconv.Atoi(s.lockLine(0))
	if err != nil {
		return nil // the server is down
	}
	return errors.Join(signalChildren(postmaster, syscall.SIGCONT), syscall.Kill(postmaster, syscall.SIGCONT))
}

// signalChildren signals the processes that a process has started.
func signalChildren(parent int, signal syscall.Signal) error {
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=").Output()
	if err != nil {
		return fmt.Errorf("pgtest: ps: %w", err)
	}
	fields := strings.Fields(string(out))
	for pair := range slices.Chunk(fields, 2) {
		if len(pair) < 2 || pair[1] != strconv.Itoa(parent) {
			continue
		}
		child, err := strconv.Atoi(pair[0])
		if err != nil {
			return err
		}
		if err := syscall.Kill(child, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}
