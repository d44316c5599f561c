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
	"github.com/webtrigger-go/webtrigger/llm/scripted"
)

// mcpServer is the value of a flag -mcp.
type mcpServer struct {
	name   string // the prefix of its tools; "": none
	target string // for people, without the password and the query of a URL
	dialer mcptools.Dialer
}

var mcpName = regexp.MustCompile(`^([A-Za-z0-9-]{1,20})=(.*)$`)

// parseMCP reads a value of the flag -mcp: [NAME=]URL or [NAME=]COMMAND ARG... No error
// contains a part of it.
func parseMCP(value string) (one mcpServer, err error) {
	if found := mcpName.FindStringSubmatch(value); found != nil {
		one.name, value = found[1], found[2]
	}
	words := strings.Fields(value)
	if len(words) == 0 {
		return one, errors.New("-mcp: must be a URL or a command")
	}
	if !strings.HasPrefix(words[0], "http://") && !strings.HasPrefix(words[0], "https://") {
		one.target = words[0] // arguments may be secrets
		one.dialer = &mcptools.Command{Path: words[0], Args: words[1:], Stderr: os.Stderr}
		return one, nil
	}
	u, err := url.Parse(words[0])
	if err != nil || len(words) > 1 {
		return one, errors.New("-mcp: URL is malformed")
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
		_ = server.Close() // an error only reports that its process has ended before
	}
}

// completeAgent reads the flags that configure the assistants.
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

// readInstructions reads the flag -instructions: a text, or @ and the name of a file.
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

// agentOptions returns the options of the agent, which all assistants share.
func (cfg *config) agentOptions(box *toolbox, log *slog.Logger) *llm.AgentOptions {
	return &llm.AgentOptions{
		Tools: box.tools, Logger: log, AskHuman: true, ApproveCall: scripted.Approves,
		Instructions: func(context.Context, string) (string, error) { return cfg.instructions, nil },
	}
}
