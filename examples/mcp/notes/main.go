// Notes is a small MCP server with two tools, notes_add and notes_list, that
// keeps notes in memory: over its standard input and output, or over HTTP.
//
//	go run ./examples/mcp/notes
//	go run ./examples/mcp/notes -http 127.0.0.1:9090
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// notes is the store of the tools.
type notes struct {
	mu   sync.Mutex
	list []string
}

type addArguments struct {
	Text string `json:"text" jsonschema:"the note"`
}

func (n *notes) add(_ context.Context, _ *mcp.CallToolRequest, args addArguments) (*mcp.CallToolResult, any, error) {
	if strings.TrimSpace(args.Text) == "" {
		return nil, nil, errors.New("a note needs a text")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, args.Text)
	return say(fmt.Sprintf("Noted. There are %d notes.", len(n.list)))
}

func (n *notes) all(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.list) == 0 {
		return say("There are no notes.")
	}
	return say(strings.Join(n.list, "\n"))
}

func say(text string) (*mcp.CallToolResult, any, error) {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, nil, nil
}

func newServer() *mcp.Server {
	kept := new(notes)
	server := mcp.NewServer(&mcp.Implementation{Name: "notes", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "notes_add", Description: "Keeps a note."}, kept.add)
	mcp.AddTool(server, &mcp.Tool{Name: "notes_list", Description: "Lists the notes, oldest first."}, kept.all)
	return server
}

func main() {
	addr := flag.String("http", "", "listen `address`; without one the server speaks over its standard input and output")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *addr == "" {
		err = newServer().Run(ctx, &mcp.StdioTransport{})
	} else {
		err = serve(ctx, *addr)
	}
	if err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

// serve serves over HTTP and prints the URL.
func serve(ctx context.Context, addr string) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	server := newServer()
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil)
	web := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = web.Close() })
	fmt.Printf("http://%s/\n", listener.Addr())
	return web.Serve(listener)
}
