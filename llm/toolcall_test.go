package llm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/logtest"
	"github.com/webtrigger-go/webtrigger/llm"
)

// together is a response with several calls of one tool.
func together(name string, n int) llm.Response {
	response := llm.Response{Finish: llm.FinishToolCalls}
	for i := range n {
		response.ToolCalls = append(response.ToolCalls, call(fmt.Sprintf("c%d", i), name, fmt.Sprintf(`{"n":%d}`, i)))
	}
	return response
}

// numbered is a tool whose argument n is an integer.
func numbered(name string, do func(ctx context.Context, n int) (string, error)) llm.Tool {
	t := tool(name, nil, nil)
	t.Call = func(ctx context.Context, arguments json.RawMessage) (string, error) {
		var args struct{ N int }
		if err := json.Unmarshal(arguments, &args); err != nil {
			return "", err
		}
		return do(ctx, args.N)
	}
	return t
}

func TestCallsAreMadeInParallel(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		limit, calls int
		took         time.Duration
	}{
		{0, 8, 8 * time.Second},    // the default is 8: as long as the longest
		{0, 9, 10 * time.Second},   // the ninth begins when the first has ended
		{1, 4, 10 * time.Second},   // one after the other
		{3, 4, 5 * time.Second},    // 1 s, and then the fourth
		{64, 20, 20 * time.Second}, // all at once
	} {
		t.Run(fmt.Sprint(tt.limit, tt.calls), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var under, most atomic.Int32
				slow := numbered("slow", func(_ context.Context, n int) (string, error) {
					most.Store(max(most.Load(), under.Add(1)))
					defer under.Add(-1)
					time.Sleep(time.Duration(n+1) * time.Second)
					return fmt.Sprint("result ", n), nil
				})
				model := &answers{responses: []llm.Response{together("slow", tt.calls), says("ok")}}
				rec := new(recorder)
				agent := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{slow}, ParallelTools: tt.limit})
				began := time.Now()
				_, err := agent.Run(t.Context(), task(nil), rec.emit)
				require.NoError(t, err)
				require.Equal(t, tt.took, time.Since(began))
				limit := tt.limit
				if limit == 0 {
					limit = llm.DefaultParallelTools
				}
				require.EqualValues(t, min(limit, tt.calls), most.Load())

				// The model receives the results in the order of its calls.
				messages := model.requests[1].Messages
				require.Len(t, messages, 2+tt.calls)
				for i, m := range messages[2:] {
					require.Equal(t, llm.Message{Role: webtrigger.RoleTool, ToolCallID: fmt.Sprintf("c%d", i), Content: fmt.Sprint("result ", i)}, m)
				}
				// Each call has one beginning, and then one end.
				state := map[any]string{}
				for _, e := range rec.events {
					switch id := e.Payload["call_id"]; e.Type {
					case webtrigger.EventToolStarted:
						require.Empty(t, state[id])
						state[id] = "under way"
					case webtrigger.EventToolCompleted:
						require.Equal(t, "under way", state[id])
						state[id] = "ended"
						require.Equal(t, "result "+strings.TrimPrefix(id.(string), "c"), e.Payload["result"])
					}
				}
				require.Len(t, state, tt.calls)
			})
		})
	}
}

// One that fails, in whatever way, hurts no other of the same answer.
func TestFailuresStayWithTheirCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		misbehaving := []llm.Tool{
			tool("hangs", nil, func(context.Context) (string, error) { <-release; return "late", nil }),
			tool("waits", nil, func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }),
			tool("panics", nil, func(context.Context) (string, error) { panic("boom") }),
			tool("exits", nil, func(context.Context) (string, error) { runtime.Goexit(); return "", nil }),
			tool("floods", nil, result(strings.Repeat("x", 10<<20))),
			tool("mumbles", nil, result("\xff\xfe\x00")),
			tool("fails", nil, func(context.Context) (string, error) { return "", errors.New("no luck") }),
			tool("works", nil, func(context.Context) (string, error) { time.Sleep(time.Second); return "42", nil }),
		}
		misbehaving[1].Timeout = 5 * time.Second
		asked := llm.Response{}
		for _, one := range misbehaving {
			asked.ToolCalls = append(asked.ToolCalls, call(one.Name, one.Name, `{}`))
		}
		asked.ToolCalls = append(asked.ToolCalls, call("absent", "absent", `{}`), call("wrong", "works", `{"n":"one"}`))
		model := &answers{responses: []llm.Response{asked, says("ok")}}
		rec, logged := new(recorder), new(logtest.Buffer)
		agent := newAgent(t, model, &llm.AgentOptions{
			Tools: misbehaving, ParallelTools: 16, ToolTimeout: 10 * time.Second, MaxToolResult: 1000,
			Logger: slog.New(slog.NewTextHandler(logged, nil)),
		})
		began := time.Now()
		got, err := agent.Run(t.Context(), task(nil), rec.emit)
		require.NoError(t, err)
		require.Equal(t, "ok", got.Text)
		require.Equal(t, 10*time.Second+50*time.Millisecond, time.Since(began), "soon after the limit of the one that hangs")

		said := map[string]string{}
		for _, m := range model.requests[1].Messages[2:] {
			said[m.ToolCallID] = m.Content
		}
		require.Equal(t, "Error: the tool took longer than 10s", said["hangs"])
		require.Equal(t, "Error: the tool took longer than 5s", said["waits"])
		require.Equal(t, "Error: the tool crashed", said["panics"])
		require.Equal(t, "Error: the tool crashed", said["exits"])
		require.Equal(t, strings.Repeat("x", 1000)+"\n[truncated: the result has 10485760 bytes]", said["floods"])
		require.Equal(t, "\uFFFD\uFFFD", said["mumbles"])
		require.Equal(t, "Error: no luck", said["fails"])
		require.Equal(t, "42", said["works"])
		require.Contains(t, said["absent"], "not available")
		require.Contains(t, said["wrong"], "/n")
		require.Contains(t, logged.String(), "tool abandoned")
		require.Contains(t, logged.String(), "boom")
	})
}

func TestAToolThatSucceedsAtTheLastMoment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		model := &answers{responses: []llm.Response{calls("a", `{}`), says("ok")}}
		late := tool("a", nil, func(ctx context.Context) (string, error) {
			<-ctx.Done()
			require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
			return "done", nil
		})
		_, err := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{late}}).Run(t.Context(), task(nil), new(recorder).emit)
		require.NoError(t, err)
		require.Equal(t, "done", model.last().Content)
	})
}

// Calls that never return do not pile up without bound, and those that return
// after all make room again.
func TestCallsLeftBehindAreCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var called atomic.Int32
		hanging := tool("a", nil, func(context.Context) (string, error) {
			called.Add(1)
			<-release
			return "", nil
		})
		model := &answers{responses: []llm.Response{calls("a", `{}`)}}
		agent := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{hanging}, MaxSteps: 41, ToolTimeout: time.Second})
		rec := new(recorder)
		_, err := agent.Run(t.Context(), task(nil), rec.emit)
		require.ErrorContains(t, err, "steps")
		require.EqualValues(t, 32, called.Load())
		last := rec.events[len(rec.events)-2]
		require.Equal(t, webtrigger.EventToolFailed, last.Type)
		require.Contains(t, last.Payload["error"], "are still running")

		close(release)
		synctest.Wait()
		*model = answers{responses: []llm.Response{calls("a", `{}`), says("ok")}}
		_, err = agent.Run(t.Context(), task(nil), rec.emit)
		require.NoError(t, err)
		require.EqualValues(t, 33, called.Load())
	})
}

func TestCallIDs(t *testing.T) {
	t.Parallel()
	asks := func(ids ...string) (response llm.Response) {
		for _, id := range ids {
			response.ToolCalls = append(response.ToolCalls, call(id, "a", ``))
		}
		return response
	}
	model := &answers{responses: []llm.Response{asks("x", "", "x", "call_3"), asks("x", "y", "call_4"), says("ok")}}
	rec := new(recorder)
	agent := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{tool("a", nil, result("1"))}})
	_, err := agent.Run(t.Context(), task(nil), rec.emit)
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, m := range model.requests[2].Messages {
		for _, c := range m.ToolCalls {
			require.NotEmpty(t, c.ID)
			require.False(t, seen[c.ID], c.ID)
			require.JSONEq(t, `{}`, string(c.Arguments), "vendors reject calls without arguments")
			seen[c.ID] = true
		}
	}
	require.Len(t, seen, 7)
	for _, m := range model.requests[2].Messages {
		if m.Role == webtrigger.RoleTool {
			require.True(t, seen[m.ToolCallID], "%s answers a call", m.ToolCallID)
			delete(seen, m.ToolCallID)
		}
	}
	require.Empty(t, seen, "every call is answered once")
	require.Equal(t, []string{"x", "", "x", "call_3"}, idsOf(model.responses[0]), "what a model returned stays the model's")
}

// Where an id changes, the model takes the calls from ToolCalls and the rest from
// Native.
func TestNative_calls_isKept(t *testing.T) {
	t.Parallel()
	native := json.RawMessage(`{"vendor":"thinking"}`)
	asks := calls("a", `{}`)
	asks.Native = native
	again := asks
	again.ToolCalls = []llm.ToolCall{call("c2", "a", `{}`), call("c1", "a", `{}`)} // c1 was taken
	wrong := says(`no JSON`)
	wrong.Native = native
	model := &answers{responses: []llm.Response{asks, again, wrong, says(`{}`)}}
	_, err := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{tool("a", nil, result("1"))}}).
		Run(t.Context(), task(jsonTask("")), new(recorder).emit)
	require.NoError(t, err)
	var kept []string
	for _, m := range model.requests[3].Messages {
		if m.Role == webtrigger.RoleAssistant {
			kept = append(kept, string(m.Native))
		} else {
			require.Nil(t, m.Native)
		}
	}
	require.Equal(t, []string{string(native), string(native), string(native)}, kept)
}

func idsOf(response llm.Response) (ids []string) {
	for _, c := range response.ToolCalls {
		ids = append(ids, c.ID)
	}
	return ids
}

func TestTooManyCallsAtOnce(t *testing.T) {
	t.Parallel()
	var called atomic.Int32
	counting := numbered("a", func(context.Context, int) (string, error) { called.Add(1); return "", nil })
	for _, tt := range []struct {
		calls int
		fails bool
	}{{128, false}, {129, true}} {
		model := &answers{responses: []llm.Response{together("a", tt.calls), says("ok")}}
		called.Store(0)
		_, err := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{counting}}).Run(t.Context(), task(nil), new(recorder).emit)
		if tt.fails {
			require.EqualError(t, err, "The model asked for 129 tool calls at once, more than 128.")
			require.Zero(t, called.Load())
			continue
		}
		require.NoError(t, err)
		require.EqualValues(t, tt.calls, called.Load())
	}
}

func TestCallFrom(t *testing.T) {
	t.Parallel()
	_, ok := llm.CallFrom(t.Context())
	require.False(t, ok)
	var mu sync.Mutex
	seen := map[string]int64{}
	asking := numbered("a", func(ctx context.Context, _ int) (string, error) {
		c, ok := llm.CallFrom(ctx)
		require.True(t, ok)
		mu.Lock()
		defer mu.Unlock()
		seen[c.ID] = c.Task.Run.ID
		return "", nil
	})
	model := &answers{responses: []llm.Response{together("a", 2), says("ok")}}
	_, err := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{asking}}).Run(t.Context(), task(nil), new(recorder).emit)
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"c0": 1, "c1": 1}, seen)
}

// A rejected event stops the run and its open calls.
func TestAgent_rejectedEvent_stopsParallelCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var stopped atomic.Int32
		waiting := numbered("a", func(ctx context.Context, n int) (string, error) {
			if n == 0 {
				time.Sleep(time.Second)
				return "first", nil
			}
			<-ctx.Done()
			stopped.Add(1)
			return "", ctx.Err()
		})
		model := &answers{responses: []llm.Response{together("a", 4), says("ok")}}
		began := time.Now()
		_, err := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{waiting}}).
			Run(t.Context(), task(nil), (&recorder{refuse: webtrigger.EventToolCompleted}).emit)
		require.ErrorIs(t, err, errRejected)
		require.Equal(t, time.Second, time.Since(began))
		require.EqualValues(t, 3, stopped.Load())
	})
}
