package pgtest

import (
	"bufio"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// A daemon is a directory and a shell that runs programs in it: one at a time
// to its end, or one in the background. The shell outlives this process only
// to end the program and to remove the directory.
//
// There is no goroutine behind it, so that a server that several tests share
// looks like a leak to none of them.
type daemon struct {
	dir string

	mu      sync.Mutex // one command at a time
	shell   *exec.Cmd
	in      io.WriteCloser
	out     io.ReadCloser
	answers *bufio.Reader
}

//go:embed supervise.sh
var supervise string

var errEnded = errors.New("the program has ended")

// newDaemon makes the directory and starts the shell. The signal is what ends
// the program when this process or the daemon ends. A volatile directory may be
// in memory.
func newDaemon(prefix, signal string, volatile bool) (*daemon, error) {
	return newDaemonIn("", prefix, signal, volatile)
}

// newDaemonIn is newDaemon with the parent of the directory; "": by volatile.
func newDaemonIn(parent, prefix, signal string, volatile bool) (*daemon, error) {
	user, err := unprivileged()
	if err != nil {
		return nil, err
	}
	if parent == "" {
		parent = user.parent(volatile)
	}
	dir, err := user.makeDir(parent, prefix)
	if err != nil {
		return nil, err
	}
	shell := exec.Command("/bin/sh", "-c", supervise, "supervise", dir, signal)
	shell.Dir = dir // the caller's may be closed to the other user
	shell.Env = environ()
	shell.SysProcAttr = user.attributes()
	// Both pipes are closed on exec, so no other child holds an end of them.
	in, err := shell.StdinPipe()
	if err == nil {
		var out io.ReadCloser
		if out, err = shell.StdoutPipe(); err == nil {
			if err = shell.Start(); err == nil {
				return &daemon{dir: dir, shell: shell, in: in, out: out, answers: bufio.NewReader(out)}, nil
			}
		}
	}
	os.RemoveAll(dir)
	return nil, fmt.Errorf("starting the supervisor: %w", err)
}

// run runs a program to its end; a status other than 0 is an error.
func (d *daemon) run(program string, args ...string) error {
	return d.command("run", append([]string{program}, args...)...)
}

// start runs a program in the background. It is an error if one runs already.
func (d *daemon) start(program string, args ...string) error {
	return d.command("start", append([]string{program}, args...)...)
}

// stop sends the background program, if there is one, a signal and waits for
// its end.
func (d *daemon) stop(signal string) error { return d.command("stop", signal) }

// waitFor polls until ready returns true. It returns errEnded if the background
// program ends before that.
func (d *daemon) waitFor(ready func() bool) error {
	deadline := time.Now().Add(startTimeout)
	for n := 1; ; n++ {
		if ready() {
			return nil
		}
		// Asking whether the program lives costs the shell a fork.
		if n%10 == 0 {
			if err := d.command("alive"); err != nil {
				return errEnded
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after %v", startTimeout)
		}
		time.Sleep(pollInterval)
	}
}

// command has the shell evaluate a line and returns its answer, nil for 0.
func (d *daemon) command(name string, args ...string) error {
	line := name
	for _, arg := range args {
		line += " '" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
	}
	if strings.Contains(line, "\n") {
		return fmt.Errorf("%q does not fit into a line", line)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := io.WriteString(d.in, line+"\n"); err != nil {
		return fmt.Errorf("the supervisor has ended: %w", err)
	}
	answer, err := d.answers.ReadString('\n')
	if err != nil {
		return fmt.Errorf("the supervisor has ended: %w", err)
	}
	if answer != "0\n" {
		return fmt.Errorf("%s: status %s", strings.Join(append([]string{name}, args...), " "), strings.TrimSpace(answer))
	}
	return nil
}

// close ends the background program and removes the directory.
func (d *daemon) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.in.Close()
	io.Copy(io.Discard, d.out)
	d.shell.Wait()
	os.RemoveAll(d.dir) // what the shell could not
}

func (d *daemon) log() string { return filepath.Join(d.dir, "log") }

func (d *daemon) logSize() int64 {
	info, err := os.Stat(d.log())
	if err != nil {
		return 0
	}
	return info.Size()
}

func (d *daemon) logFrom(offset int64) string {
	f, err := os.Open(d.log())
	if err != nil {
		return ""
	}
	defer f.Close()
	text, _ := io.ReadAll(io.NewSectionReader(f, offset, 1<<40))
	return string(text)
}

// logTail returns the last 8 KiB, less the line that this cuts.
func (d *daemon) logTail() string {
	from := d.logSize() - 8<<10
	if from <= 0 {
		return d.logFrom(0)
	}
	_, tail, _ := strings.Cut(d.logFrom(from), "\n")
	return tail
}

// environ is this process's environment without what would change how the
// programs work, or their language, and with a time zone, which initdb would
// otherwise look for by comparing all there are.
func environ() []string {
	env := slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return strings.HasPrefix(entry, "PG") || strings.HasPrefix(entry, "LC_") || strings.HasPrefix(entry, "LANG")
	})
	return append(env, "LC_ALL=C", "TZ=UTC")
}

// writeFile makes a file that the other user can read, whatever the umask.
func writeFile(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Chmod(path, 0o644)
}

// appendFile adds to a file, which keeps its owner.
func appendFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
