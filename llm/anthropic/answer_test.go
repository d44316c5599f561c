package anthropic_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/modeltest"
	"github.com/webtrigger-go/webtrigger/llm"
)

func TestParallelToolCalls(t *testing.T) {
	t.Parallel()
	v := serve(t, nil, modeltest.AnthropicTurn(func(a modeltest.Anthropic) {
		a.Start()
		a.Block(0, map[string]any{"type": "text", "text": ""})
		a.Text(0, "Let me look.")
		a.BlockStop(0)
		a.Tool(1, "toolu_a", "search")
		a.Input(1, "", `{"q": "`, `otters`)
		a.Tool(2, "toolu_b", "clock")
		a.Input(1, `"}`) // pieces may come in any order
		a.BlockStop(1)
		a.BlockStop(2)
		a.Block(3, map[string]any{"type": "tool_use", "id": "toolu_c", "name": "search", "input": map[string]any{"q": "whole"}})
		a.BlockStop(3)
		a.End("tool_use", 30)
	}))
	got := v.Must(t, modeltest.WithTools(modeltest.Hello()))
	require.Equal(t, "Let me look.", got.Text)
	require.Equal(t, llm.FinishToolCalls, got.Finish)
	require.Equal(t, []llm.ToolCall{
		{ID: "toolu_a", Name: "search", Arguments: json.RawMessage(`{"q": "otters"}`)},
		{ID: "toolu_b", Name: "clock", Arguments: json.RawMessage(`{}`)},
		{ID: "toolu_c", Name: "search", Arguments: json.RawMessage(`{"q":"whole"}`)},
	}, got.ToolCalls)
	require.Nil(t, got.Native)
}

// Ids are unique within the conversation, even if a server that only resembles the
// vendor's repeats them. Arguments that are not JSON are returned unchanged: the agent
// checks them.
func TestComplete_toolCallsOfOtherServers_haveUniqueIDs(t *testing.T) {
	t.Parallel()
	v := serve(t, nil, modeltest.AnthropicTurn(func(a modeltest.Anthropic) {
		a.Start()
		for i, id := range []string{"", "", "tool_0"} {
			a.Tool(i, id, "clock")
			a.BlockStop(i)
		}
		a.Tool(3, "tool_1", "search")
		a.Input(3, `{"q": oops`)
		a.BlockStop(3)
		a.End("tool_use", 1)
	}))
	req := modeltest.WithTools(modeltest.Hello())
	req.Messages = append(req.Messages,
		llm.Message{Role: webtrigger.RoleAssistant, ToolCalls: []llm.ToolCall{{ID: "tool_0", Name: "clock", Arguments: json.RawMessage(`{}`)}}},
		llm.Message{Role: webtrigger.RoleTool, ToolCallID: "tool_0", Content: "noon"})
	ids := map[string]bool{"tool_0": true, "": true}
	calls := v.Must(t, req).ToolCalls
	for _, c := range calls {
		require.False(t, ids[c.ID], "the id %q again", c.ID)
		ids[c.ID] = true
	}
	require.Equal(t, "tool_1", calls[3].ID)
	require.Equal(t, `{"q": oops`, string(calls[3].Arguments))
}

// The next request has the signed thinking unchanged, before the calls that it led to.
func TestComplete_signedThinking_isSentBeforeItsCalls(t *testing.T) {
	t.Parallel()
	v := serve(t, nil, modeltest.AnthropicTurn(func(a modeltest.Anthropic) {
		a.Start()
		a.Thinking(0, "I should <search>.", "c2lnbmVk")
		a.Block(1, map[string]any{"type": "redacted_thinking", "data": "ZW5j"})
		a.BlockStop(1)
		a.Block(2, map[string]any{"type": "text", "text": ""})
		a.Text(2, "\n\n")
		a.BlockStop(2)
		a.Block(3, map[string]any{"type": "text", "text": ""})
		a.Text(3, "One moment.")
		a.BlockStop(3)
		a.Tool(4, "toolu_a", "search")
		a.Input(4, `{"q": 1e22}`)
		a.BlockStop(4)
		a.Tool(5, "toolu_b", "search")
		a.Input(5, `{oops`)
		a.BlockStop(5)
		a.End("tool_use", 1)
	}), modeltest.AnthropicText("ok"), modeltest.AnthropicText("ok"))
	req := modeltest.WithTools(modeltest.Hello())
	got := v.Must(t, req)
	require.Equal(t, "\n\nOne moment.", got.Text, "thinking is not part of the answer")

	req.Messages = append(req.Messages,
		llm.Message{Role: webtrigger.RoleAssistant, Content: got.Text, ToolCalls: got.ToolCalls, Native: got.Native},
		llm.Message{Role: webtrigger.RoleTool, ToolCallID: "toolu_a", Content: "found"},
		llm.Message{Role: webtrigger.RoleTool, ToolCallID: "toolu_b", Content: "Error: no JSON"})
	v.Must(t, req)
	sent := struct {
		Messages []struct{ Content json.RawMessage }
	}{}
	requests := v.Requests()
	require.NoError(t, json.Unmarshal([]byte(requests[len(requests)-1].Raw), &sent))
	require.JSONEq(t, `[
		{"type": "thinking", "thinking": "I should <search>.", "signature": "c2lnbmVk"},
		{"type": "redacted_thinking", "data": "ZW5j"},
		{"type": "text", "text": "One moment."},
		{"type": "tool_use", "id": "toolu_a", "name": "search", "input": {"q": 1e22}},
		{"type": "tool_use", "id": "toolu_b", "name": "search", "input": {}}]`, string(sent.Messages[1].Content))

	req.Messages[1].Native = json.RawMessage(`{"openai":{"reasoning":"hm"}}`) // of another model: nothing
	v.Must(t, req)
	content := v.Last()["messages"].([]any)[1].(map[string]any)["content"].([]any)
	require.Equal(t, "text", content[0].(map[string]any)["type"])
	require.Len(t, content, 3)
}

// No further request follows an answer without calls, so its thinking is not kept.
func TestComplete_answerWithoutCalls_dropsThinking(t *testing.T) {
	t.Parallel()
	v := serve(t, nil, modeltest.AnthropicTurn(func(a modeltest.Anthropic) {
		a.Start()
		a.Thinking(0, "Easy.", "c2lnbmVk")
		a.Block(1, map[string]any{"type": "text", "text": ""})
		a.Text(1, "Four.")
		a.BlockStop(1)
		a.End("end_turn", 1)
	}))
	got := v.Must(t, modeltest.Hello())
	require.Equal(t, []string{"Four."}, got.Pieces)
	require.Nil(t, got.Native)
}

func TestFinish(t *testing.T) {
	t.Parallel()
	text := func(a modeltest.Anthropic, s string) {
		a.Start()
		a.Block(0, map[string]any{"type": "text", "text": ""})
		a.Text(0, s)
		a.BlockStop(0)
	}
	for name, c := range map[string]struct {
		play func(a modeltest.Anthropic)
		want llm.Response
	}{
		"refusal": {func(a modeltest.Anthropic) {
			text(a, "I")
			a.Reason("refusal", 2, map[string]any{"type": "refusal", "category": "cyber", "explanation": "Not that."})
			a.Event("message_stop", map[string]any{"type": "message_stop"})
		}, llm.Response{Text: "I", Finish: llm.FinishRefusal, Detail: "Not that."}},
		"declined by category": {func(a modeltest.Anthropic) {
			a.Start()
			a.Reason("refusal", 2, map[string]any{"type": "refusal", "category": "bio", "explanation": nil})
			a.Event("message_stop", map[string]any{"type": "message_stop"})
		}, llm.Response{Finish: llm.FinishRefusal, Detail: "bio"}},
		"declined without a text": {func(a modeltest.Anthropic) { a.Start(); a.End("refusal", 2) }, llm.Response{Finish: llm.FinishRefusal}},
		"length":                  {func(a modeltest.Anthropic) { text(a, "Once upon"); a.End("max_tokens", 2) }, llm.Response{Text: "Once upon", Finish: llm.FinishLength}},
		"window full":             {func(a modeltest.Anthropic) { text(a, "Once"); a.End("model_context_window_exceeded", 2) }, llm.Response{Text: "Once", Finish: llm.FinishLength}},
		"length within a tool call": {func(a modeltest.Anthropic) {
			a.Start()
			a.Tool(0, "toolu_a", "search")
			a.Input(0, `{"q": "otte`)
			a.BlockStop(0)
			a.End("max_tokens", 2)
		}, llm.Response{Finish: llm.FinishLength, ToolCalls: []llm.ToolCall{{ID: "toolu_a", Name: "search", Arguments: json.RawMessage(`{"q": "otte`)}}}},
		"no content":    {func(a modeltest.Anthropic) { a.Start(); a.End("end_turn", 2) }, llm.Response{Finish: llm.FinishStop}},
		"stop sequence": {func(a modeltest.Anthropic) { text(a, "ok"); a.End("stop_sequence", 2) }, llm.Response{Text: "ok", Finish: llm.FinishStop}},
		"a new reason":  {func(a modeltest.Anthropic) { text(a, "ok"); a.End("bored", 2) }, llm.Response{Text: "ok", Finish: llm.FinishStop}},
		"a cut after the reason": {func(a modeltest.Anthropic) { text(a, "ok"); a.Reason("end_turn", 2, nil); a.Cut() },
			llm.Response{Text: "ok", Finish: llm.FinishStop}},
		"events and blocks that are new": {func(a modeltest.Anthropic) {
			a.Start()
			a.Event("weather", map[string]any{"type": "weather", "rain": true})
			a.Block(0, map[string]any{"type": "hologram", "light": 1})
			a.Delta(0, map[string]any{"type": "light_delta", "light": 2})
			a.BlockStop(0)
			a.Event("ping", map[string]any{"type": "ping"})
			a.Block(1, map[string]any{"type": "text", "text": "ok"})
			a.BlockStop(1)
			a.End("end_turn", 2)
		}, llm.Response{Text: "ok", Finish: llm.FinishStop}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := serve(t, nil, modeltest.AnthropicTurn(c.play))
			c.want.Model, c.want.Usage = "claude-fake-2026", webtrigger.Usage{InputTokens: 11, OutputTokens: 2}
			require.Equal(t, &c.want, v.Must(t, modeltest.WithTools(modeltest.Hello())).Response)
		})
	}
}

// If the last event has totals, they count.
func TestUsage(t *testing.T) {
	t.Parallel()
	v := serve(t, nil, modeltest.AnthropicTurn(func(a modeltest.Anthropic) {
		a.Start()
		a.Event("message_delta", map[string]any{"type": "message_delta", "delta": map[string]any{"stop_reason": "end_turn"},
			"usage": map[string]any{"input_tokens": 100, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 3, "output_tokens": 9}})
		a.Event("message_stop", map[string]any{"type": "message_stop"})
	}))
	require.Equal(t, webtrigger.Usage{InputTokens: 123, OutputTokens: 9}, v.Must(t, modeltest.Hello()).Usage)
}

// A pause is for tools that the adapter never offers, so the turn cannot continue.
func TestPause(t *testing.T) {
	t.Parallel()
	v := serve(t, nil, modeltest.AnthropicTurn(func(a modeltest.Anthropic) { a.Start(); a.End("pause_turn", 1) }))
	failure := v.Fail(t, modeltest.Hello())
	require.EqualError(t, failure, "anthropic: the model paused for a tool of the vendor")
	require.False(t, failure.Retryable)
}

func TestAnswerTooLarge(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 1<<20)
	piece := func(kind, field string) func(a modeltest.Anthropic) {
		return func(a modeltest.Anthropic) {
			a.Start()
			a.Block(0, map[string]any{"type": "text", "text": ""})
			for range 5 {
				a.Delta(0, map[string]any{"type": kind, field: big})
			}
		}
	}
	for name, play := range map[string]func(a modeltest.Anthropic){
		"text": piece("text_delta", "text"), "input": piece("input_json_delta", "partial_json"),
		"thinking": piece("thinking_delta", "thinking"), "signature": piece("signature_delta", "signature"),
		"blocks": func(a modeltest.Anthropic) {
			a.Start()
			for i := range 5 {
				a.Block(i, map[string]any{"type": "redacted_thinking", "data": big})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := serve(t, nil, modeltest.AnthropicTurn(func(a modeltest.Anthropic) { play(a); a.End("end_turn", 1) }))
			failure := v.Fail(t, modeltest.Hello())
			require.EqualError(t, failure, "anthropic: the answer is too large")
			require.False(t, failure.Retryable)
		})
	}
}

// The caller may correct calls. Those that the model sees again must match their results.
func TestNative_correctedCalls_matchTheirResults(t *testing.T) {
	t.Parallel()
	v := serve(t, nil, modeltest.AnthropicTurn(func(a modeltest.Anthropic) {
		a.Start()
		a.Thinking(0, "I should search.", "c2lnbmVk")
		a.Tool(1, "toolu.a", "search")
		a.Input(1, `{"q":"\ud800","q":1}`)
		a.Tool(2, "toolu/a", "search")
		a.Tool(3, strings.Repeat("x", 300), "clock")
		a.End("tool_use", 1)
	}), modeltest.AnthropicText("ok"), modeltest.AnthropicText("ok"))
	req := modeltest.WithTools(modeltest.Hello())
	got := v.Must(t, req)
	require.Len(t, got.ToolCalls, 3)
	ids := map[string]bool{}
	for _, c := range got.ToolCalls {
		require.Regexp(t, `^[a-zA-Z0-9_-]{1,256}$`, c.ID)
		ids[c.ID] = true
	}
	require.Len(t, ids, 3, "ids must differ in the form that the API accepts, too")

	corrected := []llm.ToolCall{{ID: "call_1", Name: "search", Arguments: json.RawMessage(`{}`)}, {ID: "call_2", Name: "clock", Arguments: json.RawMessage(`{"a":1}`)}}
	for _, more := range []bool{false, true} { // calls than the model made
		if more {
			corrected = append(corrected, llm.ToolCall{ID: "call_3", Name: "clock"}, llm.ToolCall{ID: "call_4", Name: "clock"})
		}
		next := *req
		next.Messages = append(next.Messages[:1:1], llm.Message{Role: webtrigger.RoleAssistant, ToolCalls: corrected, Native: got.Native})
		want := []any{map[string]any{"type": "thinking", "thinking": "I should search.", "signature": "c2lnbmVk"}}
		for _, c := range corrected {
			next.Messages = append(next.Messages, llm.Message{Role: webtrigger.RoleTool, ToolCallID: c.ID, Content: "found"})
			input := map[string]any{}
			if len(c.Arguments) > 2 {
				input["a"] = 1.0
			}
			want = append(want, map[string]any{"type": "tool_use", "id": c.ID, "name": c.Name, "input": input})
		}
		v.Must(t, &next)
		require.Equal(t, want, v.Last()["messages"].([]any)[1].(map[string]any)["content"])
	}
}
