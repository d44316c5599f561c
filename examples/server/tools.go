package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/demotools"
	"github.com/webtrigger-go/webtrigger/llm/mcptools"
)

// mcpServer is what a flag -mcp says: where a server of tools is.
type mcpServer struct {
	name   string // "": none; else the prefix of its tools
	target string // for people; a URL's password and query are not in it
	dialer mcptools.Dialer
}

var mcpName = regexp.MustCompile(`^([A-Za-z0-9-]{1,20})=(.*)$`)

// parseMCP reads a value of the flag -mcp: [NAME=]URL or [NAME=]COMMAND ARG... It
// repeats none of it in an error.
func parseMCP(value string) (one mcpServer, err error) {
	if found := mcpName.FindStringSubmatch(value); found != nil {
		one.name, value = found[1], found[2]
	}
	words := strings.Fields(value)
	if len(words) == 0 {
		return one, errors.New("-mcp: a URL or a command is needed")
	}
	if !strings.HasPrefix(words[0], "http://") && !strings.HasPrefix(words[0], "https://") {
		one.target = words[0] // arguments may be secrets
		one.dialer = &mcptools.Command{Path: words[0], Args: words[1:], Stderr: os.Stderr}
		return one, nil
	}
	u, err := url.Parse(words[0])
	if err != nil || len(words) > 1 {
		return one, errors.New("-mcp: the URL cannot be read")
	}
	one.dialer = &mcptools.HTTP{URL: words[0]}
	one.target = u.Scheme + "://" + u.Host + u.Path
	return one, nil
}

// toolbox is the tools of this server's assistants.
type toolbox struct {
	tools   []llm.Tool
	servers []*mcptools.Server
}

// openTools gathers the demo tools and those of the MCP servers.
func openTools(ctx context.Context, cfg *config, log *slog.Logger) (*toolbox, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	box := &toolbox{tools: demotools.Tools()}
	for _, one := range cfg.mcp {
		opts := &mcptools.Options{Logger: log}
		if one.name != "" {
			opts.Prefix = one.name + "_"
		}
		server, err := mcptools.Connect(ctx, one.dialer, opts)
		if err != nil {
			box.close()
			return nil, fmt.Errorf("-mcp %s: %w", one.target, err)
		}
		box.servers = append(box.servers, server)
		box.tools = append(box.tools, server.Tools()...)
	}
	return box, nil
}

func (b *toolbox) close() {
	for _, server := range b.servers {
		_ = server.Close() // whose process may have ended before
	}
}

// completeAgent reads the flags that make the assistants what they are.
func (cfg *config) completeAgent(instructions string, servers []string) (err error) {
	if cfg.instructions, err = readInstructions(instructions); err != nil {
		return err
	}
	for _, value := range servers {
		one, err := parseMCP(value)
		if err != nil {
			return err
		}
		cfg.mcp = append(cfg.mcp, one)
	}
	return nil
}

// readInstructions reads the flag -instructions: a text, or the name of a file
// behind an @.
func readInstructions(value string) (string, error) {
	file, ok := strings.CutPrefix(value, "@")
	if !ok {
		return value, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("-instructions: %w", err)
	}
	return string(text), nil
}

// agentOptions is how the assistants of this server are made.
func (cfg *config) agentOptions(box *toolbox, log *slog.Logger) *llm.AgentOptions {
	return &llm.AgentOptions{
		Tools: box.tools, Logger: log,
		Instructions: func(context.Context, string) (string, error) { return cfg.instructions, nil },
	}
}
