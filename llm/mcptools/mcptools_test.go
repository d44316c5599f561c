package mcptools_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/logtest"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/mcptools"
)

// over runs a test against a server in a process of its own, over each transport.
func over(t *testing.T, test func(t *testing.T, dialer mcptools.Dialer)) {
	t.Helper()
	t.Parallel()
	t.Run("stdio", func(t *testing.T) {
		t.Parallel()
		test(t, stdio(t))
	})
	t.Run("HTTP", func(t *testing.T) {
		t.Parallel()
		test(t, overHTTP(t))
	})
}

func TestAgent_serverTools_areCalled(t *testing.T) {
	over(t, func(t *testing.T, dialer mcptools.Dialer) {
		server := connect(t, dialer, nil)
		run := play(t, llm.AgentOptions{Tools: server.Tools()}, "/tool echo {\"text\":\"grüß dich\"}\n/tool error\n/tool echo {\"text\":\"bye\"}")
		require.Equal(t, webtrigger.RunCompleted, run.Status, run.ErrorMessage)
		require.Equal(t, "The tool said: echo: bye", run.Result)
		completed := run.payloads(t, webtrigger.EventToolCompleted)
		require.Len(t, completed, 2)
		require.Equal(t, map[string]any{
			"tool": "echo", "call_id": "call_1", "arguments": map[string]any{"text": "grüß dich"}, "result": "echo: grüß dich",
		}, completed[0])
		failed := run.payloads(t, webtrigger.EventToolFailed)
		require.Len(t, failed, 1)
		require.Equal(t, "the disk is full", failed[0]["error"])
	})
}

// A tool outside the list of the assistant is not offered. A call of it, or a call
// with invalid arguments, never leaves the process.
func TestAgent_filteredCall_neverReachesServer(t *testing.T) {
	over(t, func(t *testing.T, dialer mcptools.Dialer) {
		server := connect(t, dialer, nil)
		run := play(t, llm.AgentOptions{
			Tools:      server.Tools(),
			AllowTools: func(context.Context, string) ([]string, error) { return []string{"echo", "calls"}, nil },
		}, "/tool raw\n/tool pid\n/tool echo {\"text\":1}\n/tool echo {\"text\":\"a\",\"text\":\"b\"}\n/tool calls")
		require.Equal(t, webtrigger.RunCompleted, run.Status, run.ErrorMessage)
		require.Equal(t, "The tool said: 1", run.Result, "the server must get only the last call")
		failed := run.payloads(t, webtrigger.EventToolFailed)
		require.Len(t, failed, 4)
		require.Equal(t, `the tool "raw" is not available`, failed[0]["error"])
		require.Equal(t, `the tool "pid" is not available`, failed[1]["error"])
		require.Contains(t, failed[2]["error"], "the arguments are not valid: at /text")
		require.Contains(t, failed[3]["error"], "the arguments are not valid")
	})
}

func TestAgent_failedCall_otherCallsSucceed(t *testing.T) {
	over(t, func(t *testing.T, dialer mcptools.Dialer) {
		server := connect(t, dialer, nil)
		tools := server.Tools()
		for i := range tools {
			if tools[i].Name == "hang" {
				tools[i].Timeout = 300 * time.Millisecond
			}
		}
		size := 512 << 10
		run := play(t, llm.AgentOptions{Tools: tools},
			"/tool hang\n/tool big {\"n\":"+strconv.Itoa(size)+"}\n/tool protocol-error\n/tool silent-error\n/tool echo {\"text\":\"still here\"}")
		require.Equal(t, webtrigger.RunCompleted, run.Status, run.ErrorMessage)
		require.Equal(t, "The tool said: echo: still here", run.Result)
		failed := run.payloads(t, webtrigger.EventToolFailed)
		require.Len(t, failed, 3)
		require.Equal(t, "the tool took longer than 300ms", failed[0]["error"])
		require.Contains(t, failed[1]["error"], "not today")
		require.Contains(t, failed[2]["error"], "without an error message")
		require.Equal(t, "big", run.payloads(t, webtrigger.EventToolCompleted)[0]["tool"])
	})
}

func TestCall_parallel_returnsOwnResult(t *testing.T) {
	over(t, func(t *testing.T, dialer mcptools.Dialer) {
		server := connect(t, dialer, nil)
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				said, err := call(t, server, "echo", `{"text":"`+strconv.Itoa(i)+`"}`)
				if err != nil || said != "echo: "+strconv.Itoa(i) {
					t.Errorf("call %d: %q, %v", i, said, err)
				}
			})
		}
		all.Wait()
	})
}

// The server gets exactly the arguments that were validated.
func TestCall_arguments_arriveUnchanged(t *testing.T) {
	over(t, func(t *testing.T, dialer mcptools.Dialer) {
		server := connect(t, dialer, nil)
		const arguments = `{"big":12345678901234567890123,"exp":1e22,"text":"<&> \u00e4 \ud83d\ude00"}`
		said, err := call(t, server, "raw", arguments)
		require.NoError(t, err)
		require.JSONEq(t, arguments, said)
		require.Contains(t, said, "12345678901234567890123")
		require.Contains(t, said, "1e22")
	})
}

func TestCall_contentTypes_returnText(t *testing.T) {
	over(t, func(t *testing.T, dialer mcptools.Dialer) {
		server := connect(t, dialer, nil)
		said, err := call(t, server, "files_read", `{}`)
		require.NoError(t, err)
		require.Equal(t, strings.Join([]string{
			"Two files:",
			"[image not shown: image/png, 3 bytes]",
			"[audio not shown: audio/wav, 5 bytes]",
			"[resource link file:///a] a the first",
			"[resource file:///b]\ninside b",
			"[resource file:///c not shown: application/zip, 4 bytes]",
		}, "\n"), said)
		said, err = call(t, server, "structured", `{}`)
		require.NoError(t, err)
		require.Equal(t, `{"total":3}`, said)
	})
}

func TestCommand_environment_isNotPassedOn(t *testing.T) {
	t.Setenv("WEBTRIGGER_TEST_SECRET", "sesame")
	command := stdio(t)
	command.Env = []string{"FOR_THE_SERVER=yes"}
	server := connect(t, command, nil)
	said, err := call(t, server, "environment", `{}`)
	require.NoError(t, err)
	require.NotContains(t, said, "sesame")
	require.Contains(t, said, "FOR_THE_SERVER=yes")
	require.Contains(t, said, "PATH=")
}

func TestConnect_names_fitAgent(t *testing.T) {
	t.Parallel()
	names := func(server *mcptools.Server) (names []string) {
		for _, tool := range server.Tools() {
			require.NotEmpty(t, tool.Description)
			names = append(names, tool.Name)
		}
		return names
	}
	logged := new(logtest.Buffer)
	server := connect(t, stdio(t), &mcptools.Options{Prefix: "test_", Timeout: time.Second, Logger: logTo(logged)})
	got := names(server)
	require.Contains(t, got, "test_echo")
	require.Contains(t, got, "test_silent-error")
	require.Contains(t, got, "test_files_read")
	require.Equal(t, time.Second, server.Tools()[0].Timeout)
	for _, name := range got {
		require.Regexp(t, `^test_[A-Za-z0-9_-]{1,59}$`, name)
	}
	require.Contains(t, got, "test_elsewhere", "a reference to another document must not lose the tool")
	require.Len(t, got, 14)
	for _, line := range []string{"longlong", "another tool has the same name"} {
		require.Contains(t, logged.String(), line)
	}

	server = connect(t, stdio(t), &mcptools.Options{Name: func(tool string) string {
		if tool == "echo" {
			return "repeat"
		}
		return ""
	}})
	require.Equal(t, []string{"repeat"}, names(server))
	said, err := call(t, server, "repeat", `{"text":"x"}`)
	require.NoError(t, err)
	require.Equal(t, "echo: x", said)
}

func TestConnect_unreachable_returnsError(t *testing.T) {
	t.Parallel()
	binary, err := os.Executable()
	require.NoError(t, err)
	for _, tt := range []struct {
		name   string
		dialer mcptools.Dialer
		opts   *mcptools.Options
		want   string
	}{
		{"no such file", &mcptools.Command{Path: filepath.Join(t.TempDir(), "absent")}, nil, "no such file"},
		{"ends at once", &mcptools.Command{Path: binary, Args: []string{"-test.run=^$"}}, nil, ""},
		{"sends nothing", &mcptools.Command{Path: binary, Args: []string{"serve-nothing"}}, nil, "deadline exceeded"},
		{"closed port", &mcptools.HTTP{URL: "http://127.0.0.1:1/mcp"}, nil, "connection refused"},
		{"no URL", &mcptools.HTTP{URL: "http://user:secret\n@x"}, nil, "malformed"},
		{"relative URL", &mcptools.HTTP{URL: "/mcp"}, nil, "must be absolute"},
		{"other scheme", &mcptools.HTTP{URL: "file:///mcp"}, nil, "must be absolute"},
		{"negative timeout", stdio(t), &mcptools.Options{Timeout: -1}, "Timeout"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			server, err := mcptools.Connect(ctx, tt.dialer, tt.opts)
			require.Nil(t, server)
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

// inMemory is a server in this process, over pipes that work in a bubble.
func inMemory(server *sdk.Server) mcptools.DialerFunc {
	return func(ctx context.Context) (sdk.Transport, error) {
		here, there := sdk.NewInMemoryTransports()
		_, err := server.Connect(context.WithoutCancel(ctx), there, nil)
		return here, err
	}
}

// The run ends within 100 ms of a cancellation, regardless of the server.
func TestCall_cancelled_returnsSoon(t *testing.T) {
	t.Parallel()
	for _, obeys := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			server := sdk.NewServer(&sdk.Implementation{Name: "test", Version: "1"}, nil)
			notified := false
			server.AddTool(&sdk.Tool{Name: "wait", InputSchema: json.RawMessage(`{"type":"object"}`)},
				func(ctx context.Context, _ *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
					if obeys {
						<-ctx.Done()
						notified = true
						return nil, ctx.Err()
					}
					<-release
					return &sdk.CallToolResult{}, nil
				})
			connected, err := mcptools.Connect(t.Context(), inMemory(server), nil)
			require.NoError(t, err)
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Hour, func() { cancel(webtrigger.ErrCancelled) })
			agent, err := llm.NewAgent(asks("wait"), &llm.AgentOptions{Tools: connected.Tools(), ToolTimeout: 24 * time.Hour})
			require.NoError(t, err)
			began := time.Now()
			_, err = agent.Run(ctx, &webtrigger.Task{Prompt: "hello"}, func(webtrigger.EventType, any) error { return nil })
			require.ErrorIs(t, err, webtrigger.ErrCancelled)
			require.LessOrEqual(t, time.Since(began), time.Hour+100*time.Millisecond)
			synctest.Wait()
			require.Equal(t, obeys, notified, "the server must be notified")
			close(release)
			require.NoError(t, connected.Close())
		})
	}
}

// asks is a model that always calls one tool.
type asks string

func (a asks) Generate(context.Context, *llm.Request, func(llm.Chunk) error) (*llm.Response, error) {
	return &llm.Response{ToolCalls: []llm.ToolCall{{ID: "c", Name: string(a), Arguments: json.RawMessage(`{}`)}}}, nil
}
