package llm_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
)

func TestTokenBudget(t *testing.T) {
	t.Parallel()
	costs := func(r llm.Response, in, out int64) llm.Response {
		r.Usage = webtrigger.Usage{InputTokens: in, OutputTokens: out}
		return r
	}
	for _, tt := range []struct {
		name   string
		budget int64
		each   int64 // of a model call, half input and half output
		calls  int   // that ask for a tool, before the answer
		asked  int   // model calls that are made
		fails  bool
	}{
		{"within", 100, 20, 3, 4, false},
		{"reached", 100, 20, 5, 5, true},
		{"the answer stands, whatever it took", 100, 1000, 0, 1, false},
		{"the default", 0, llm.DefaultMaxTokens / 2, 5, 2, true},
		{"no bound", -1, llm.DefaultMaxTokens, 5, 6, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			model := &answers{}
			for range tt.calls {
				model.responses = append(model.responses, costs(calls("a", `{}`), tt.each/2, tt.each/2))
			}
			model.responses = append(model.responses, costs(says("ok"), tt.each/2, tt.each/2))
			called := 0
			agent := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{tool("a", &called, result(""))}, MaxTokens: tt.budget})
			got, err := agent.Run(t.Context(), task(nil), new(recorder).emit)
			require.Len(t, model.requests, tt.asked)
			require.Equal(t, tt.asked-1, called, "the result of a further call has no reader")
			require.EqualValues(t, int64(tt.asked)*tt.each, got.Usage.InputTokens+got.Usage.OutputTokens)
			if tt.fails {
				require.ErrorContains(t, err, "tokens")
				require.Empty(t, got.Text)
				return
			}
			require.NoError(t, err)
			require.Equal(t, "ok", got.Text)
		})
	}
}

// The usage of a failed call counts if the model reports it.
func TestUsageOfAFailedCall(t *testing.T) {
	t.Parallel()
	broken := modelFunc(func(context.Context, *llm.Request, func(llm.Chunk) error) (*llm.Response, error) {
		return &llm.Response{Text: "half", Usage: webtrigger.Usage{InputTokens: 5}}, errors.New("cut off")
	})
	rec := new(recorder)
	got, err := newAgent(t, broken, nil).Run(t.Context(), task(nil), rec.emit)
	require.EqualError(t, err, "cut off")
	require.Equal(t, &webtrigger.Usage{InputTokens: 5}, got.Usage)
	require.Empty(t, got.Text)
	require.Empty(t, rec.events)
}

func TestUsageIsOnTheRunWhateverItsEnd(t *testing.T) {
	t.Parallel()
	for _, last := range []llm.Response{says("ok"), says(""), {Finish: llm.FinishLength}, {Finish: llm.FinishRefusal}} {
		last.Usage = webtrigger.Usage{InputTokens: 3, OutputTokens: 2}
		run, events := execute(t, newAgent(t, &answers{responses: []llm.Response{last}}, nil), "hello")
		require.True(t, run.Status.Terminal())
		require.Equal(t, &webtrigger.Usage{InputTokens: 3, OutputTokens: 2}, run.Usage)
		require.Contains(t, string(events[len(events)-2].Payload)+string(events[len(events)-3].Payload), `"usage":{"input_tokens":3,"output_tokens":2}`)
	}
}

func TestLookupsThatFail(t *testing.T) {
	t.Parallel()
	unavailable := errors.New("database unavailable")
	model := &answers{responses: []llm.Response{says("ok")}}
	for _, opts := range []*llm.AgentOptions{
		{Instructions: func(context.Context, string) (string, error) { return "x", unavailable }},
		{AllowTools: func(context.Context, string) ([]string, error) { return []string{"a"}, unavailable }},
	} {
		_, err := newAgent(t, model, opts).Run(t.Context(), task(nil), new(recorder).emit)
		require.ErrorIs(t, err, unavailable)
	}
	require.Empty(t, model.requests, "the model must not be called without its instructions or with tools that are not allowed")
}

func TestAgentTools(t *testing.T) {
	t.Parallel()
	agent := newAgent(t, &answers{}, &llm.AgentOptions{
		Tools:      []llm.Tool{tool("b", nil, result("")), tool("a", nil, result(""))},
		AllowTools: func(context.Context, string) ([]string, error) { return nil, nil },
	})
	specs := agent.Tools()
	require.Len(t, specs, 2)
	require.Equal(t, "b", specs[0].Name)
	require.Equal(t, "Tests.", specs[0].Description)
	specs[0].Parameters[0] = 'x'
	require.EqualValues(t, '{', agent.Tools()[0].Parameters[0], "the agent's own stays")
}

// A transcript that exceeds the limits of a run is truncated, with a note. The run
// completes, and the model gets all of it.
func TestTranscript_tooLong_isCutWithANote(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		calls int // tool calls in one answer
		size  int // bytes of each result
	}{
		"many":  {120, 1},
		"large": {10, 100 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			turn := llm.Response{Finish: llm.FinishToolCalls}
			for i := range c.calls {
				turn.ToolCalls = append(turn.ToolCalls, call(fmt.Sprintf("c%d", i), "a", `{}`))
			}
			model := &answers{}
			for range 10 {
				model.responses = append(model.responses, turn)
			}
			model.responses = append(model.responses, says("ok"))
			agent := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{tool("a", nil, result(strings.Repeat("x", c.size)))}})
			r := &recorder{}
			returned, err := agent.Run(t.Context(), task(nil), r.emit)
			require.NoError(t, err)
			require.Greater(t, len(model.requests[10].Messages), 10*c.calls)
			size, messages := 0, returned.Messages
			for _, m := range messages {
				size += len(m.Content)
			}
			require.LessOrEqual(t, len(messages), webtrigger.MaxResultMessages)
			require.LessOrEqual(t, size, webtrigger.MaxResultMessagesBytes)
			require.Contains(t, messages[len(messages)-1].Content, "truncated")
			require.True(t, len(messages) == webtrigger.MaxResultMessages || size > webtrigger.MaxResultMessagesBytes-c.size-100)
		})
	}
}
