package mcptools

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// process is the transport of a Command. The SDK has one too, but that one decodes
// the output of the process itself, so that no filter fits in between.
type process struct {
	cmd    *exec.Cmd
	filter *filter
}

// Connect starts the process.
func (p *process) Connect(ctx context.Context) (sdk.Connection, error) {
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	transport := &sdk.IOTransport{
		Reader: io.NopCloser(newLines(stdout, p.filter, maxAnswer)),
		Writer: &processInput{WriteCloser: stdin, cmd: p.cmd},
		// The filter bounds what a server sends. What it makes of that may be larger,
		// because of escapes.
		MaxLineLength: -1,
	}
	return transport.Connect(ctx)
}

// processInput is the standard input of a process. Closing it ends the process.
type processInput struct {
	io.WriteCloser
	cmd *exec.Cmd
}

// writePatience is how long a server may leave its input unread. After that the
// session ends, because the SDK waits for a write whatever the deadline of the call.
var writePatience = 10 * time.Second // shortened in tests

func (in *processInput) Write(p []byte) (int, error) {
	if file, ok := in.WriteCloser.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = file.SetWriteDeadline(time.Now().Add(writePatience)) // not supported everywhere
	}
	n, err := in.WriteCloser.Write(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = in.cmd.Process.Kill()
	}
	return n, err
}

// Close closes the input and waits for the process to end. If it does not, it gets
// SIGTERM, then SIGKILL.
func (in *processInput) Close() error {
	_ = in.WriteCloser.Close()
	ended := make(chan error, 1)
	go func() { ended <- in.cmd.Wait() }()
	for _, next := range []os.Signal{syscall.SIGTERM, os.Kill} {
		select {
		case err := <-ended:
			return err
		case <-time.After(terminateAfter):
			if in.cmd.Process.Signal(next) != nil {
				_ = in.cmd.Process.Kill() // a system without SIGTERM
			}
		}
	}
	return <-ended
}
