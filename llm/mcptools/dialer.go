package mcptools

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// Dialer makes the transport of one session with a server. It is asked again when
// a session was lost.
type Dialer interface {
	Dial(ctx context.Context) (sdk.Transport, error)
}

// DialerFunc is a function that is a Dialer: for transports of the SDK that this
// package has no type for.
type DialerFunc func(ctx context.Context) (sdk.Transport, error)

// Dial calls f.
func (f DialerFunc) Dial(ctx context.Context) (sdk.Transport, error) { return f(ctx) }

// Command is a server that runs as a process of its own and is spoken to over its
// standard input and output. A session starts the process and its end ends it:
// the input is closed, then it gets SIGTERM, then SIGKILL, 2 s apart. It has a
// process group of its own, so that an interrupt from the terminal does not end it
// while runs drain.
type Command struct {
	Path string // a file, or a name that is looked up in PATH
	Args []string
	Dir  string // "": this process's own

	// Env are entries NAME=value besides the few of this process's environment that
	// programs need to work at all (PATH, HOME, TMPDIR, the language and the like).
	// All else is kept from the server, keys and passwords in it included.
	Env []string

	// Stderr gets what the server writes to its standard error. nil discards.
	Stderr io.Writer
}

const terminateAfter = 2 * time.Second

// Dial prepares a process; the SDK starts it.
func (c *Command) Dial(context.Context) (sdk.Transport, error) {
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Dir, cmd.Stderr = c.Dir, c.Stderr
	cmd.Env = append(passedOn(), c.Env...)
	cmd.WaitDelay = terminateAfter // for children of it that hold on to its output
	alone(cmd)
	return &sdk.CommandTransport{Command: cmd, TerminateDuration: terminateAfter}, nil
}

// passedOn is what a server gets of this process's environment.
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

// HTTP is a server that is spoken to over HTTP (the protocol's streamable HTTP
// transport).
type HTTP struct {
	URL    string      // absolute, http or https
	Header http.Header // on every request, such as Authorization; nil: none

	// Client makes the requests. nil: one of our own, that follows no redirects and
	// has no time limit besides that of the calls.
	Client *http.Client
}

// maxAnswer bounds one answer of a server, in bytes.
const maxAnswer = 16 << 20

// Dial makes a transport; nothing is sent yet.
func (h *HTTP) Dial(context.Context) (sdk.Transport, error) {
	u, err := url.Parse(h.URL)
	if err != nil {
		return nil, errors.New("the URL cannot be read") // it may hold a secret
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, errors.New("the URL must be absolute, http or https")
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error {
		return errors.New("the server redirects, which is not followed")
	}}
	if h.Client != nil {
		kept := *h.Client
		client = &kept
	}
	client.Transport = &roundTripper{next: client.Transport, header: h.Header.Clone(), scheme: u.Scheme, host: u.Host}
	return &sdk.StreamableClientTransport{
		Endpoint: h.URL, HTTPClient: client, MaxEventSize: maxAnswer,
		DisableStandaloneSSE: true, // nothing is listened for between calls
	}, nil
}

// roundTripper adds the host's headers to requests to the server, and to no
// other, and bounds what is read of an answer.
type roundTripper struct {
	next         http.RoundTripper
	header       http.Header
	scheme, host string
}

func (t *roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	next := t.next
	if next == nil {
		next = http.DefaultTransport
	}
	if r.URL.Scheme == t.scheme && r.URL.Host == t.host && len(t.header) > 0 {
		r = r.Clone(r.Context())
		for name, values := range t.header {
			r.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	response, err := next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if media != "text/event-stream" { // where each event is bounded
		response.Body = &limitedBody{response.Body, maxAnswer}
	}
	return response, nil
}

// limitedBody is a body that is an error beyond its limit, not an end.
type limitedBody struct {
	io.ReadCloser
	left int64
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, fmt.Errorf("the server's answer has more than %d bytes", maxAnswer)
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}
