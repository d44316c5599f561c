// Package mcptools gives an agent the tools of MCP servers (Model Context Protocol),
// over the official Go SDK.
//
//	files, err := mcptools.Connect(ctx, &mcptools.Command{Path: "file-server", Args: []string{"/srv/docs"}}, nil)
//	defer files.Close()
//	agent, err := llm.NewAgent(model, &llm.AgentOptions{Tools: append(own, files.Tools()...)})
//
// Such a tool is a tool like any other: it is named in the assistant's list and in
// the task's, its arguments are validated before they leave the process, and its
// calls have a time limit and a bound on their results.
//
// A server is trusted as far as its descriptions go: they are read by the model.
// They are read once, by Connect, so that a server cannot change later what
// somebody has looked at and allowed.
package mcptools

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/webtrigger-go/webtrigger/llm"
)

// Options is everything about a Server that has a default.
type Options struct {
	// Prefix is put before the names of the tools, such as "files_", where several
	// servers use the same ones.
	Prefix string

	// Name says what the model, the lists and the events call a tool of the server,
	// and leaves out those for which it returns "". nil: Prefix and the server's own
	// name, with a _ for each character that models do not take.
	Name func(tool string) string

	// Timeout bounds one call of a tool, with the reconnection that it may need. 0:
	// llm.AgentOptions.ToolTimeout.
	Timeout time.Duration

	// Logger gets what is wrong with a server's tools and the loss of sessions. nil
	// discards.
	Logger *slog.Logger
}

// Server is an MCP server whose tools an agent uses. A session that is lost,
// because the server ended or the network failed, is opened again by the next
// call; the call that was under way has failed, for nobody knows how far it came.
// Its methods are safe for concurrent use.
type Server struct {
	sessions sessions
	opts     Options
	tools    []llm.Tool
}

// maxTools bounds the tools of one server.
const maxTools = 1000

// Connect opens a session with a server and reads what tools it has. The options
// may be nil and are copied. A tool whose name or schema an agent cannot use is
// left out, and a warning is logged.
//
// ctx bounds the connecting only; give it a deadline. The Server is to be closed.
func Connect(ctx context.Context, dialer Dialer, opts *Options) (*Server, error) {
	s := &Server{}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Timeout < 0 {
		return nil, errors.New("mcptools: Timeout must not be negative")
	}
	if s.opts.Logger == nil {
		s.opts.Logger = slog.New(slog.DiscardHandler)
	}
	s.sessions.init(dialer, s.opts.Logger)
	if err := s.list(ctx); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("mcptools: connect: %w", err)
	}
	return s, nil
}

// Tools returns the server's tools as they were when Connect read them, in the
// server's order.
func (s *Server) Tools() []llm.Tool { return append([]llm.Tool(nil), s.tools...) }

// Close ends the session, and with it the server where it is a [Command]. Calls
// under way and later ones fail.
func (s *Server) Close() error { return s.sessions.close() }

func (s *Server) list(ctx context.Context) error {
	session, err := s.sessions.current(ctx)
	if err != nil {
		return err
	}
	seen, names := 0, map[string]bool{}
	for tool, err := range session.Tools(ctx, nil) {
		if err != nil {
			return fmt.Errorf("list tools: %w", err)
		}
		if seen++; seen > maxTools {
			return fmt.Errorf("list tools: the server has more than %d", maxTools)
		}
		name := s.name(tool.Name)
		if name == "" && s.opts.Name != nil {
			continue
		}
		made, err := s.tool(name, tool)
		if err == nil && names[name] {
			err = errors.New("another tool has that name")
		}
		if err != nil {
			s.opts.Logger.Warn("MCP tool left out", "tool", tool.Name, "name", name, "error", err)
			continue
		}
		names[name] = true
		s.tools = append(s.tools, made)
	}
	return nil
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9_-]`)

func (s *Server) name(tool string) string {
	if s.opts.Name != nil {
		return s.opts.Name(tool)
	}
	return s.opts.Prefix + notInNames.ReplaceAllString(tool, "_")
}

// tool makes an agent's tool of a server's, when an agent could use it.
func (s *Server) tool(name string, tool *sdk.Tool) (llm.Tool, error) {
	schema, err := json.Marshal(tool.InputSchema)
	if err != nil {
		return llm.Tool{}, fmt.Errorf("marshal schema: %w", err)
	}
	made := llm.Tool{
		Name: name, Description: describe(tool), Parameters: schema, Timeout: s.opts.Timeout,
		Call: func(ctx context.Context, arguments json.RawMessage) (string, error) {
			return s.call(ctx, tool.Name, arguments)
		},
	}
	return made, llm.CheckTool(made)
}

func describe(tool *sdk.Tool) string {
	if strings.TrimSpace(tool.Description) != "" {
		return tool.Description
	}
	return tool.Title
}

// call calls a tool of the server. A session of which the server knows nothing any
// more has refused the call, so that it may be made again in another one.
func (s *Server) call(ctx context.Context, tool string, arguments json.RawMessage) (string, error) {
	for first := true; ; first = false {
		session, err := s.sessions.current(ctx)
		if err != nil {
			return "", fmt.Errorf("the tool's server cannot be reached: %w", err)
		}
		result, err := session.CallTool(ctx, &sdk.CallToolParams{Name: tool, Arguments: arguments})
		if errors.Is(err, sdk.ErrSessionMissing) && first {
			s.sessions.drop(session)
			continue
		}
		if err != nil {
			return "", err
		}
		return said(result)
	}
}
