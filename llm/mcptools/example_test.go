package mcptools_test

import (
	"context"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/mcptools"
	"github.com/webtrigger-go/webtrigger/llm/scripted"
)

// An agent with the tools of an MCP server.
func ExampleConnect() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	server, err := mcptools.Connect(ctx, &mcptools.HTTP{
		URL:    "https://mcp.example.com",
		Header: http.Header{"Authorization": {"Bearer " + os.Getenv("MCP_TOKEN")}},
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	_, err = llm.NewAgent(scripted.New(), &llm.AgentOptions{Tools: server.Tools()})
	if err != nil {
		log.Print(err)
	}
}
