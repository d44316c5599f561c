package mcptools

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/webtrigger-go/webtrigger/llm"
)

// These limits end the list of a server whose cursors do not end.
const (
	maxTools  = 1000 // tools of one server
	maxPages  = 250
	maxIdle   = 3 // pages in sequence without a new tool
	maxCursor = 64 << 10
)

var (
	errNoName   = errors.New("tool has no name")
	errSameName = errors.New("another tool has the same name")
)

// skippedTool logs a tool that an agent cannot use, once for each name and reason.
func (n *notes) skippedTool(tool, name string, err error) {
	if _, seen := n.seen.LoadOrStore("tool\x00"+tool+"\x00"+err.Error(), true); !seen {
		n.log.Warn("MCP tool skipped", "tool", tool, "name", name, "error", err)
	}
}

// list reads the tools of the server. If the cursors of the server do not advance,
// list keeps the tools that it has read.
func (s *Server) list(ctx context.Context) error {
	session, err := s.sessions.current(ctx, nil)
	if err != nil {
		return plain(err)
	}
	read := reading{server: s, seen: map[string]bool{}, names: map[string]bool{}}
	cursors := map[string]bool{"": true}
	for idle, cursor := 0, ""; ; {
		page, err := session.ListTools(ctx, &sdk.ListToolsParams{Cursor: cursor})
		if err != nil && (ctx.Err() != nil || len(read.seen) == 0) {
			return fmt.Errorf("list tools: %w", plain(err))
		}
		if err != nil {
			return s.truncated("page of the list failed", plain(err))
		}
		if idle++; read.page(page.Tools) {
			idle = 0
		}
		cursor = page.NextCursor
		switch {
		case read.full:
			return s.truncated("too many tools", nil)
		case cursor == "":
			return nil
		case cursors[cursor]:
			return s.truncated("cursor repeats", nil)
		case len(cursors) >= maxPages:
			return s.truncated("too many pages", nil)
		case idle >= maxIdle:
			return s.truncated("pages without new tools", nil)
		case len(cursor) > maxCursor:
			return s.truncated("cursor too long", nil)
		}
		cursors[cursor] = true
	}
}

func (s *Server) truncated(reason string, err error) error {
	args := []any{"tools", len(s.tools)}
	if err != nil {
		args = append(args, "error", err)
	}
	s.sessions.notes.once(slog.LevelWarn, "MCP tool list truncated", reason, args...)
	return nil
}

// reading is the state of one reading of the list.
type reading struct {
	server *Server
	seen   map[string]bool // names on the server
	names  map[string]bool // names in the agent
	full   bool            // the server has more than maxTools
}

// page adds the tools of a page, and reports whether it has a new one.
func (r *reading) page(tools []*sdk.Tool) (some bool) {
	s := r.server
	for _, tool := range tools {
		fresh := !r.seen[tool.Name]
		if fresh && len(r.seen) >= maxTools {
			r.full = true
			return true
		}
		r.seen[tool.Name] = true
		some = some || fresh
		name := s.name(tool.Name)
		if name == "" && s.opts.Name != nil {
			continue
		}
		made, err := s.tool(name, tool)
		switch {
		case tool.Name == "":
			err = errNoName
		case r.names[name]:
			err = errSameName
		}
		if err != nil {
			s.sessions.notes.skippedTool(tool.Name, name, err)
			continue
		}
		r.names[name] = true
		s.tools = append(s.tools, made)
	}
	return some
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9_-]`)

func (s *Server) name(tool string) string {
	if s.opts.Name != nil {
		return s.opts.Name(tool)
	}
	return s.opts.Prefix + notInNames.ReplaceAllString(tool, "_")
}

// tool returns the agent's form of a tool, or an error if an agent cannot use it.
func (s *Server) tool(name string, tool *sdk.Tool) (llm.Tool, error) {
	schema, err := json.Marshal(parameters(tool.InputSchema))
	if err != nil {
		return llm.Tool{}, fmt.Errorf("marshal schema: %w", err)
	}
	description := tool.Description
	if description == "" {
		description = tool.Title
	}
	made := llm.Tool{
		Name: name, Description: description, Parameters: schema, Timeout: s.opts.Timeout,
		Call: func(ctx context.Context, arguments json.RawMessage) (string, error) {
			return s.call(ctx, tool.Name, arguments)
		},
	}
	return made, llm.CheckTool(made)
}

// parameters returns the schema of the arguments as one of an object, which
// arguments always are. If a server sends no schema, it takes any arguments.
func parameters(schema any) any {
	switch schema := schema.(type) {
	case nil, bool:
		if schema == false {
			return schema
		}
		return map[string]any{"type": "object"}
	case map[string]any:
		for _, name := range []string{"type", "properties", "required"} {
			if value, ok := schema[name]; ok && value == nil {
				delete(schema, name)
			}
		}
		if _, ok := schema["type"]; !ok {
			schema["type"] = "object"
		}
	}
	return schema
}
