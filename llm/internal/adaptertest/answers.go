package adaptertest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/modeltest"
	"github.com/webtrigger-go/webtrigger/llm"
)

func text(t *testing.T, d Dialect) {
	v := d.serve(t, d.turn(Answer{Text: []string{"Hel", "lo, <b>", "Wörld 🌍"}}))
	got := v.Must(t, modeltest.Hello())
	require.Equal(t, "Hello, <b>Wörld 🌍", got.Text)
	require.Equal(t, llm.FinishStop, got.Finish)
	require.NotEmpty(t, got.Response.Model)
	require.Nil(t, got.Native, "nothing follows that would need it")
	if !d.Document {
		require.Equal(t, []string{"Hel", "lo, <b>", "Wörld 🌍"}, got.Pieces)
	}
	require.Equal(t, webtrigger.Usage{InputTokens: 11, OutputTokens: 7}, got.Usage)
}

// answered is a request with the answer to it and the results of its calls.
func answered(req *llm.Request, got modeltest.Received) *llm.Request {
	next := *req
	next.Messages = append(next.Messages[:len(next.Messages):len(next.Messages)],
		llm.Message{Role: webtrigger.RoleAssistant, Content: got.Text, ToolCalls: got.ToolCalls, Native: got.Native})
	for i, c := range got.ToolCalls {
		next.Messages = append(next.Messages, llm.Message{Role: webtrigger.RoleTool, ToolCallID: c.ID, Content: fmt.Sprintf("result %d", i)})
	}
	return &next
}

// conversation makes two turns with calls. The fake checks that the history is
// complete: ids, results, and the reasoning that the service requires.
func conversation(t *testing.T, d Dialect) {
	first := Answer{Thinking: []string{"I should ", "search."}, Text: []string{"Let me look."},
		Calls: []Call{{"search", `{"q": "a {\"b\"}"}`}, {"search", `{"q": "c"}`}, {"clock", `{}`}}}
	second := Answer{Thinking: []string{"Once more."}, Calls: []Call{{"search", `{"q": "c"}`}}}
	v := d.serve(t, d.turn(first), d.turn(second), d.turn(Answer{Text: []string{"Done."}}))
	req := modeltest.WithTools(modeltest.Hello())

	got := v.Must(t, req)
	require.Equal(t, "Let me look.", got.Text)
	require.Equal(t, llm.FinishToolCalls, got.Finish)
	require.Equal(t, []string{`search {"q":"a {\"b\"}"}`, `search {"q":"c"}`, `clock {}`}, described(t, got.ToolCalls))
	req = answered(req, got)

	got = v.Must(t, req)
	require.Equal(t, []string{`search {"q":"c"}`}, described(t, got.ToolCalls))
	ids := make(map[string]bool)
	for _, m := range answered(req, got).Messages {
		for _, c := range m.ToolCalls {
			require.False(t, c.ID == "" || ids[c.ID], "the id %q must be unique", c.ID)
			ids[c.ID] = true
		}
	}
	req = answered(req, got)

	got = v.Must(t, req)
	require.Equal(t, "Done.", got.Text)
	require.Equal(t, llm.FinishStop, got.Finish)
	require.Len(t, v.Requests(), 3)
	require.NotContains(t, v.Log.String(), "model call failed")
}

func described(t *testing.T, calls []llm.ToolCall) (all []string) {
	t.Helper()
	for _, c := range calls {
		var arguments any
		require.NoError(t, json.Unmarshal(c.Arguments, &arguments), "arguments %s", c.Arguments)
		text, err := json.Marshal(arguments)
		require.NoError(t, err)
		all = append(all, c.Name+" "+string(text))
	}
	return all
}

// mistakes sends calls back that no service takes as the model wrote them.
func mistakes(t *testing.T, d Dialect) {
	calls := []Call{{"search", `{"q": "say "no""}`}, {"search", `[1]`}, {"look it up!", `{"q":1}`}, {"", `{}`}}
	v := d.serve(t, d.turn(Answer{Calls: calls}), d.turn(Answer{Text: []string{"ok"}}))
	req := modeltest.WithTools(modeltest.Hello())
	got := v.Must(t, req)
	require.Len(t, got.ToolCalls, len(calls))
	require.Equal(t, `{"q": "say "no""}`, string(got.ToolCalls[0].Arguments), "the agent checks arguments and reports a fault to the model")
	require.Equal(t, "look it up!", got.ToolCalls[2].Name)
	require.Equal(t, "ok", v.Must(t, answered(req, got)).Text)
	require.Len(t, v.Requests(), 2)
}

// oddTools offers tools that services reject as they are.
func oddTools(t *testing.T, d Dialect) {
	req := modeltest.Hello()
	for i, schema := range []string{
		`{"type":"object"}`, `{"type":"object","properties":null}`, `{"properties":{"a":{"type":"array"}}}`,
		`{"anyOf":[{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]},{"type":"object","properties":{"b":{"type":"string"}}}]}`,
		`{"type":"object","properties":{"$top":{"type":"integer"}}}`,
	} {
		req.Tools = append(req.Tools, llm.ToolSpec{Name: fmt.Sprintf("tool.%d", i), Description: strings.Repeat("long ", 500), Parameters: json.RawMessage(schema)})
	}
	for i := range 200 {
		req.Tools = append(req.Tools, llm.ToolSpec{Name: fmt.Sprintf("many_%d", i), Parameters: json.RawMessage(`{"type":"object"}`)})
	}
	v := d.serve(t, func(w *modeltest.Wire) {
		d.Play(w, Answer{Calls: []Call{{d.offered(w, 4), `{"` + d.property(w, 4) + `":3}`}}})
	}, d.turn(Answer{Text: []string{"ok"}}))
	got := v.Must(t, req)
	require.Equal(t, []string{`tool.4 {"$top":3}`}, described(t, got.ToolCalls))
	require.Equal(t, "ok", v.Must(t, answered(req, got)).Text)
	offered, _ := v.Last()["tools"].([]any)
	require.Equal(t, len(req.Tools)-len(offered), strings.Count(v.Log.String(), "tool skipped"), "each skipped tool is logged once")
}

// tool is the tool at a place of the request.
func (d Dialect) tool(w *modeltest.Wire, at int) map[string]any {
	list, _ := w.Body()["tools"].([]any)
	tool, _ := list[at].(map[string]any)
	if function, ok := tool["function"].(map[string]any); ok {
		return function
	}
	return tool
}

func (d Dialect) offered(w *modeltest.Wire, at int) string {
	name, _ := d.tool(w, at)["name"].(string)
	return name
}

func (d Dialect) property(w *modeltest.Wire, at int) string {
	tool := d.tool(w, at)
	schema, ok := tool["parameters"].(map[string]any)
	if !ok {
		schema, _ = tool["input_schema"].(map[string]any)
	}
	properties, _ := schema["properties"].(map[string]any)
	for name := range properties {
		return name
	}
	return ""
}

func thinking(t *testing.T, d Dialect) {
	v := d.serve(t, d.turn(Answer{Thinking: []string{"Let me ", "think about it."}, Text: []string{"Fo", "ur, not <think>five</think>."}}))
	got := v.Must(t, modeltest.Hello())
	require.Equal(t, "Four, not <think>five</think>.", got.Text, "thinking is not the answer, and a tag within the text is text")
	require.Equal(t, llm.FinishStop, got.Finish)
}

// usual are the words that several services share.
var usual = map[End][]string{
	Length:  {"length", "max_tokens", "MAX_TOKENS", "model_length", "model_context_window_exceeded"},
	Refusal: {"content_filter", "safety", "SAFETY", "refusal", "RECITATION", "PROHIBITED_CONTENT", "sensitive"},
	Broken: {"error", "ERROR", "insufficient_system_resource", "abort", "aborted", "cancelled", "CANCELED", "timeout", "network_error",
		"function_call_filter: MALFORMED_FUNCTION_CALL", "malformed_function_call", "UNEXPECTED_TOOL_CALL", "OTHER"},
}

// finishReasons plays each word with a text and without.
func finishReasons(t *testing.T, d Dialect) {
	half := []string{"The first step is to"}
	for _, reasons := range []map[End][]string{usual, d.Reasons} {
		for end, words := range reasons {
			for _, word := range words {
				v := d.serve(t, d.turn(Answer{Text: half, Reason: word}), d.turn(Answer{Reason: word}))
				if end == Broken {
					shown, bare := v.Fail(t, modeltest.Hello()), v.Fail(t, modeltest.Hello())
					require.Contains(t, shown.Detail, word)
					require.Contains(t, bare.Error(), "the model stopped early", word)
					require.True(t, bare.Retryable, word)
					continue
				}
				got, bare := v.Must(t, modeltest.Hello()), v.Must(t, modeltest.Hello())
				require.Equal(t, map[End]llm.FinishReason{Length: llm.FinishLength, Refusal: llm.FinishRefusal}[end], got.Finish, word)
				require.Equal(t, got.Finish, bare.Finish, word)
				require.Equal(t, half[0], got.Text, word)
			}
		}
	}
	v := d.serve(t, d.turn(Answer{Text: []string{"whole"}, Reason: "bored"}), d.turn(Answer{Reason: "bored"}),
		d.turn(Answer{Calls: []Call{{"search", `{"q":`}}, Reason: "bored"}))
	got := v.Must(t, modeltest.Hello())
	require.Equal(t, llm.FinishStop, got.Finish)
	require.Equal(t, 1, strings.Count(v.Log.String(), "unknown finish reason accepted"))
	require.Contains(t, v.Log.String(), `"finish_reason":"bored"`)
	for range 2 {
		failure := v.Fail(t, modeltest.WithTools(modeltest.Hello()))
		require.ErrorContains(t, failure, "the answer ended for an unknown reason (bored)")
		require.True(t, failure.Retryable)
	}
}

// noReason plays answers that end without a reason: in a stream, they are cut off.
func noReason(t *testing.T, d Dialect) {
	v := d.serve(t, d.turn(Answer{Text: []string{"whole?"}, NoReason: true}), d.turn(Answer{NoReason: true}))
	if d.Document {
		require.Equal(t, "whole?", v.Must(t, modeltest.Hello()).Text)
	} else {
		require.ErrorContains(t, v.Fail(t, modeltest.Hello()), "the stream ended before the answer was complete")
	}
	require.True(t, v.Fail(t, modeltest.Hello()).Retryable || d.Document)
}

// structured asks for JSON of a schema, which the fake checks.
func structured(t *testing.T, d Dialect) {
	for _, schema := range []string{
		`{"type":"object","properties":{"a":{"type":"string","minLength":1}},"required":["a"]}`,
		`{"anyOf":[{"type":"array","items":{"enum":[1,null]}},{"$ref":"#/$defs/x"}],"$defs":{"x":{"type":"null"}}}`,
		`{"oneOf":[{"type":"object","properties":{"\u0000":{"const":"\ud800"}}}]}`, `true`, `[]`,
	} {
		v := d.serve(t, d.turn(Answer{Text: []string{"{}"}}))
		req := modeltest.Hello()
		req.Output = llm.OutputFormat{Type: webtrigger.OutputJSON, Schema: json.RawMessage(schema)}
		require.Equal(t, "{}", v.Must(t, req).Text, schema)
	}
}

// atOnce plays pieces that arrive while the model still writes.
func atOnce(t *testing.T, d Dialect) {
	if d.Document {
		return
	}
	heard := make(chan struct{})
	v := d.serve(t, d.turn(Answer{Text: []string{"first"}, Then: func(w *modeltest.Wire) {
		select { // continues when the piece has arrived
		case <-heard:
			w.Cut()
		case <-w.Disconnected():
		}
	}}))
	_, err := v.Model.Generate(t.Context(), modeltest.Hello(), func(c llm.Chunk) error {
		require.Equal(t, "first", c.Text)
		close(heard)
		return nil
	})
	require.ErrorContains(t, err, "the connection was cut")
}
