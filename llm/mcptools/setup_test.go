package mcptools_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/logtest"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/mcptools"
	"github.com/webtrigger-go/webtrigger/llm/scripted"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// The test binary is the server too: a process of its own that speaks over its
// standard input and output, or over HTTP.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "serve-stdio":
			exit(testServer().Run(context.Background(), &sdk.StdioTransport{}))
		case "serve-http":
			exit(serveHTTP())
		case "serve-rogue":
			exit(serveRogue(os.Args[2]))
		case "serve-nothing": // and does not end by itself
			_, err := io.Copy(io.Discard, os.Stdin)
			exit(err)
		}
	}
	mcptools.SetLimits(1<<20, 2*time.Second)
	goleak.VerifyTestMain(m)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serveHTTP prints its URL and serves until its standard input ends.
func serveHTTP() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s/mcp\n", listener.Addr())
	server := testServer()
	go func() {
		_ = http.Serve(listener, sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, nil))
	}()
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

type textArguments struct {
	Text string `json:"text"`
}

type countArguments struct {
	N int `json:"n"`
}

// testServer has tools that behave, and tools that do not.
func testServer() *sdk.Server {
	server := sdk.NewServer(&sdk.Implementation{Name: "test", Version: "1"}, nil)
	var mu sync.Mutex
	calls := 0
	add := func(name string, schema any, call func(ctx context.Context, arguments json.RawMessage) (*sdk.CallToolResult, error)) {
		server.AddTool(&sdk.Tool{Name: name, Description: "Tests " + name + ".", InputSchema: schema},
			func(ctx context.Context, req *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
				mu.Lock()
				calls++
				mu.Unlock()
				return call(ctx, req.Params.Arguments)
			})
	}
	says := func(text string) (*sdk.CallToolResult, error) {
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: text}}}, nil
	}
	anything := json.RawMessage(`{"type":"object"}`)
	add("echo", json.RawMessage(`{"type":"object","properties":{"text":{"type":"string"}},"required":["text"],"additionalProperties":false}`),
		func(_ context.Context, raw json.RawMessage) (*sdk.CallToolResult, error) {
			var args textArguments
			if err := json.Unmarshal(raw, &args); err != nil {
				return nil, err
			}
			return says("echo: " + args.Text)
		})
	add("raw", anything, func(_ context.Context, raw json.RawMessage) (*sdk.CallToolResult, error) { return says(string(raw)) })
	add("calls", anything, func(context.Context, json.RawMessage) (*sdk.CallToolResult, error) {
		mu.Lock()
		defer mu.Unlock()
		return says(fmt.Sprint(calls))
	})
	add("pid", anything, func(context.Context, json.RawMessage) (*sdk.CallToolResult, error) {
		return says(fmt.Sprint(os.Getpid()))
	})
	add("environment", anything, func(context.Context, json.RawMessage) (*sdk.CallToolResult, error) {
		return says(strings.Join(os.Environ(), "\n"))
	})
	add("hang", anything, func(ctx context.Context, _ json.RawMessage) (*sdk.CallToolResult, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	add("crash", anything, func(context.Context, json.RawMessage) (*sdk.CallToolResult, error) {
		os.Exit(3)
		return nil, nil
	})
	add("big", json.RawMessage(`{"type":"object","properties":{"n":{"type":"integer"}}}`),
		func(_ context.Context, raw json.RawMessage) (*sdk.CallToolResult, error) {
			var args countArguments
			if err := json.Unmarshal(raw, &args); err != nil {
				return nil, err
			}
			return says(strings.Repeat("x", args.N))
		})
	add("error", anything, func(context.Context, json.RawMessage) (*sdk.CallToolResult, error) {
		result, _ := says("the disk is full")
		result.IsError = true
		return result, nil
	})
	add("silent-error", anything, func(context.Context, json.RawMessage) (*sdk.CallToolResult, error) {
		return &sdk.CallToolResult{IsError: true}, nil
	})
	add("protocol-error", anything, func(context.Context, json.RawMessage) (*sdk.CallToolResult, error) {
		return nil, errors.New("not today")
	})
	add("files.read", anything, func(context.Context, json.RawMessage) (*sdk.CallToolResult, error) {
		return &sdk.CallToolResult{Content: []sdk.Content{
			&sdk.TextContent{Text: "Two files:"},
			&sdk.ImageContent{Data: []byte("123"), MIMEType: "image/png"},
			&sdk.AudioContent{Data: []byte("12345"), MIMEType: "audio/wav"},
			&sdk.ResourceLink{URI: "file:///a", Name: "a", Description: "the first"},
			&sdk.EmbeddedResource{Resource: &sdk.ResourceContents{URI: "file:///b", Text: "inside b"}},
			&sdk.EmbeddedResource{Resource: &sdk.ResourceContents{URI: "file:///c", MIMEType: "application/zip", Blob: []byte("1234")}},
		}}, nil
	})
	add("structured", anything, func(context.Context, json.RawMessage) (*sdk.CallToolResult, error) {
		return &sdk.CallToolResult{StructuredContent: map[string]any{"total": 3}}, nil
	})
	add("files/read", anything, func(context.Context, json.RawMessage) (*sdk.CallToolResult, error) { return says("never") })
	add("elsewhere", json.RawMessage(`{"type":"object","properties":{"a":{"$ref":"https://example.com/schema"}}}`),
		func(context.Context, json.RawMessage) (*sdk.CallToolResult, error) { return says("never") })
	add(strings.Repeat("long", 20), anything, func(context.Context, json.RawMessage) (*sdk.CallToolResult, error) { return says("never") })
	return server
}

// stdio is the test server as a process.
func stdio(t *testing.T) *mcptools.Command {
	t.Helper()
	binary, err := os.Executable()
	require.NoError(t, err)
	return &mcptools.Command{Path: binary, Args: []string{"serve-stdio"}}
}

// overHTTP is the test server as a process that listens.
func overHTTP(t *testing.T) *mcptools.HTTP {
	t.Helper()
	binary, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(binary, "serve-http")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	url, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &mcptools.HTTP{URL: strings.TrimSpace(url), Client: &http.Client{Transport: transport}}
}

const patience = 20 * time.Second

func connect(t *testing.T, dialer mcptools.Dialer, opts *mcptools.Options) *mcptools.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	server, err := mcptools.Connect(ctx, dialer, opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	return server
}

// named is the tool of a server with a name.
func named(t *testing.T, server *mcptools.Server, name string) llm.Tool {
	t.Helper()
	for _, tool := range server.Tools() {
		if tool.Name == name {
			return tool
		}
	}
	require.Failf(t, "no such tool", "%s", name)
	return llm.Tool{}
}

// call calls a tool of a server without an agent.
func call(t *testing.T, server *mcptools.Server, name, arguments string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return named(t, server, name).Call(ctx, json.RawMessage(arguments))
}

// played is a run of the scripted model.
type played struct {
	webtrigger.Run
	events []webtrigger.Event
}

// play runs a script over an agent with the tools of a server.
func play(t *testing.T, opts llm.AgentOptions, script string) played {
	t.Helper()
	agent, err := llm.NewAgent(scripted.New(), &opts)
	require.NoError(t, err)
	store := memstore.New(nil)
	svc, err := webtrigger.New(store, agent, &webtrigger.Options{BaseURL: "https://app.example.com"})
	require.NoError(t, err)
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
	run, err := svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: script})
	require.NoError(t, err)
	require.NoError(t, svc.Execute(t.Context(), run.ID))
	run, err = svc.RunByID(t.Context(), run.ID)
	require.NoError(t, err)
	page, err := store.Events(t.Context(), webtrigger.EventQuery{ConversationID: run.ConversationID, Limit: 1000})
	require.NoError(t, err)
	return played{run, page.Events}
}

// payloads are those of the events of a type.
func (p played) payloads(t *testing.T, typ webtrigger.EventType) (found []map[string]any) {
	t.Helper()
	for _, e := range p.events {
		if e.Type == typ {
			var payload map[string]any
			require.NoError(t, json.Unmarshal(e.Payload, &payload))
			found = append(found, payload)
		}
	}
	return found
}

func logTo(b *logtest.Buffer) *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }
