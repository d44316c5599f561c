// Package servertest runs servers as processes, for tests: the evaluation server, or the
// test program itself.
package servertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/webtrigger-go/webtrigger/internal/logtest"
	"github.com/webtrigger-go/webtrigger/internal/racing"
)

// patience is how long a test waits for what takes milliseconds, on a machine
// that is busy.
const patience = time.Minute

// Build builds a command into a directory, with the race detector if the test has it, so
// that both use what is compiled once. dir is that of the command's package, and its name.
func Build(dir, into string) (program string, err error) {
	program = filepath.Join(into, filepath.Base(dir))
	args := []string{"build", "-ldflags=-w", "-o", program} // without what a debugger reads
	if racing.Detected() {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, ".")...)
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return program, nil
}

// Command is a program that is the server, with flags, in a directory of its own
// and without the settings of a model.
func Command(t testing.TB, program string, flags ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program, flags...)
	cmd.Dir = t.TempDir()
	cmd.Env = slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return strings.HasPrefix(entry, "OPENAI_") || strings.HasPrefix(entry, "ANTHROPIC_")
	})
	return cmd
}

// Process is a server process.
type Process struct {
	Cmd            *exec.Cmd
	Stdout, Stderr *logtest.Buffer
	Exited         chan struct{} // closed when it has ended
}

// Start starts a command. The process is killed at the end of the test; a data
// race in its log fails the test, and a test that fails shows the log.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{Cmd: cmd, Stdout: new(logtest.Buffer), Stderr: new(logtest.Buffer), Exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.Stdout, p.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		close(p.Exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.Exited
		if strings.Contains(p.Stderr.String(), "DATA RACE") {
			t.Error("the server has a data race")
		}
		if t.Failed() {
			log := p.Stderr.String()
			t.Logf("the server's log (the last 16 KiB):\n%s", log[max(0, len(log)-16<<10):])
		}
	})
	return p
}

// Alive reports whether the process has not ended.
func (p *Process) Alive() bool {
	select {
	case <-p.Exited:
		return false
	default:
		return true
	}
}

// Kill kills the process (SIGKILL) and returns when it has ended.
func (p *Process) Kill() time.Time {
	_ = p.Cmd.Process.Kill()
	<-p.Exited
	return time.Now()
}

// Printed waits until the process has printed what matches, and returns the first
// group.
func (p *Process) Printed(t testing.TB, what *regexp.Regexp) string {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for exited := p.Exited; ; {
		if found := what.FindStringSubmatch(p.Stdout.String()); found != nil {
			return found[1]
		}
		select {
		case <-tick.C:
			continue
		case <-exited:
			exited = nil // what it printed last may match
			late = time.After(0)
			continue
		case <-late:
		}
		t.Fatalf("%s is not in:\n%s\n%s", what, p.Stdout, p.Stderr)
	}
}

// URL waits until the server listens.
func (p *Process) URL(t testing.TB) string {
	t.Helper()
	return p.Printed(t, printedURL)
}

var printedURL = regexp.MustCompile(`(?m)^\s*URL\s+(http://\S+)$`)
