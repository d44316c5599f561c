package main_test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/internal/logtest"
)

// walk executes the lines of a document one after the other, as a reader who pastes
// them does: it starts their servers and sends their requests. Each server gets a free
// port instead of the documented one.
type walk struct {
	t         *testing.T
	dir       string
	env       map[string]string  // exported, and what else the lines may use
	servers   map[string]*server // by the documented address
	addresses map[string]string  // documented, and the one in its place
	receiver  *logtest.Buffer    // of the callback receiver; nil: it was not started
}

func newWalk(t *testing.T) *walk {
	return &walk{
		t: t, dir: t.TempDir(), env: make(map[string]string),
		servers: make(map[string]*server), addresses: make(map[string]string),
	}
}

// do executes a line. What it prints is returned, where it is a request that was
// answered.
func (w *walk) do(line string) (said string) {
	w.t.Helper()
	switch {
	case strings.HasPrefix(line, "export "):
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		if _, given := w.env[name]; !given {
			w.env[name] = strings.TrimSpace(w.shell(line + `; printf '%s' "$` + name + `"`))
		}
	case strings.HasPrefix(line, "go run ./examples/server"):
		w.serve(w.words(strings.TrimPrefix(line, "go run ./examples/server")))
	case strings.HasPrefix(line, "go run ./examples/receiver"):
		w.receive(w.words(strings.TrimPrefix(line, "go run ./examples/receiver")))
	case strings.HasPrefix(line, "curl "):
		return w.shell(w.translated(line))
	default:
		require.Fail(w.t, "walk cannot execute this line", line)
	}
	return ""
}

// ask executes a curl line, whose output must contain want: at once, or soon if the line
// only reads.
func (w *walk) ask(line, want string) {
	w.t.Helper()
	if strings.Contains(line, " -d ") || strings.Contains(line, " -X POST ") {
		require.Contains(w.t, w.do(line), want, line)
		return
	}
	said := ""
	require.Eventually(w.t, func() bool {
		said = w.do(line)
		return strings.Contains(said, want)
	}, patience, 20*time.Millisecond, "the output of %s must contain %s", line, want)
}

// linesOf are the lines of a block: those that a backslash continues are one, and comments are
// none.
func linesOf(block string) (lines []string) {
	for line := range strings.Lines(strings.ReplaceAll(block, "\\\n", " ")) {
		line = strings.Join(strings.Fields(comment.ReplaceAllString(line, "")), " ")
		if line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

var comment = regexp.MustCompile(`(^|\s+)# .*`)

// words are a line's as the shell sees them.
func (w *walk) words(line string) []string {
	w.t.Helper()
	return strings.Fields(w.shell("for word in " + line + `; do printf '%s\n' "$word"; done`))
}

func (w *walk) shell(line string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-eu", "-c", line)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "no_proxy=127.0.0.1")
	for name, value := range w.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var problems logtest.Buffer
	cmd.Stderr = &problems
	said, err := cmd.Output()
	require.NoError(w.t, err, "%s\n%s", line, problems.String())
	return string(said)
}

// translated is a line with the addresses that servers really have.
func (w *walk) translated(line string) string {
	for documented, real := range w.addresses {
		line = strings.ReplaceAll(line, documented, real)
	}
	return line
}

// serve starts a server at the address of the previous one.
func (w *walk) serve(args []string) {
	w.t.Helper()
	documented, flags := "127.0.0.1:8080", []string(nil)
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "-addr":
			i++
			documented = args[i]
		case strings.HasSuffix(args[i], ".pem"):
			flags = append(flags, filepath.Join(w.dir, args[i]))
		default:
			flags = append(flags, args[i])
		}
	}
	if before := w.servers[documented]; before != nil {
		stop(w.t, before)
	}
	s := startWith(w.t, nil, flags...)
	w.servers[documented], w.addresses[documented] = s, strings.TrimPrefix(s.url, "http://")
	w.env["KEY"] = s.key
}

// ended waits until the run of a trigger has ended, as a person does between two
// lines.
func (w *walk) ended(triggerID string) {
	w.t.Helper()
	s := w.servers["127.0.0.1:8080"]
	require.Eventually(w.t, func() bool {
		answer := s.do(http.MethodGet, "/api/v1/web-triggers/"+triggerID+"/status", "", bearer(s.key))
		return !strings.Contains(answer.Body, `"status":"processing"`)
	}, patience, 10*time.Millisecond)
}

var listening = regexp.MustCompile(`receiving callbacks on https://(\S+)/`)

// receive starts the example receiver.
func (w *walk) receive(args []string) {
	w.t.Helper()
	program := filepath.Join(w.dir, "receiver")
	built, err := exec.Command("go", "build", "-o", program, "../receiver").CombinedOutput()
	require.NoError(w.t, err, string(built))
	w.receiver = new(logtest.Buffer)
	cmd := exec.Command(program, append(args, "-addr", "127.0.0.1:0")...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.dir, w.receiver, w.receiver
	require.NoError(w.t, cmd.Start())
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	require.Eventually(w.t, func() bool { return listening.MatchString(w.receiver.String()) }, patience, 5*time.Millisecond)
	w.addresses["127.0.0.1:8443"] = listening.FindStringSubmatch(w.receiver.String())[1]
}
