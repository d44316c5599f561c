package openai_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/modeltest"
	"github.com/webtrigger-go/webtrigger/llm"
)

func TestParallelToolCalls(t *testing.T) {
	t.Parallel()
	v := serve(t, nil, modeltest.OpenAITurn(func(o modeltest.OpenAI) {
		o.Role()
		o.Text("Let me look.")
		o.Call(0, "call_a", "search")
		o.Arguments(0, `{"q": "`, `otters`)
		o.Call(1, "call_b", "clock")
		o.Arguments(0, `"}`) // pieces may come in any order
		o.Arguments(1, `{}`)
		o.Finish("tool_calls")
		o.End(20, 30)
	}))
	got := v.Must(t, modeltest.WithTools(modeltest.Hello()))
	require.Equal(t, "Let me look.", got.Text)
	require.Equal(t, llm.FinishToolCalls, got.Finish)
	require.Equal(t, []llm.ToolCall{
		{ID: "call_a", Name: "search", Arguments: json.RawMessage(`{"q": "otters"}`)},
		{ID: "call_b", Name: "clock", Arguments: json.RawMessage(`{}`)},
	}, got.ToolCalls)
	require.Nil(t, got.Native)
}

// Servers that speak this API differ in how they number and name calls.
func TestToolCallsOfOtherServers(t *testing.T) {
	t.Parallel()
	whole := func(index int, id, name, arguments string) map[string]any {
		return map[string]any{"index": index, "id": id, "type": "function", "function": map[string]any{"name": name, "arguments": arguments}}
	}
	t.Run("all numbered 0, and stop for the reason", func(t *testing.T) {
		t.Parallel()
		v := serve(t, nil, modeltest.OpenAITurn(func(o modeltest.OpenAI) {
			o.Tool(whole(0, "call_a", "search", `{"q":"1"}`))
			o.Tool(whole(0, "call_b", "search", `{"q":"2"}`))
			o.Finish("stop")
			o.End(1, 1)
		}))
		got := v.Must(t, modeltest.WithTools(modeltest.Hello()))
		require.Equal(t, llm.FinishToolCalls, got.Finish)
		require.Equal(t, []llm.ToolCall{
			{ID: "call_a", Name: "search", Arguments: json.RawMessage(`{"q":"1"}`)},
			{ID: "call_b", Name: "search", Arguments: json.RawMessage(`{"q":"2"}`)},
		}, got.ToolCalls)
	})
	t.Run("ids repeated in each piece", func(t *testing.T) {
		t.Parallel()
		v := serve(t, nil, modeltest.OpenAITurn(func(o modeltest.OpenAI) {
			o.Tool(whole(0, "call_a", "search", `{"q":`))
			o.Tool(whole(0, "call_a", "search", `"1"}`))
			o.Finish("tool_calls")
			o.End(1, 1)
		}))
		require.Equal(t, []llm.ToolCall{{ID: "call_a", Name: "search", Arguments: json.RawMessage(`{"q":"1"}`)}}, v.Must(t, modeltest.WithTools(modeltest.Hello())).ToolCalls)
	})
	t.Run("no ids, and ids of earlier calls", func(t *testing.T) {
		t.Parallel()
		v := serve(t, nil, modeltest.OpenAITurn(func(o modeltest.OpenAI) {
			o.Tool(whole(0, "", "search", `{}`))
			o.Tool(whole(1, "", "clock", `{}`))
			o.Tool(whole(2, "call_0", "clock", `{}`))
			o.Finish("tool_calls")
			o.End(1, 1)
		}))
		req := modeltest.WithTools(modeltest.Hello())
		req.Messages = append(req.Messages,
			llm.Message{Role: webtrigger.RoleAssistant, ToolCalls: []llm.ToolCall{{ID: "call_0", Name: "clock", Arguments: json.RawMessage(`{}`)}}},
			llm.Message{Role: webtrigger.RoleTool, ToolCallID: "call_0", Content: "noon"})
		ids := map[string]bool{"call_0": true, "": true}
		for _, c := range v.Must(t, req).ToolCalls {
			require.False(t, ids[c.ID], "the id %q again", c.ID)
			ids[c.ID] = true
		}
		require.Len(t, ids, 5)
	})
	t.Run("arguments that are not JSON", func(t *testing.T) {
		t.Parallel()
		v := serve(t, nil, modeltest.OpenAITurn(func(o modeltest.OpenAI) {
			o.Call(0, "call_a", "search")
			o.Arguments(0, `{"q": oops`)
			o.Finish("tool_calls")
			o.End(1, 1)
		}))
		require.Equal(t, `{"q": oops`, string(v.Must(t, modeltest.WithTools(modeltest.Hello())).ToolCalls[0].Arguments), "left to who checks arguments")
	})
}

// The next request has the reasoning and signatures that other servers require.
func TestComplete_reasoningAndSignatures_areSentAgain(t *testing.T) {
	t.Parallel()
	signed := map[string]any{"google": map[string]any{"thought_signature": "c2ln"}}
	v := serve(t, nil, modeltest.OpenAITurn(func(o modeltest.OpenAI) {
		o.Delta(map[string]any{"role": "assistant", "content": nil, "reasoning_content": "I should "}, nil)
		o.Delta(map[string]any{"reasoning_content": "search."}, nil)
		o.Tool(map[string]any{"index": 0, "id": "call_a", "type": "function", "extra_content": signed,
			"function": map[string]any{"name": "search", "arguments": `{}`}})
		o.Finish("tool_calls")
		o.End(1, 1)
	}), modeltest.OpenAIText("ok"), modeltest.OpenAIText("ok"))
	req := modeltest.WithTools(modeltest.Hello())
	got := v.Must(t, req)
	require.Empty(t, got.Pieces, "reasoning is not part of the answer")

	req.Messages = append(req.Messages,
		llm.Message{Role: webtrigger.RoleAssistant, ToolCalls: got.ToolCalls, Native: got.Native},
		llm.Message{Role: webtrigger.RoleTool, ToolCallID: "call_a", Content: "found"})
	v.Must(t, req)
	message := v.Last()["messages"].([]any)[1].(map[string]any)
	require.Equal(t, "I should search.", message["reasoning_content"])
	require.Equal(t, signed, message["tool_calls"].([]any)[0].(map[string]any)["extra_content"])

	req.Messages[1].Native = json.RawMessage(`{"anthropic":[{"type":"thinking"}]}`) // of another model: nothing
	v.Must(t, req)
	message = v.Last()["messages"].([]any)[1].(map[string]any)
	require.NotContains(t, message, "reasoning_content")
}

func TestFinish(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		play func(o modeltest.OpenAI)
		want llm.Response
	}{
		"refusal": {func(o modeltest.OpenAI) { o.Role(); o.Decline("I can't ", "help."); o.Finish("stop"); o.End(1, 2) },
			llm.Response{Finish: llm.FinishRefusal, Detail: "I can't help."}},
		"content filter": {func(o modeltest.OpenAI) { o.Role(); o.Text("Sure"); o.Finish("content_filter"); o.End(1, 2) },
			llm.Response{Text: "Sure", Finish: llm.FinishRefusal, Detail: "content filter"}},
		"length": {func(o modeltest.OpenAI) { o.Role(); o.Text("Once upon"); o.Finish("length"); o.End(1, 2) },
			llm.Response{Text: "Once upon", Finish: llm.FinishLength}},
		"length within a tool call": {func(o modeltest.OpenAI) {
			o.Call(0, "call_a", "search")
			o.Arguments(0, `{"q": "otte`)
			o.Finish("length")
			o.End(1, 2)
		}, llm.Response{Finish: llm.FinishLength, ToolCalls: []llm.ToolCall{{ID: "call_a", Name: "search", Arguments: json.RawMessage(`{"q": "otte`)}}}},
		"no content": {func(o modeltest.OpenAI) { o.Role(); o.Finish("stop"); o.End(1, 2) },
			llm.Response{Finish: llm.FinishStop}},
		"a reason of another server's": {func(o modeltest.OpenAI) { o.Role(); o.Text("ok"); o.Finish("eos"); o.End(1, 2) },
			llm.Response{Text: "ok", Finish: llm.FinishStop}},
		"a cut after the reason": {func(o modeltest.OpenAI) {
			o.Role()
			o.Text("ok")
			o.Finish("stop")
			o.Chunk([]any{}, map[string]any{"prompt_tokens": 1, "completion_tokens": 2})
			o.Cut()
		},
			llm.Response{Text: "ok", Finish: llm.FinishStop}},
		"other choices": {func(o modeltest.OpenAI) {
			o.Text("ok")
			o.Chunk([]any{map[string]any{"index": 1, "delta": map[string]any{"content": "no"}, "finish_reason": "length"}}, nil)
			o.Finish("stop")
			o.End(1, 2)
		}, llm.Response{Text: "ok", Finish: llm.FinishStop}},
		"comments and blank lines": {func(o modeltest.OpenAI) {
			o.Raw(": OPENROUTER PROCESSING\n\n\n\n")
			o.Text("ok")
			o.Finish("stop")
			o.End(1, 2)
		}, llm.Response{Text: "ok", Finish: llm.FinishStop}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := serve(t, nil, modeltest.OpenAITurn(c.play))
			c.want.Model, c.want.Usage = "gpt-fake-2026", webtrigger.Usage{InputTokens: 1, OutputTokens: 2}
			require.Equal(t, &c.want, v.Must(t, modeltest.WithTools(modeltest.Hello())).Response)
		})
	}
}

// If the server sends no usage, it is zero. That is not an error.
func TestComplete_noUsage_isZero(t *testing.T) {
	t.Parallel()
	v := serve(t, nil, modeltest.OpenAITurn(func(o modeltest.OpenAI) {
		o.Text("ok")
		o.Finish("stop")
		o.Event("", "[DONE]")
	}))
	require.Zero(t, v.Must(t, modeltest.Hello()).Usage)
}

func TestAnswerTooLarge(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 1<<20)
	for name, play := range map[string]func(o modeltest.OpenAI){
		"text":      func(o modeltest.OpenAI) { o.Text(big, big, big, big, "x") },
		"arguments": func(o modeltest.OpenAI) { o.Call(0, "c", "search"); o.Arguments(0, big, big, big, big, "x") },
		"refusal":   func(o modeltest.OpenAI) { o.Decline(big, big, big, big, "x") },
		"calls": func(o modeltest.OpenAI) {
			for batch := range 20 {
				calls := make([]any, 1000)
				for i := range calls {
					calls[i] = map[string]any{"index": batch*1000 + i}
				}
				o.Delta(map[string]any{"tool_calls": calls}, nil)
			}
		},
		"reasoning":            reasoning(6, func(int) map[string]any { return map[string]any{"index": 0, "text": big} }),
		"entries of reasoning": reasoning(20_000, func(i int) map[string]any { return map[string]any{"index": i} }),
		"names in reasoning":   reasoning(5000, func(i int) map[string]any { return map[string]any{"index": 0, fmt.Sprint(i, big[:1000]): 0} }),
		"values in reasoning":  reasoning(5000, func(i int) map[string]any { return map[string]any{"index": 0, fmt.Sprint(i): big[:1000]} }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := serve(t, nil, modeltest.OpenAITurn(func(o modeltest.OpenAI) { play(o); o.Finish("stop"); o.End(1, 1) }))
			failure := v.Fail(t, modeltest.Hello())
			require.EqualError(t, failure, "openai: the answer is too large")
			require.False(t, failure.Retryable)
		})
	}
}

// reasoning sends n pieces of reasoning.
func reasoning(n int, piece func(i int) map[string]any) func(o modeltest.OpenAI) {
	return func(o modeltest.OpenAI) {
		var pieces []any
		for i := range n {
			pieces = append(pieces, piece(i))
		}
		for batch := range slices.Chunk(pieces, 1000) {
			o.Delta(map[string]any{"reasoning_details": batch}, nil)
		}
	}
}
