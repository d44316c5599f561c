package llm_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
)

type hookKey struct{}

// Hooks are called for every call, also for a call that fails or is rejected. The
// context that they return is passed on.
func TestHooks_anyCall_areCalled(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var heard []string
	write := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, fmt.Sprintf(format, args...))
	}
	answer := answers{responses: []llm.Response{
		calls("works", `{"n":1}`), calls("fails", `{"n":1}`), calls("works", `{"n":"one"}`), calls("secret", `{}`), says("Done"),
	}}
	model := modelFunc(func(ctx context.Context, req *llm.Request, stream func(llm.Chunk) error) (*llm.Response, error) {
		require.Equal(t, "model", ctx.Value(hookKey{}))
		if len(answer.requests) == 5 {
			return nil, errors.New("unavailable")
		}
		return answer.Generate(ctx, req, stream)
	})
	works := tool("works", nil, func(context.Context) (string, error) { return "fine", nil })
	fails := tool("fails", nil, func(ctx context.Context) (string, error) { return "", fmt.Errorf("no %v", ctx.Value(hookKey{})) })
	agent, err := llm.NewAgent(model, &llm.AgentOptions{
		Tools: []llm.Tool{works, fails},
		Hooks: llm.Hooks{
			Model: func(ctx context.Context, info llm.ModelInfo) (context.Context, func(llm.ModelOutcome)) {
				n := len(info.Request.Messages)
				return context.WithValue(ctx, hookKey{}, "model"), func(o llm.ModelOutcome) { write("model %d %v %v", n, o.Response != nil, o.Err) }
			},
			Tool: func(ctx context.Context, info llm.ToolInfo) (context.Context, func(llm.ToolOutcome)) {
				return context.WithValue(ctx, hookKey{}, "tool"), func(o llm.ToolOutcome) { write("%s %s %v %v", info.Call.ID, info.Call.Name, info.Offered, o.Err) }
			},
		},
	})
	require.NoError(t, err)
	emit := func(webtrigger.EventType, any) error { return nil }
	task := &webtrigger.Task{Prompt: "go"}
	result, err := agent.Run(t.Context(), task, emit)
	require.NoError(t, err)
	require.Equal(t, "Done", result.Text)
	_, err = agent.Run(t.Context(), task, emit)
	require.ErrorContains(t, err, "unavailable")
	require.Len(t, heard, 10)
	require.Contains(t, heard[5], "call_3 works true the arguments are not valid")
	heard[5] = ""
	require.Equal(t, []string{
		"model 1 true <nil>", "c1 works true <nil>",
		"model 3 true <nil>", "call_2 fails true no tool",
		"model 5 true <nil>", "",
		"model 7 true <nil>", `call_4 secret false the tool "secret" is not available`,
		"model 9 true <nil>",
		"model 1 false unavailable",
	}, heard)

	for name, hooks := range map[string]llm.Hooks{
		"none": {},
		"that return nil": {
			Model: func(context.Context, llm.ModelInfo) (context.Context, func(llm.ModelOutcome)) { return nil, nil },
			Tool:  func(context.Context, llm.ToolInfo) (context.Context, func(llm.ToolOutcome)) { return nil, nil },
		},
	} {
		agent, err := llm.NewAgent(&answers{responses: []llm.Response{calls("works", `{}`), says("Done")}},
			&llm.AgentOptions{Tools: []llm.Tool{works}, Hooks: hooks})
		require.NoError(t, err)
		result, err := agent.Run(t.Context(), task, emit)
		require.NoError(t, err, name)
		require.Equal(t, "Done", result.Text, name)
	}
}
