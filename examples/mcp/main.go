// Mcp is a host whose assistant uses the tools of an MCP server. It starts the
// server beside it (./notes), executes one run with its tools, and prints the
// outcome. The model is the scripted one, so that it needs no network.
//
//	go run ./examples/mcp
//	go run ./examples/mcp -server 'npx -y some-mcp-server' -message '/tool its_tool {"an": "argument"}'
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/mcptools"
	"github.com/webtrigger-go/webtrigger/llm/scripted"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

func main() {
	server := flag.String("server", "go run ./examples/mcp/notes", "the `command` that starts an MCP server")
	message := flag.String("message", "/tool notes_add {\"text\": \"water the plants\"}\n/tool notes_list", "the `message` of the run")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx, os.Stdout, strings.Fields(*server), *message); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer, server []string, message string) error {
	notes, err := mcptools.Connect(ctx, &mcptools.Command{Path: server[0], Args: server[1:], Stderr: os.Stderr}, nil)
	if err != nil {
		return err
	}
	defer notes.Close()
	agent, err := llm.NewAgent(scripted.New(), &llm.AgentOptions{
		Tools: notes.Tools(),
		// An assistant may use only listed tools, also those of a server.
		AllowTools: func(context.Context, string) ([]string, error) { return []string{"notes_add", "notes_list"}, nil },
	})
	if err != nil {
		return err
	}
	for _, tool := range agent.Tools() {
		fmt.Fprintf(out, "tool %s: %s\n", tool.Name, tool.Description)
	}

	svc, err := webtrigger.New(memstore.New(nil), agent, &webtrigger.Options{BaseURL: "https://app.example.com"})
	if err != nil {
		return err
	}
	if err := svc.SetChannel(ctx, webtrigger.Channel{AssistantID: "1", Enabled: true}); err != nil {
		return err
	}
	triggered, err := svc.Trigger(ctx, "1", webtrigger.TriggerRequest{Message: message})
	if err != nil {
		return err
	}
	if err := svc.Execute(ctx, triggered.ID); err != nil { // a host calls svc.Work once instead
		return err
	}
	ended, err := svc.RunByID(ctx, triggered.ID)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "run %s: %s%s\n", ended.Status, ended.Result, ended.ErrorMessage)
	return nil
}
