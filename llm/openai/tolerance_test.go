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
	"github.com/webtrigger-go/webtrigger/llm/openai"
)

// deltas is a turn of raw deltas, with stop or another reason at the end.
func deltas(reason any, deltas ...string) modeltest.Turn {
	return func(w *modeltest.Wire) {
		for _, d := range deltas {
			w.Event("", `{"choices":[{"index":0,"delta":`+d+`}]}`)
		}
		raw, _ := json.Marshal(reason)
		w.Event("", `{"choices":[{"index":0,"delta":{},"finish_reason":`+string(raw)+`}]}`)
		w.Event("", "[DONE]")
	}
}

func TestThinkTags_eachMode_separatesAsDocumented(t *testing.T) {
	t.Parallel()
	const fails = "openai: the answer ended within the model's thinking"
	for _, c := range []struct {
		mode                    openai.ThinkTags
		model, said, text, fail string
	}{
		{said: "<think>a</think>b", text: "b"},
		{said: " \n<think>a < b</thin</think>\n\n b\n", text: "b\n"},
		{said: "<thinking>a</thinking>b", text: "b"},
		{said: "[THINK]a[/THINK]b", text: "b"},
		{said: "◁think▷ä◁/think▷b", text: "b"},
		{said: "<think></think>\n<think>a</think>b", text: "b"},
		{said: "<think>a</thinking></think>b", text: "b"},
		{said: "Use <think>a</think>.", text: "Use <think>a</think>."},
		{said: "<think>a</think>Use <think>a</think>.", text: "Use <think>a</think>."},
		{said: "<b>bold</b>", text: "<b>bold</b>"},
		{said: "<thi", text: "<thi"},
		{said: "  ", text: "  "},
		{said: "a</think>b", text: "a</think>b"},
		{said: "<think>a", fail: fails},
		{said: "<think>a</think>", text: ""},
		{model: "deepseek-r1:8b", said: "a</think>\nb", text: "b"},
		{model: "qwen3-4b-thinking-2507", said: "a</think>b", text: "b"},
		{model: "qwq", said: "<think>a</think>b", text: "b"},
		{model: "deepseek-r1", said: "no thought at all", text: "no thought at all"},
		{mode: openai.ThinkTagsOpened, said: "a</think>b", text: "b"},
		{mode: openai.ThinkTagsOpened, said: "a", fail: fails},
		{mode: openai.ThinkTagsKeep, said: "<think>a</think>b", text: "<think>a</think>b"},
	} {
		for size := 1; size <= len(c.said); size += 3 {
			var pieces []string
			for rest := c.said; rest != ""; {
				n := min(size, len(rest))
				for n < len(rest) && rest[n]&0xC0 == 0x80 { // between characters, as JSON demands
					n++
				}
				raw, _ := json.Marshal(map[string]string{"content": rest[:n]})
				pieces, rest = append(pieces, string(raw)), rest[n:]
			}
			v := serve(t, &openai.Options{ThinkTags: c.mode, Model: c.model}, deltas("stop", pieces...))
			if c.fail != "" {
				failure := v.Fail(t, modeltest.Hello())
				require.EqualError(t, failure, c.fail, c.said)
				require.True(t, failure.Retryable)
				continue
			}
			require.Equal(t, c.text, v.Must(t, modeltest.Hello()).Text, "%s %q in pieces of %d", c.model, c.said, size)
		}
	}
}

func TestThinkTags_reasoningAnnounced_tagsAreText(t *testing.T) {
	t.Parallel()
	for _, announced := range []string{`{"reasoning_content":"hm"}`, `{"reasoning":"hm"}`, `{"reasoning_details":[{"text":"hm"}]}`, `{"content":[{"type":"thinking","thinking":"hm"}]}`} {
		v := serve(t, &openai.Options{Model: "some-r1"}, deltas("stop", announced, `{"content":"<think>a</think>b"}`))
		require.Equal(t, "<think>a</think>b", v.Must(t, modeltest.Hello()).Text, announced)
	}
}

func TestThinkTags_toolCallWithinThinking_isAnAnswer(t *testing.T) {
	t.Parallel()
	v := serve(t, nil, deltas("tool_calls", `{"content":"<think>I search"}`, `{"tool_calls":[{"index":0,"id":"a","function":{"name":"search","arguments":"{}"}}]}`), modeltest.OpenAIText("ok"))
	req := modeltest.WithTools(modeltest.Hello())
	got := v.Must(t, req)
	require.Empty(t, got.Text)
	require.Len(t, got.ToolCalls, 1)
	req.Messages = append(req.Messages, llm.Message{Role: webtrigger.RoleAssistant, ToolCalls: got.ToolCalls, Native: got.Native},
		llm.Message{Role: webtrigger.RoleTool, ToolCallID: got.ToolCalls[0].ID, Content: "found"})
	v.Must(t, req)
	require.Equal(t, "<think>I search", v.Last()["messages"].([]any)[1].(map[string]any)["content"], "the model sees its thinking as it wrote it")
}

func TestContent_eachType_isTextOrFails(t *testing.T) {
	t.Parallel()
	for content, text := range map[string]string{
		`"a"`: "a", `null`: "", `[]`: "", `["a","b"]`: "ab", `{"type":"text","text":"a"}`: "a", `[{"text":"a"}]`: "a",
		`[{"type":"text","text":"a"},{"type":"output_text","text":"b"},null,{"type":"text","text":null}]`:                          "ab",
		`[{"type":"thinking","thinking":[{"type":"text","text":"x"}]},{"type":"reasoning","text":"y"},{"type":"text","text":"a"}]`: "a",
		`[{"type":"text","text":"a"},{"type":"reference","reference_ids":[1]}]`:                                                    "a",
	} {
		v := serve(t, nil, deltas("stop", `{"content":`+content+`}`))
		require.Equal(t, text, v.Must(t, modeltest.Hello()).Text, content)
	}
	for content, kind := range map[string]string{
		`[{"type":"image_url","image_url":{"url":"x"}}]`: " (image_url)", `7`: " (number)", `true`: " (boolean)", `[[1]]`: " (array)",
		`{"a":1}`: " (object)", `[{"type":"text","text":{"value":"a"}}]`: " (text)", `[{"type":"<b>"}]`: "",
	} {
		failure := serve(t, nil, deltas("stop", `{"content":`+content+`}`)).Fail(t, modeltest.Hello())
		require.EqualError(t, failure, "openai: the answer has content of an unsupported type"+kind)
		require.False(t, failure.Retryable)
	}
	v := serve(t, nil, deltas("stop", `{"content":[{"type":"refusal","refusal":"No."}]}`))
	require.Equal(t, llm.FinishRefusal, v.Must(t, modeltest.Hello()).Finish)
}

func TestToolCalls_piecesOfCompatibleServers_becomeTheirCalls(t *testing.T) {
	t.Parallel()
	call := func(index, id, name, arguments string) string {
		members := []string{`"type":"function"`}
		if index != "" {
			members = append(members, `"index":`+index)
		}
		if id != "" {
			members = append(members, `"id":"`+id+`"`)
		}
		function := `"arguments":` + arguments
		if name != "" {
			function += `,"name":"` + name + `"`
		}
		return "{" + strings.Join(append(members, `"function":{`+function+`}`), ",") + "}"
	}
	one := func(pieces ...string) (all []string) {
		for _, p := range pieces {
			all = append(all, `{"tool_calls":[`+p+`]}`)
		}
		return all
	}
	together := func(pieces ...string) []string { return []string{`{"tool_calls":[` + strings.Join(pieces, ",") + `]}`} }
	const a, b = `"{\"q\":1}"`, `"{\"q\":2}"`
	for name, c := range map[string]struct {
		deltas []string
		want   string
	}{
		"one index, no ids":                    {one(call("0", "", "search", a), call("0", "", "search", b)), `search{"q":1} search{"q":2}`},
		"one index, equal ids":                 {one(call("0", "c", "search", a), call("0", "c", "search", b)), `search{"q":1} search{"q":2}`},
		"no index, no ids, together":           {together(call("", "", "search", a), call("", "", "search", b)), `search{"q":1} search{"q":2}`},
		"null index":                           {one(call("null", "c", "search", a), call("null", "d", "search", b)), `search{"q":1} search{"q":2}`},
		"no arguments, together":               {together(call("0", "", "clock", `""`), call("0", "", "clock", `""`)), `clock clock`},
		"no arguments, other names":            {one(call("0", "", "clock", `""`), call("0", "", "search", `""`)), `clock search`},
		"one index, in pieces":                 {one(call("0", "c", "search", `"{\"q\":"`), call("0", "", "", `"1}"`), call("0", "d", "search", `"{\"q\":"`), call("0", "", "", `"2}"`)), `search{"q":1} search{"q":2}`},
		"no index, in pieces":                  {one(call("", "", "search", `""`), call("", "", "", a), call("", "", "search", `""`), call("", "", "", b)), `search{"q":1} search{"q":2}`},
		"one index, in turn, by id":            {one(call("0", "c", "search", `"{\"q\":"`), call("0", "d", "clock", `"{"`), call("0", "c", "", `"1}"`), call("0", "d", "", `"}"`)), `search{"q":1} clock{}`},
		"named pieces":                         {one(call("0", "c", "search", `"{\"q\":"`), call("0", "c", "search", `"1}"`)), `search{"q":1}`},
		"an id for each piece":                 {one(call("0", "c", "search", `"{\"q\":"`), call("0", "d", "search", `"1}"`)), `search{"q":1}`},
		"a brace within a text":                {one(call("0", "", "search", `"{\"q\":\"}"`), call("0", "", "search", `"\\\"}\"}"`)), `search{"q":"}\"}"}`},
		"arguments as an object":               {one(call("0", "c", "search", `{"q":1}`)), `search{"q":1}`},
		"arguments null":                       {one(call("0", "c", "clock", `null`)), `clock`},
		"a place held by {}":                   {one(call("0", "c", "search", `"{}"`), call("0", "", "", a)), `search{"q":1}`},
		"the whole call again at the end":      {one(call("0", "c", "search", `"{\"q\":"`), call("0", "", "", `"1}"`), call("0", "c", "search", a)), `search{"q":1}`},
		"its name again at the end":            {one(call("0", "c", "search", a), call("0", "c", "search", `""`)), `search{"q":1}`},
		"an index as a text":                   {one(call(`"0"`, "c", "search", a), call(`"1"`, "c", "search", a)), `search{"q":1} search{"q":1}`},
		"the API before tools":                 {[]string{`{"function_call":{"name":"search","arguments":"{\"q\""}}`, `{"function_call":{"arguments":":1}"}}`}, `search{"q":1}`},
		"name and arguments without function":  {[]string{`{"tool_calls":[{"name":"search","arguments":{"q":1}}]}`}, `search{"q":1}`},
		"an element that is not a call at all": {[]string{`{"tool_calls":[` + call("0", "c", "search", a) + `,7]}`}, `search{"q":1}`},
	} {
		for _, reason := range []string{"stop", "tool_calls", "STOP", "function_call"} {
			got := serve(t, nil, deltas(reason, c.deltas...)).Must(t, modeltest.WithTools(modeltest.Hello()))
			var calls []string
			for _, c := range got.ToolCalls {
				calls = append(calls, c.Name+string(c.Arguments))
			}
			require.Equal(t, c.want, strings.Join(calls, " "), name)
			require.Equal(t, llm.FinishToolCalls, got.Finish, name)
		}
	}
}

func TestFinish_severalReasons_gravestCounts(t *testing.T) {
	t.Parallel()
	two := func(first, second string) modeltest.Turn {
		return func(w *modeltest.Wire) {
			w.Event("", `{"choices":[{"delta":{"content":"a"},`+first+`}]}`)
			w.Event("", `{"choices":[{"delta":{},`+second+`}]}`)
			w.Event("", "[DONE]")
		}
	}
	for _, c := range []struct{ first, second, want string }{
		{`"finish_reason":"stop"`, `"finish_reason":null`, "stop"},
		{`"finish_reason":"length"`, `"finish_reason":"stop"`, "length"},
		{`"finish_reason":"stop","native_finish_reason":"MAX_TOKENS"`, `"finish_reason":""`, "length"},
		{`"finish_reason":"stop","native_finish_reason":"end_turn"`, `"finish_reason":null`, "stop"},
		{`"finish_reason":"stop","native_finish_reason":"bored"`, `"finish_reason":null`, "stop"},
		{`"finish_reason":{"type":"length","length":9}`, `"finish_reason":null`, "length"},
	} {
		got := serve(t, nil, two(c.first, c.second)).Must(t, modeltest.Hello())
		require.Equal(t, c.want, string(got.Finish), "%s, %s", c.first, c.second)
	}
	for _, first := range []string{`"finish_reason":"error"`, `"finish_reason":"stop","native_finish_reason":"MALFORMED_FUNCTION_CALL"`} {
		require.ErrorContains(t, serve(t, nil, two(first, `"finish_reason":"stop"`)).Fail(t, modeltest.Hello()), "the model stopped early")
	}
	failure := serve(t, nil, deltas("tool_calls", `{"content":"Let me look."}`)).Fail(t, modeltest.Hello())
	require.ErrorContains(t, failure, "the model stopped for a tool call that is missing")
}

func TestMissingFinish_done_completesText(t *testing.T) {
	t.Parallel()
	v := serve(t, &openai.Options{MissingFinish: true}, deltas(nil, `{"content":"ok"}`), deltas(nil, `{"content":""}`),
		func(w *modeltest.Wire) { w.Event("", `{"choices":[{"delta":{"content":"ok"}}]}`) })
	require.Equal(t, "ok", v.Must(t, modeltest.Hello()).Text)
	require.Contains(t, v.Log.String(), "unknown finish reason accepted")
	for range 2 { // without a text, and without [DONE]
		require.ErrorContains(t, v.Fail(t, modeltest.Hello()), "the stream ended before the answer was complete")
	}
}

func TestNative_fragments_mergeByIndex(t *testing.T) {
	t.Parallel()
	v := serve(t, nil, deltas("tool_calls",
		`{"reasoning_details":[{"type":"reasoning.text","index":0,"text":"I "},{"type":"reasoning.encrypted","index":1,"id":"x","data":"AB"}]}`,
		`{"reasoning_details":[{"type":"reasoning.text","index":0,"text":"search.","signature":null}]}`,
		`{"reasoning_details":[{"type":"reasoning.text","index":0,"signature":"c2ln"},{"type":"reasoning.encrypted","index":1,"id":"y","data":"EF"},{"type":"reasoning.encrypted","index":1,"id":"x","data":"CD"}]}`,
		`{"reasoning":"I search.","tool_calls":[{"index":0,"id":"a","extra_content":{"google":{"thought_signature":"s"}},"function":{"name":"search","arguments":"{}","note":"n"}}]}`,
	), modeltest.OpenAIText("ok"), modeltest.OpenAIText("ok"))
	req := modeltest.WithTools(modeltest.Hello())
	got := v.Must(t, req)
	req.Messages = append(req.Messages, llm.Message{Role: webtrigger.RoleAssistant, ToolCalls: got.ToolCalls, Native: got.Native},
		llm.Message{Role: webtrigger.RoleTool, ToolCallID: "a", Content: "found"})
	v.Must(t, req)
	sent, err := json.Marshal(v.Last()["messages"].([]any)[1])
	require.NoError(t, err)
	require.JSONEq(t, `{"role":"assistant","content":null,"reasoning_details":[
		{"type":"reasoning.text","index":0,"text":"I search.","signature":"c2ln"},
		{"type":"reasoning.encrypted","index":1,"id":"x","data":"ABCD"},
		{"type":"reasoning.encrypted","index":1,"id":"y","data":"EF"}],
		"tool_calls":[{"id":"a","type":"function","extra_content":{"google":{"thought_signature":"s"}},"function":{"name":"search","arguments":"{}","note":"n"}}]}`, string(sent))

	other := serve(t, &openai.Options{Model: "another"}, modeltest.OpenAIText("ok"))
	other.Must(t, req)
	require.NotContains(t, fmt.Sprint(other.Last()), "c2ln", "another model does not get it")
}

func TestForms_fieldRejected_isOmittedInLaterRequests(t *testing.T) {
	t.Parallel()
	reject := func(text string) modeltest.Turn {
		return modeltest.Reject(422, `{"detail":[{"type":"extra_forbidden","loc":["body","`+text+`"]}]}`)
	}
	text := modeltest.OpenAIText("ok")
	v := serve(t, &openai.Options{MaxTokens: 9}, reject("max_completion_tokens"), reject("stream_options"), text, text)
	v.Must(t, modeltest.Hello())
	v.Must(t, modeltest.Hello())
	require.Len(t, v.Requests(), 4)
	require.NotContains(t, v.Last(), "stream_options")
	require.NotContains(t, v.Last(), "max_completion_tokens")
	require.InDelta(t, 9, v.Last()["max_tokens"], 0)

	v = serve(t, nil, deltas("tool_calls", `{"reasoning_content":"hm","tool_calls":[{"id":"a","function":{"name":"search","arguments":"{}"}}]}`),
		modeltest.Reject(400, `{"error":{"message":"'messages.1': property 'reasoning_content' is unsupported"}}`), text)
	req := modeltest.WithTools(modeltest.Hello())
	got := v.Must(t, req)
	req.Messages = append(req.Messages, llm.Message{Role: webtrigger.RoleAssistant, ToolCalls: got.ToolCalls, Native: got.Native},
		llm.Message{Role: webtrigger.RoleTool, ToolCallID: "a", Content: "found"})
	v.Must(t, req)
	require.NotContains(t, fmt.Sprint(v.Last()), "reasoning_content")
}

// A model that thinks for long sends its thoughts in very many pieces, each with the same
// members around it.
func TestNative_manyPieces_countAsTheirText(t *testing.T) {
	t.Parallel()
	const pieces = 20_000
	list := strings.TrimSuffix(strings.Repeat(`{"type":"reasoning.text","index":0,"text":"Hm. ","format":"`+strings.Repeat("f", 200)+`"},`, pieces/40), ",")
	thoughts := slices.Repeat([]string{`{"reasoning_details":[` + list + `]}`}, 40)
	v := serve(t, nil, deltas("tool_calls", append(thoughts, `{"tool_calls":[{"index":0,"id":"a","function":{"name":"search","arguments":"{}"}}]}`)...))
	got := v.Must(t, modeltest.WithTools(modeltest.Hello()))
	require.Equal(t, pieces, strings.Count(string(got.Native), "Hm. "))
	require.Less(t, len(got.Native), 5*pieces)
}

func TestNative_interleavedPieces_continueTheirEntries(t *testing.T) {
	t.Parallel()
	var thoughts []string
	for round := range 2 {
		for i := range 65 - round { // the first entry is too far back in the second round
			thoughts = append(thoughts, fmt.Sprintf(`{"reasoning_details":[{"index":%d,"text":"t%d"}]}`, i+round, round))
		}
	}
	thoughts = append(thoughts, `{"reasoning_details":[{"index":0,"text":"late"}]}`)
	v := serve(t, nil, deltas("tool_calls", append(thoughts, `{"tool_calls":[{"index":0,"id":"a","function":{"name":"search","arguments":"{}"}}]}`)...))
	got := string(v.Must(t, modeltest.WithTools(modeltest.Hello())).Native)
	require.Equal(t, 64, strings.Count(got, "t0t1"))
	require.Contains(t, got, `"text":"t0"`)
	require.Contains(t, got, `"text":"late"`)
}

// LiteLLM writes a signature into the id of a call. The agent replaces an id that is so
// long or that has a NUL.
func TestToolCalls_idThatTheAgentReplaces_isReplacedBefore(t *testing.T) {
	t.Parallel()
	for name, id := range map[string]string{"long": "call_" + strings.Repeat("x", 300), "NUL": `call_\u0000`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := serve(t, nil, deltas("tool_calls", `{"tool_calls":[{"index":0,"id":"`+id+`","extra_content":{"google":{"thought_signature":"s"}},"function":{"name":"search","arguments":"{}"}}]}`))
			got := v.Must(t, modeltest.WithTools(modeltest.Hello()))
			require.Regexp(t, `^[A-Z0-9]{9}$`, got.ToolCalls[0].ID)
			require.Contains(t, string(got.Native), got.ToolCalls[0].ID, "what is kept for the call must be found by its id")
		})
	}
}
