package llm_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
)

// A mistake of the model is reported to it, and what it sees of the mistake is a
// valid call: vendors reject a conversation with any other.
func TestRun_modelMakesAMistake_continues(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 1000)
	for _, tt := range []struct {
		name, tool, arguments string
		sentName, sent        string
		shown                 any // the arguments in the event
		told                  string
	}{
		{"quotes inside quotes", "a", `{"expression": "say "6*7""}`, "a", `{}`, `{"expression": "say "6*7""}`, "not valid JSON"},
		{"cut off", "a", `{"n":`, "a", `{}`, `{"n":`, "not valid JSON"},
		{"two objects", "a", `{"n":1}{"n":2}`, "a", `{}`, `{"n":1}{"n":2}`, "not valid JSON"},
		{"plain text", "a", `n is 1`, "a", `{}`, `n is 1`, "not valid JSON"},
		{"a list", "a", `[1]`, "a", `{}`, `[1]`, "not a JSON object"},
		{"a string of JSON", "a", `"{\"n\":1}"`, "a", `{}`, `"{\"n\":1}"`, "not a JSON object"},
		{"null", "a", `null`, "a", `{}`, `null`, "not a JSON object"},
		{"a number", "a", `7`, "a", `{}`, `7`, "not a JSON object"},
		{"invalid UTF-8", "a", "{\"n\":\"\xff\"}", "a", `{}`, `{"n":"�"}`, "not valid JSON"},
		{"half a surrogate pair", "a", `{"n":"\ud83d"}`, "a", `{}`, map[string]any{"n": "�"}, "not valid JSON"},
		{"a key twice", "a", `{"n":1,"n":2}`, "a", `{}`, map[string]any{"n": 2.0}, "not valid JSON"},
		{"against the schema", "a", `{"n": "1"}`, "a", `{"n": "1"}`, map[string]any{"n": "1"}, "/n"},
		{"unknown name", "b", `{"n": 1.50}`, "b", `{"n": 1.50}`, map[string]any{"n": 1.5}, `the tool "b" is not available`},
		{"empty name", "", `{}`, "unnamed_tool", `{}`, map[string]any{}, "the call does not name a tool"},
		{"blank name", " \n", `{}`, "unnamed_tool", `{}`, map[string]any{}, "the call does not name a tool"},
		{"name with a dot", "functions.a", `{}`, "functions_a", `{}`, map[string]any{}, `"functions.a" is not available`},
		{"name that would become a tool's", "c d", `{}`, "c_d_2", `{}`, map[string]any{}, `"c d" is not available`},
		{"name of text", `a {"n":1}`, `x`, "a___n__1", `{}`, `x`, "is not available"},
		{"name of invalid UTF-8", "a\xff", `{}`, "a", `{}`, map[string]any{}, "is not available"},
		{"long name", long, `{}`, long[:64], `{}`, map[string]any{}, "is not available"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			count := 0
			model := &answers{responses: []llm.Response{calls(tt.tool, tt.arguments), says("ok")}}
			rec := new(recorder)
			tools := []llm.Tool{tool("a", &count, result("1")), tool("c_d", &count, result("2"))}
			got, err := newAgent(t, model, &llm.AgentOptions{Tools: tools}).Run(t.Context(), task(nil), rec.emit)
			require.NoError(t, err)
			require.Equal(t, "ok", got.Text)
			require.Zero(t, count)

			failed := rec.only(t, webtrigger.EventToolFailed)
			require.Equal(t, tt.shown, failed["arguments"])
			require.Contains(t, failed["error"], tt.told)
			require.Contains(t, model.last().Content, tt.told)
			remedy := "Call the tool again with one JSON object that meets its schema."
			if tt.tool != "a" {
				remedy = "Call one of these tools, or answer without them: a, c_d."
			}
			require.True(t, strings.HasSuffix(model.last().Content, ". "+remedy), model.last().Content)
			require.True(t, utf8.ValidString(model.last().Content))
			messages := model.requests[1].Messages
			sent := messages[len(messages)-2].ToolCalls
			if tt.sentName == "a" && tt.tool != "a" {
				tt.sentName = "a_2" // a tool has the name
			}
			require.Equal(t, []llm.ToolCall{call("c1", tt.sentName, tt.sent)}, sent)
			require.Equal(t, tt.tool, model.responses[0].ToolCalls[0].Name, "the model's own response must not be changed")
		})
	}
}

func TestRun_noToolsAndACall_asksTheModelToAnswer(t *testing.T) {
	t.Parallel()
	model := &answers{responses: []llm.Response{calls("a", `{}`), says("ok")}}
	_, err := newAgent(t, model, nil).Run(t.Context(), task(nil), new(recorder).emit)
	require.NoError(t, err)
	require.Equal(t, `Error: the tool "a" is not available. There are no tools, so answer without them.`, model.last().Content)
}

func TestRun_goodArguments_keepTheirBytes(t *testing.T) {
	t.Parallel()
	const arguments = `{ "n":12345678901234567890, "f": 1.50, "s":"\u0041<é>" }`
	var got string
	echo := llm.Tool{Name: "a", Call: func(_ context.Context, arguments json.RawMessage) (string, error) {
		got = string(arguments)
		return "", nil
	}}
	model := &answers{responses: []llm.Response{calls("a", arguments), says("ok")}}
	_, err := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{echo}}).Run(t.Context(), task(nil), new(recorder).emit)
	require.NoError(t, err)
	require.Equal(t, arguments, got)
	require.Equal(t, arguments, string(model.requests[1].Messages[1].ToolCalls[0].Arguments))
}

func TestRun_longOrInvalidID_isReplaced(t *testing.T) {
	t.Parallel()
	for _, id := range []string{strings.Repeat("i", 300), "a\xffb"} {
		response := calls("a", `{}`)
		response.ToolCalls[0].ID = id
		model := &answers{responses: []llm.Response{response, says("ok")}}
		_, err := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{tool("a", nil, result("1"))}}).Run(t.Context(), task(nil), new(recorder).emit)
		require.NoError(t, err)
		require.Equal(t, "call_1", model.last().ToolCallID)
	}
}

// An answer that was cut off makes no calls, and one that announces calls without
// any is not an end.
func TestRun_unfinishedAnswer_fails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		finish llm.FinishReason
		want   string
	}{
		{"length", llm.FinishLength, "cut off"},
		{"refusal", llm.FinishRefusal, "declined"},
	} {
		count := 0
		response := calls("a", `{}`)
		response.Finish = tt.finish
		model := &answers{responses: []llm.Response{response}}
		_, err := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{tool("a", &count, result("1"))}}).Run(t.Context(), task(nil), new(recorder).emit)
		require.ErrorContains(t, err, tt.want, tt.name)
		require.Zero(t, count, tt.name)
	}
	for finish, want := range map[llm.FinishReason]string{
		llm.FinishStop: "", "": "", llm.FinishToolCalls: "empty answer", llm.FinishLength: "cut off", llm.FinishRefusal: "declined", "error": "empty answer",
	} {
		model := &answers{responses: []llm.Response{calls("a", `{}`), {Finish: finish}}}
		_, err := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{tool("a", nil, result("1"))}}).Run(t.Context(), task(nil), new(recorder).emit)
		if want == "" {
			require.NoError(t, err, finish)
			continue
		}
		require.ErrorContains(t, err, want, finish)
	}
}
