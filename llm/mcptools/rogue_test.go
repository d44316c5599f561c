package mcptools_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/llm/mcptools"
)

// request is a message from the client.
type request struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Cursor    string          `json:"cursor"`
		Name      string          `json:"name"`
		Arguments json.RawMessage `json:"arguments"`
	} `json:"params"`
}

// result is a response to the request.
func (r request) result(raw string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, r.ID, raw)
}

// answers writes raw output, one line or event a call, in response to a request.
type answers func(r request, write func(raw string))

// proper answers by the protocol, with the tool echo.
func proper(r request, write func(string)) {
	switch r.Method {
	case "initialize":
		write(r.result(`{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"rogue","version":"1"}}`))
	case "tools/list":
		write(r.result(`{"tools":[{"name":"echo","description":"Echoes.","inputSchema":{"type":"object"}}]}`))
	case "tools/call":
		write(r.result(fmt.Sprintf(`{"content":[{"type":"text","text":%q}]}`, "echo "+string(r.Params.Arguments))))
	case "ping":
		write(r.result(`{}`))
	default:
		if len(r.ID) > 0 {
			write(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"unknown method"}}`, r.ID))
		}
	}
}

// on answers one method differently.
func on(method string, special answers) answers {
	return func(r request, write func(string)) {
		if r.Method == method {
			special(r, write)
			return
		}
		proper(r, write)
	}
}

// lists answers tools/list with raw results that depend on the cursor.
func lists(result func(cursor string) string) answers {
	return on("tools/list", func(r request, write func(string)) { write(r.result(result(r.Params.Cursor))) })
}

// returns answers tools/call with a raw result.
func returns(result string) answers {
	return on("tools/call", func(r request, write func(string)) { write(r.result(result)) })
}

// serveRogue is the server over stdio, in a process of its own.
func serveRogue(kind string) error {
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	write := func(raw string) { fmt.Fprintln(out, raw) }
	if prologue, ok := prologues[kind]; ok {
		_, _ = out.WriteString(prologue())
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	for in.Scan() {
		var r request
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			return err
		}
		if r.Method == "" { // a response
			continue
		}
		rogues[kind](r, write)
		if kind == "deaf" && r.Method == "tools/list" {
			_ = out.Flush()
			select {}
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
	return in.Err()
}

// rogueHTTP is the server over HTTP, which answers calls with event streams.
func rogueHTTP(answer answers) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var one request
		if r.Method != http.MethodPost || json.NewDecoder(r.Body).Decode(&one) != nil {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		if len(one.ID) == 0 || one.Method == "" {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		answer(one, func(raw string) {
			for line := range strings.Lines(raw) {
				fmt.Fprintf(w, "data: %s\n", strings.TrimSuffix(line, "\n"))
			}
			if _, err := fmt.Fprint(w, "\n"); err != nil {
				panic(http.ErrAbortHandler)
			}
		})
	})
}

// rogueStdio is a command that serves a kind of rogues.
func rogueStdio(t *testing.T, kind string) *mcptools.Command {
	t.Helper()
	require.Contains(t, rogues, kind)
	binary, err := os.Executable()
	require.NoError(t, err)
	return &mcptools.Command{Path: binary, Args: []string{"serve-rogue", kind}}
}

// overRogue runs a test against a kind of rogues, over each transport.
func overRogue(t *testing.T, kind string, test func(t *testing.T, dialer mcptools.Dialer)) {
	t.Helper()
	t.Run(kind+" over stdio", func(t *testing.T) {
		t.Parallel()
		test(t, rogueStdio(t, kind))
	})
	t.Run(kind+" over HTTP", func(t *testing.T) {
		t.Parallel()
		test(t, listen(t, rogueHTTP(rogues[kind])))
	})
}

// slowly limits a call in tests of servers that never answer.
const slowly = 300 * time.Millisecond
