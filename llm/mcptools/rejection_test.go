package mcptools_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/logtest"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/mcptools"
)

// restartable is a server that loses its sessions in a restart. It answers requests of
// unknown sessions with reject.
type restartable struct {
	reject func(w http.ResponseWriter, id json.RawMessage)
	tool   string // the name of its tool after a restart; "": echo

	mu       sync.Mutex
	sessions map[string]bool
	opened   int
	executed int
}

func (f *restartable) restart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sessions = map[string]bool{}
}

func (f *restartable) counts() (opened, executed int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.opened, f.executed
}

func (f *restartable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var one request
	body, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(body, &one)
	session := r.Header.Get("Mcp-Session-Id")
	switch {
	case one.Method == "initialize":
		f.opened++
		session = fmt.Sprint("s", f.opened)
		if f.sessions == nil {
			f.sessions = map[string]bool{}
		}
		f.sessions[session] = true
		w.Header().Set("Mcp-Session-Id", session)
	case session != "" && !f.sessions[session]:
		f.reject(w, one.ID)
		return
	case one.Method == "tools/call" && f.opened > 1 && f.tool != "" && one.Params.Name != f.tool:
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"unknown tool %s"}}`, one.ID, one.Params.Name)
		return
	case one.Method == "tools/call":
		f.executed++
	}
	if len(one.ID) == 0 {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	proper(one, func(raw string) { _, _ = io.WriteString(w, raw) })
}

// status answers with a status and a body, in which ID stands for the id of the
// request.
func status(code int, body string) func(http.ResponseWriter, json.RawMessage) {
	return func(w http.ResponseWriter, id json.RawMessage) {
		if strings.HasPrefix(body, "{") {
			w.Header().Set("Content-Type", "application/json")
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, strings.ReplaceAll(body, "ID", string(id)))
	}
}

func TestHTTP_lostSession_decidesByStatusAndText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		code     int
		body     string
		repeated bool   // in another session
		reopens  bool   // the next call uses another session
		want     string // error of the call
	}{
		{"404", 404, "", true, true, ""},
		{"404 with a page", 404, "<html>not found</html>", true, true, ""},
		{"404 with an error without an id", 404, `{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}`, true, true, ""},
		{"404 with an error of another id", 404, `{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Session not found"}}`, true, true, ""},
		{"404 with the id of the call", 404, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32001,"message":"Session not found"}}`, true, true, ""},
		{"404 of an unknown method", 404, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"unknown method"}}`, false, false, "unknown method"},
		{"400 with a text", 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}`, true, true, ""},
		{"400 as plain text", 400, "Invalid session ID", true, true, ""},
		{"400 not initialized", 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: Server not initialized"}}`, true, true, ""},
		{"400 without a text", 400, "", false, true, "status 400 Bad Request"},
		{"400 of the tool", 400, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32602,"message":"browser session not found"}}`, false, false, "browser session not found"},
		{"500 with a text", 500, "session not found", true, true, ""},
		{"500 with a JSON text", 500, `{"error":"Unknown session: s1"}`, true, true, ""},
		{"500 without a text", 500, "Internal Server Error", false, true, "not known whether the call was executed"},
		{"500 of the tool", 500, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32603,"message":"login session expired"}}`, false, false, "login session expired"},
		{"401", 401, "session expired", false, false, "status 401 Unauthorized"},
		{"502", 502, "", false, false, "status 502 Bad Gateway"},
		{"503", 503, "session not found", false, false, "status 503"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := &restartable{reject: status(tt.code, tt.body)}
			logged := new(logtest.Buffer)
			connected := connect(t, listen(t, server), &mcptools.Options{Logger: logTo(logged)})
			server.restart()
			run := play(t, llm.AgentOptions{Tools: connected.Tools()}, "/tool echo {}\n/tool echo {\"n\":2}")
			require.Equal(t, webtrigger.RunCompleted, run.Status, run.ErrorMessage)
			failed := run.payloads(t, webtrigger.EventToolFailed)
			opened, executed := server.counts()
			switch {
			case tt.repeated:
				require.Empty(t, failed)
				require.Equal(t, 2, executed)
			case tt.reopens:
				require.Len(t, failed, 1)
				require.Equal(t, 1, executed, "only the second call must be executed")
			default:
				require.Len(t, failed, 2)
				require.Zero(t, executed)
			}
			if len(failed) > 0 {
				require.Contains(t, failed[0]["error"], tt.want)
			}
			require.Equal(t, map[bool]int{true: 2, false: 1}[tt.reopens], opened)
			require.Equal(t, opened-1, strings.Count(logged.String(), "MCP session reopened"), logged.String())
		})
	}
}

// A server that loses every session gets the call twice, and no more.
func TestHTTP_alwaysLostSession_repeatsOnce(t *testing.T) {
	t.Parallel()
	calls := 0
	server := connect(t, listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var one request
		_ = json.NewDecoder(r.Body).Decode(&one)
		if one.Method == "tools/call" {
			calls++
			w.WriteHeader(http.StatusNotFound)
			return
		}
		if len(one.ID) == 0 {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Mcp-Session-Id", "s")
		proper(one, func(raw string) { _, _ = io.WriteString(w, raw) })
	})), nil)
	_, err := call(t, server, "echo", `{}`)
	require.ErrorContains(t, err, "status 404 Not Found")
	require.Equal(t, 2, calls)
}

// After a restart, a server may have other tools. The model reads the error of the
// server, and Tools stays as it was.
func TestHTTP_otherToolsAfterReopen_reportsUnknownTool(t *testing.T) {
	t.Parallel()
	server := &restartable{reject: status(404, ""), tool: "other"}
	connected := connect(t, listen(t, server), nil)
	server.restart()
	run := play(t, llm.AgentOptions{Tools: connected.Tools()}, "/tool echo {}")
	require.Equal(t, webtrigger.RunCompleted, run.Status, run.ErrorMessage)
	require.Contains(t, run.payloads(t, webtrigger.EventToolFailed)[0]["error"], "unknown tool echo")
	require.Equal(t, []string{"echo"}, names(connected))
}

// A malformed response ends its call, but not the session.
func TestHTTP_malformedResponse_failsCallOnly(t *testing.T) {
	t.Parallel()
	for name, respond := range map[string]func(w http.ResponseWriter, r request){
		"page":       func(w http.ResponseWriter, _ request) { _, _ = io.WriteString(w, "<html>hello</html>") },
		"empty":      func(w http.ResponseWriter, _ request) { w.Header().Set("Content-Type", "application/json") },
		"accepted":   func(w http.ResponseWriter, _ request) { w.WriteHeader(http.StatusAccepted) },
		"cut off":    func(w http.ResponseWriter, r request) { _, _ = io.WriteString(w, r.result(`{"content":[]}`)[:20]) },
		"other JSON": func(w http.ResponseWriter, _ request) { _, _ = io.WriteString(w, `{"ok":true}`) },
		"wrong id": func(w http.ResponseWriter, _ request) {
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":"x","result":{"content":[]}}`)
		},
		"events of other text": func(w http.ResponseWriter, _ request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "hello\ndata: hello\n\nevent: other\ndata: {}\n\n: comment\n\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			logged := new(logtest.Buffer)
			server := connect(t, listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var one request
				_ = json.NewDecoder(r.Body).Decode(&one)
				switch {
				case len(one.ID) == 0:
					w.WriteHeader(http.StatusAccepted)
				case one.Method == "tools/call" && string(one.Params.Arguments) == `{"bad":true}`:
					respond(w, one)
				default: // also with text before it, and another type
					proper(one, func(raw string) { _, _ = io.WriteString(w, "Warning: deprecated\n"+raw) })
				}
			})), &mcptools.Options{Logger: logTo(logged)})
			_, err := call(t, server, "echo", `{"bad":true}`)
			require.Error(t, err)
			said, err := call(t, server, "echo", `{}`)
			require.NoError(t, err)
			require.Equal(t, "echo {}", said)
			require.NotContains(t, logged.String(), "MCP session ended")
			require.LessOrEqual(t, warnings(logged), 1)
		})
	}
}

// An error never contains the URL of the server, which may contain a secret.
func TestHTTP_unreachable_hidesURL(t *testing.T) {
	t.Parallel()
	_, err := mcptools.Connect(t.Context(), &mcptools.HTTP{URL: "http://127.0.0.1:1/mcp?key=sesame"}, nil)
	require.ErrorContains(t, err, "connection refused")
	require.NotContains(t, err.Error(), "sesame")

	var gone atomic.Bool
	dialer := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gone.Load() {
			panic(http.ErrAbortHandler)
		}
		rogueHTTP(proper).ServeHTTP(w, r)
	}))
	dialer.URL += "?key=sesame"
	server := connect(t, dialer, nil)
	gone.Store(true)
	_, err = call(t, server, "echo", `{}`)
	require.ErrorContains(t, err, "not known whether the call was executed")
	require.NotContains(t, err.Error(), "sesame")
}
