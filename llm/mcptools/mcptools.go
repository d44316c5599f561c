// Package mcptools gives an agent the tools of MCP servers (Model Context
// Protocol). It uses the official Go SDK.
//
//	files, err := mcptools.Connect(ctx, &mcptools.Command{Path: "file-server", Args: []string{"/srv/docs"}}, nil)
//	defer files.Close()
//	agent, err := llm.NewAgent(model, &llm.AgentOptions{Tools: append(own, files.Tools()...)})
//
// A tool of a server is a tool like any other. The lists of the assistant and of
// the task name it, its arguments are validated before they leave the process, and
// its calls have a time limit and a bound on their results.
//
// The model reads the descriptions and results of a server, so connect only servers
// that you trust to that extent. Connect reads names, descriptions and schemas once.
// A server cannot change later what an operator has reviewed and allowed.
//
// Many servers deviate from the protocol. A transport of [Command] or [HTTP] skips
// output that is not a message, and the session continues. Each kind of
// deviation is logged once per [Server].
package mcptools

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/webtrigger-go/webtrigger/llm"
)

// Options are the settings of a Server that have a default.
type Options struct {
	// Prefix is put before the names of the tools, such as "files_", if several
	// servers use the same names.
	Prefix string

	// Name returns the name of a tool of the server in the agent, and in its lists and
	// events. A tool for which it returns "" is skipped. If nil, the name is Prefix
	// and the server's name, with _ for each character that models do not accept.
	Name func(tool string) string

	// Timeout limits one call of a tool, including the time to reopen a session. If
	// zero, it is llm.AgentOptions.ToolTimeout.
	Timeout time.Duration

	// Logger receives skipped tools, deviations from the protocol, and the ends of
	// sessions. If nil, they are discarded.
	Logger *slog.Logger
}

// Server is an MCP server whose tools an agent uses. If a session is lost because
// the server ended or the network failed, the next call opens another one. A call
// that was in progress is repeated only if the server has not executed it.
// Server is safe for concurrent use.
type Server struct {
	sessions sessions
	opts     Options
	tools    []llm.Tool
}

// Connect opens a session with a server and reads the list of its tools. It copies
// the options, which may be nil. If an agent cannot use the name or the schema of a
// tool, Connect skips the tool and logs a warning. If the list does not end, Connect
// keeps the tools that it has read, at most 1,000.
//
// ctx limits only the time to connect. Give it a deadline. The caller must close the
// Server.
func Connect(ctx context.Context, dialer Dialer, opts *Options) (*Server, error) {
	s := &Server{}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Timeout < 0 {
		return nil, errors.New("mcptools: Timeout must not be negative")
	}
	if s.opts.Logger == nil {
		s.opts.Logger = discard
	}
	s.sessions.init(dialer, s.opts.Logger)
	if err := s.list(ctx); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("mcptools: connect: %w", err)
	}
	return s, nil
}

// Tools returns the tools as Connect read them, in the order of the server.
func (s *Server) Tools() []llm.Tool { return append([]llm.Tool(nil), s.tools...) }

// Close ends the session, and with it the process of a [Command]. Calls in progress
// and later calls fail.
func (s *Server) Close() error { return s.sessions.close() }

// call calls a tool of the server. It repeats the call once, in another session, if
// the server has not executed it.
func (s *Server) call(ctx context.Context, tool string, arguments json.RawMessage) (string, error) {
	ctx, cancel := s.sessions.until(ctx)
	defer cancel()
	var bad *session
	for {
		session, err := s.sessions.current(ctx, bad)
		if err != nil {
			return "", fmt.Errorf("connect to the server of the tool: %w", plain(err))
		}
		result, err := session.CallTool(ctx, &sdk.CallToolParams{Name: tool, Arguments: arguments})
		if err == nil {
			return textOf(result)
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		lost, doubtful := fate(err)
		if lost && bad == nil {
			bad = session
			continue
		}
		if lost || doubtful {
			s.sessions.retire(session)
		}
		return "", report(err)
	}
}

// fate reports whether a failed call was not executed because its session is lost,
// and whether its session may be lost.
func fate(err error) (lost, doubtful bool) {
	var rejected *rejection
	if errors.As(err, &rejected) {
		return rejected.lost, rejected.doubtful
	}
	// The SDK returns ErrConnectionClosed only for a call that it did not send.
	return errors.Is(err, sdk.ErrSessionMissing) || errors.Is(err, sdk.ErrConnectionClosed), false
}

// report returns the error that the model reads.
func report(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("server ended during the call (it is not known whether the call was executed)")
	}
	return plain(err)
}

// plain returns an error without the URL of the server, which may contain a secret.
func plain(err error) error {
	var rejected *rejection
	if errors.As(err, &rejected) {
		return rejected
	}
	var at *url.Error
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}
