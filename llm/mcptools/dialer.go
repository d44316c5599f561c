package mcptools

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// Dialer creates the transport of a session with a server. Connect calls it once,
// and again each time that a session was lost.
type Dialer interface {
	Dial(ctx context.Context) (sdk.Transport, error)
}

// DialerFunc is a function that implements Dialer, for transports of the SDK that
// this package has no type for. Such a transport must tolerate by itself what
// [Command] and [HTTP] tolerate.
type DialerFunc func(ctx context.Context) (sdk.Transport, error)

// Dial calls f.
func (f DialerFunc) Dial(ctx context.Context) (sdk.Transport, error) { return f(ctx) }

// notingDialer is a Dialer whose transports log the misbehavior of the server.
type notingDialer interface {
	dial(notes *notes) (sdk.Transport, error)
}

// Command is a server that runs as a process of its own and communicates over its
// standard input and output. A session starts the process, and the end of the
// session ends it: the session closes the input, then sends SIGTERM, then SIGKILL,
// 2 s apart. The process has a process group of its own, so that an interrupt from
// the terminal does not end it while runs drain.
type Command struct {
	Path string   // a file, or a name that is looked up in PATH
	Args []string // without the name of the program
	Dir  string   // if empty, the working directory of this process

	// Env are entries NAME=value. They are added to the few variables of this process
	// that programs need (PATH, HOME, TMPDIR, the language and similar ones). The
	// server gets no other variables, so it gets no keys and passwords of the host.
	Env []string

	// Stderr receives the standard error of the server. If nil, it is discarded.
	Stderr io.Writer
}

const terminateAfter = 2 * time.Second

// Dial returns a transport that starts a process when a session connects.
func (c *Command) Dial(context.Context) (sdk.Transport, error) { return c.dial(newNotes(discard)) }

func (c *Command) dial(notes *notes) (sdk.Transport, error) {
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Dir, cmd.Stderr = c.Dir, c.Stderr
	cmd.Env = append(passedOn(), c.Env...)
	cmd.WaitDelay = terminateAfter // for child processes that keep its output open
	alone(cmd)
	return &process{cmd: cmd, filter: &filter{notes: notes}}, nil
}

var discard = slog.New(slog.DiscardHandler)

// passedOn returns the variables of this process that a server gets.
func passedOn() []string {
	var env []string
	for _, name := range []string{
		"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_CTYPE",
		"APPDATA", "LOCALAPPDATA", "PROGRAMFILES", "SYSTEMDRIVE", "SYSTEMROOT", "TEMP", "TMP", "USERNAME", "USERPROFILE", // Windows
	} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}
