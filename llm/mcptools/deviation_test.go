package mcptools_test

import (
	"context"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/logtest"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/mcptools"
)

// names returns the names of the tools of a server.
func names(server *mcptools.Server) (found []string) {
	for _, tool := range server.Tools() {
		found = append(found, tool.Name)
	}
	return found
}

// warnings returns the number of warnings in a log.
func warnings(logged *logtest.Buffer) int { return strings.Count(logged.String(), "level=WARN") }

// completes plays a run that calls the tool echo twice.
func completes(t *testing.T, server *mcptools.Server) {
	t.Helper()
	run := play(t, llm.AgentOptions{Tools: server.Tools()}, "/tool echo {\"n\":1}\n/tool echo {\"n\":2}")
	require.Equal(t, webtrigger.RunCompleted, run.Status, run.ErrorMessage)
	require.Empty(t, run.payloads(t, webtrigger.EventToolFailed))
	require.Equal(t, `The tool said: echo {"n":2}`, run.Result)
}

func TestConnect_endlessList_keepsToolsAndWarnsOnce(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]struct {
		tools  int
		reason string
	}{
		"same cursor":     {1, "cursor repeats"},
		"cycle":           {3, "cursor repeats"},
		"endless cursors": {1, "pages without new tools"},
		"endless tools":   {250, "too many pages"},
		"1200 tools":      {1000, "too many tools"},
		"failing page":    {1, "page of the list failed"},
	} {
		overRogue(t, kind, func(t *testing.T, dialer mcptools.Dialer) {
			logged := new(logtest.Buffer)
			server := connect(t, dialer, &mcptools.Options{Logger: logTo(logged)})
			require.Len(t, server.Tools(), want.tools)
			require.Equal(t, 1, strings.Count(logged.String(), "MCP tool list truncated"), logged.String())
			require.Contains(t, logged.String(), want.reason)
			run := play(t, llm.AgentOptions{Tools: server.Tools()[:1]}, `/tool echo {"n":2}`)
			require.Equal(t, webtrigger.RunCompleted, run.Status, run.ErrorMessage)
		})
	}
	overRogue(t, "repeated page", func(t *testing.T, dialer mcptools.Dialer) {
		logged := new(logtest.Buffer)
		server := connect(t, dialer, &mcptools.Options{Logger: logTo(logged)})
		require.Equal(t, []string{"echo"}, names(server))
		require.Equal(t, 2, warnings(logged), "the repeated tool and the list must be logged once each: %s", logged)
	})
}

func TestConnect_500Tools_readsAll(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"500 tools", "500 tools in pages"} {
		overRogue(t, kind, func(t *testing.T, dialer mcptools.Dialer) {
			logged := new(logtest.Buffer)
			server := connect(t, dialer, &mcptools.Options{Logger: logTo(logged)})
			require.Len(t, server.Tools(), 500)
			require.Equal(t, "tool_499", server.Tools()[499].Name)
			require.Zero(t, warnings(logged), logged.String())
		})
	}
}

func TestConnect_oddTools_keepsUsable(t *testing.T) {
	t.Parallel()
	overRogue(t, "odd tools", func(t *testing.T, dialer mcptools.Dialer) {
		logged := new(logtest.Buffer)
		server := connect(t, dialer, &mcptools.Options{Prefix: "x_", Logger: logTo(logged)})
		require.Equal(t, []string{"x_no_schema", "x_null_schema", "x_true_schema", "x_empty_schema", "x_no_properties",
			"x_no_type", "x_titled", "x_annotated", "x_a_b", "x_echo"}, names(server))
		for _, tool := range server.Tools() {
			want := `{"type":"object"}`
			if tool.Name == "x_no_type" {
				want = `{"type":"object","properties":{"q":{"type":"string"}}}`
			}
			require.JSONEq(t, want, string(tool.Parameters), tool.Name)
		}
		require.Equal(t, "A title", server.Tools()[6].Description)
		require.Equal(t, "Annotated", server.Tools()[7].Description)
		require.Equal(t, 4, strings.Count(logged.String(), "MCP tool skipped"),
			"no name, a/b, the second no_type and the long name must be logged once each: %s", logged)
		said, err := call(t, server, "x_echo", `{}`)
		require.NoError(t, err)
		require.Equal(t, "echo {}", said)
	})
}

func TestCommand_otherOutput_isSkippedWithOneWarning(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]int{
		"banner": 1, "byte order": 0, "partial": 1, "open brace": 1, "very long line": 1,
		"log lines": 1, "indented": 0, "no version": 0, "id as text": 0, "id null before": 1, "batch": 0,
		"strange messages": 0, "list changed": 0,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			logged := new(logtest.Buffer)
			server := connect(t, rogueStdio(t, kind), &mcptools.Options{Logger: logTo(logged)})
			completes(t, server)
			require.Equal(t, want, warnings(logged), logged.String())
			require.NotContains(t, logged.String(), "Rogue server", "output may contain secrets")
			require.NotContains(t, logged.String(), "MCP session reopened")
		})
	}
}

func TestHTTP_otherOutput_isSkippedWithOneWarning(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]int{
		"log lines": 1, "indented": 0, "no version": 0, "id as text": 0, "id null before": 1, "batch": 0,
		"strange messages": 0, "list changed": 0,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			logged := new(logtest.Buffer)
			server := connect(t, listen(t, rogueHTTP(rogues[kind])), &mcptools.Options{Logger: logTo(logged)})
			completes(t, server)
			require.Equal(t, want, warnings(logged), logged.String())
			require.NotContains(t, logged.String(), "MCP session reopened")
		})
	}
}

func TestConnect_listChanged_keepsTools(t *testing.T) {
	t.Parallel()
	overRogue(t, "list changed", func(t *testing.T, dialer mcptools.Dialer) {
		logged := new(logtest.Buffer)
		server := connect(t, dialer, &mcptools.Options{Logger: logTo(logged)})
		completes(t, server)
		require.Equal(t, 1, strings.Count(logged.String(), "MCP tool list changed"), logged.String())
	})
}

// The SDK queues notifications and requests of a server without a bound, so they must
// not reach it.
func TestFilter_flood_doesNotReachSDK(t *testing.T) {
	t.Parallel()
	const response = `{"id":1,"jsonrpc":"2.0","result":{}}` + "\n"
	for message, most := range map[string]int{
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`: 0,
		`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}`:       0,
		`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`:                                 0,
		`{"jsonrpc":"2.0","method":"notifications/unknown"}`:                                            0,
		`{"jsonrpc":"2.0","id":"p","method":"ping"}`:                                                    5000, // 100 a second
	} {
		flood := strings.NewReader(strings.Repeat(message+"\n", floodSize) + response)
		passed, err := io.ReadAll(mcptools.Filter(flood))
		require.NoError(t, err)
		require.True(t, strings.HasSuffix(string(passed), response))
		require.LessOrEqual(t, strings.Count(string(passed), "\n")-1, most, message)
	}
}

func TestCall_flood_returnsInBoundedMemory(t *testing.T) {
	for _, kind := range []string{"progress flood", "log flood", "ping flood"} {
		for _, dialer := range []mcptools.Dialer{rogueStdio(t, kind), listen(t, rogueHTTP(rogues[kind]))} {
			server := connect(t, dialer, nil)
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			ctx, cancel := context.WithTimeout(t.Context(), 6*patience) // for the race detector
			said, err := named(t, server, "echo").Call(ctx, []byte(`{}`))
			cancel()
			require.NoError(t, err, kind)
			require.Equal(t, "echo {}", said)
			runtime.ReadMemStats(&after)
			require.Less(t, int64(after.HeapSys)-int64(before.HeapSys), int64(64<<20), kind)
			require.NoError(t, server.Close())
		}
	}
}

func TestCall_endlessFlood_keepsDeadline(t *testing.T) {
	t.Parallel()
	overRogue(t, "endless flood", func(t *testing.T, dialer mcptools.Dialer) {
		server := connect(t, dialer, nil)
		ctx, cancel := context.WithTimeout(t.Context(), slowly)
		defer cancel()
		began := time.Now()
		_, err := named(t, server, "echo").Call(ctx, []byte(`{}`))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Less(t, time.Since(began), slowly+5*time.Second)
	})
}

func TestCall_withoutResponse_keepsDeadline(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"wrong id", "no answer"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			server := connect(t, rogueStdio(t, kind), &mcptools.Options{Timeout: slowly})
			run := play(t, llm.AgentOptions{Tools: server.Tools()}, "/tool echo {}")
			require.Equal(t, webtrigger.RunCompleted, run.Status, run.ErrorMessage)
			require.Equal(t, "the tool took longer than 300ms", run.payloads(t, webtrigger.EventToolFailed)[0]["error"])
		})
		t.Run(kind+" over HTTP", func(t *testing.T) { // where the end of the response is known
			t.Parallel()
			server := connect(t, listen(t, rogueHTTP(rogues[kind])), nil)
			run := play(t, llm.AgentOptions{Tools: server.Tools()}, "/tool echo {}")
			require.Equal(t, webtrigger.RunCompleted, run.Status, run.ErrorMessage)
			require.Contains(t, run.payloads(t, webtrigger.EventToolFailed)[0]["error"], "without response")
		})
	}
}

func TestCall_hugeResult_reportsSize(t *testing.T) {
	t.Parallel()
	overRogue(t, "huge result", func(t *testing.T, dialer mcptools.Dialer) {
		logged := new(logtest.Buffer)
		server := connect(t, dialer, &mcptools.Options{Logger: logTo(logged)})
		_, err := call(t, server, "echo", `{"huge":true}`)
		require.ErrorContains(t, err, "more than 1048576")
		completes(t, server)
		require.Equal(t, 1, warnings(logged), logged.String())
		require.NotContains(t, logged.String(), "MCP session reopened")
	})
	overRogue(t, "huge blob", func(t *testing.T, dialer mcptools.Dialer) {
		said, err := call(t, connect(t, dialer, nil), "echo", `{}`)
		require.NoError(t, err)
		require.Equal(t, "[image not shown: image/png, 393216 bytes]", said)
	})
}

func TestCommand_unreadInput_endsProcess(t *testing.T) {
	t.Parallel()
	logged := new(logtest.Buffer)
	server := connect(t, rogueStdio(t, "deaf"), &mcptools.Options{Logger: logTo(logged)})
	_, err := call(t, server, "echo", `{"text":"`+strings.Repeat("x", 1<<20)+`"}`)
	require.Error(t, err)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	require.Eventually(t, func() bool { return strings.Contains(logged.String(), "MCP session ended") }, patience, 10*time.Millisecond)
}

func TestCommand_stderrFlood_completes(t *testing.T) {
	t.Parallel()
	completes(t, connect(t, rogueStdio(t, "stderr flood"), nil))
}

func TestCall_malformedError_isReported(t *testing.T) {
	t.Parallel()
	overRogue(t, "error as text", func(t *testing.T, dialer mcptools.Dialer) {
		_, err := call(t, connect(t, dialer, nil), "echo", `{}`)
		require.ErrorContains(t, err, "not today")
	})
}

func TestConnect_handshakeFails_returnsError(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]string{"old version": "unsupported protocol version", "no initialize": ""} {
		overRogue(t, kind, func(t *testing.T, dialer mcptools.Dialer) {
			ctx, cancel := context.WithTimeout(t.Context(), map[bool]time.Duration{true: slowly, false: patience}[want == ""])
			defer cancel()
			_, err := mcptools.Connect(ctx, dialer, nil)
			require.ErrorContains(t, err, want)
		})
	}
}
