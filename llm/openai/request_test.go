package openai_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/modeltest"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/openai"
)

// A whole conversation as it goes over the wire.
func TestConversation(t *testing.T) {
	t.Parallel()
	v := serve(t, &openai.Options{Model: "gpt-mine", MaxTokens: 500, ReasoningEffort: "low"}, modeltest.OpenAIText("ok"))
	req := modeltest.WithTools(&llm.Request{Messages: []llm.Message{
		{Role: llm.RoleSystem, Content: "Be brief."},
		{Role: webtrigger.RoleUser, Content: "What <time> is it?"},
		{Role: webtrigger.RoleAssistant, Content: "Let me look.", ToolCalls: []llm.ToolCall{
			{ID: "call_a", Name: "clock", Arguments: json.RawMessage(``)},
			{ID: "call_b", Name: "search", Arguments: json.RawMessage(`{"q":"now"}`)},
		}},
		{Role: webtrigger.RoleTool, Content: "noon", ToolCallID: "call_a"},
		{Role: webtrigger.RoleTool, Content: "", ToolCallID: "call_b"},
		{Role: webtrigger.RoleAssistant}, // without content
		{Role: webtrigger.RoleUser, Content: "So?"},
	}})
	v.Must(t, req)

	sent := v.Requests()[0]
	require.Equal(t, "/v1/chat/completions", sent.Path)
	require.Equal(t, "Bearer "+key, sent.Header.Get("Authorization"))
	require.JSONEq(t, `{
		"model": "gpt-mine", "stream": true, "stream_options": {"include_usage": true},
		"max_completion_tokens": 500, "reasoning_effort": "low",
		"messages": [
			{"role": "system", "content": "Be brief."},
			{"role": "user", "content": "What <time> is it?"},
			{"role": "assistant", "content": "Let me look.", "tool_calls": [
				{"type": "function", "id": "call_a", "function": {"name": "clock", "arguments": "{}"}},
				{"type": "function", "id": "call_b", "function": {"name": "search", "arguments": "{\"q\":\"now\"}"}}]},
			{"role": "tool", "tool_call_id": "call_a", "content": "noon"},
			{"role": "tool", "tool_call_id": "call_b", "content": ""},
			{"role": "user", "content": "So?"}],
		"tools": [
			{"type": "function", "function": {"name": "search", "description": "Searches.",
				"parameters": {"type": "object", "properties": {"q": {"type": "string"}, "a": {"type": "integer"}}}}},
			{"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}]
	}`, sent.Raw)
	require.Contains(t, sent.Raw, `"q":{"type":"string"},"a":`, "the schema's own order: models write in it")
}

// Nothing is asked for that was not set.
func TestSparseRequest(t *testing.T) {
	t.Parallel()
	v := serve(t, nil, modeltest.OpenAIText("ok"))
	v.Must(t, modeltest.Hello())
	require.JSONEq(t, `{"model": "`+openai.DefaultModel+`", "stream": true, "stream_options": {"include_usage": true},
		"messages": [{"role": "user", "content": "hello"}]}`, v.Requests()[0].Raw)
}

func TestUnknownRole(t *testing.T) {
	t.Parallel()
	v := serve(t, nil)
	_, err := v.Ask(t.Context(), &llm.Request{Messages: []llm.Message{{Role: "narrator", Content: "It was night."}}})
	require.EqualError(t, err, `openai: message role "narrator" is not supported`)
	require.Empty(t, v.Requests())
}

func structured(schema string) *llm.Request {
	req := modeltest.Hello()
	req.Output = llm.OutputFormat{Type: webtrigger.OutputJSON}
	if schema != "" {
		req.Output.Schema = json.RawMessage(schema)
	}
	return req
}

func TestStructuredOutput(t *testing.T) {
	t.Parallel()
	asked := func(schema string) any {
		v := serve(t, nil, modeltest.OpenAIText("{}"))
		v.Must(t, structured(schema))
		require.Len(t, v.Requests(), 1)
		return v.Last()["response_format"]
	}
	const closed = `{"type":"object","properties":{"z":{"type":"string"},"a":{"type":["integer","null"]}},"required":["a","z"],"additionalProperties":false}`
	for schema, strict := range map[string]bool{
		closed: true,
		`{"type":"object","properties":{},"required":[],"additionalProperties":false}`:                                                                                     true,
		`{"type":"object","properties":{"l":{"type":"array","items":` + closed + `,"minItems":1}},"required":["l"],"additionalProperties":false}`:                          true,
		`{"type":"object","properties":{"n":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["n"],"additionalProperties":false,"$defs":{"n":` + closed + `}}`: true,
		`{"type":"object"}`: false,
		`{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}`:                                   false, // open
		`{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":true}`:       false,
		`{"type":"object","properties":{"a":{"type":"string"}},"required":[],"additionalProperties":false}`:         false, // optional
		`{"type":"object","properties":{"a":{"type":"string"}},"required":["b"],"additionalProperties":false}`:      false,
		`{"type":"object","properties":{"a":{"type":"object"}},"required":["a"],"additionalProperties":false}`:      false, // open within
		`{"type":"object","properties":{"a":{"oneOf":[]}},"required":["a"],"additionalProperties":false}`:           false, // a word it does not know
		`{"type":"object","properties":{"a":true},"required":["a"],"additionalProperties":false}`:                   false,
		`{"type":"object","properties":{"a":{"items":[1]}},"required":["a"],"additionalProperties":false}`:          false,
		`{"type":"object","properties":{"a":{"required":["b"]}},"required":["a"],"additionalProperties":false}`:     false,
		`{"type":"object","properties":{},"required":[],"additionalProperties":false,"anyOf":[{"type":"null"}]}`:    false,
		`{"type":"object","properties":{},"required":[],"additionalProperties":false,"$defs":{"a":{"not":{}}}}`:     false,
		`{"type":"object","properties":{},"required":[],"additionalProperties":false,"patternProperties":{"x":{}}}`: false,
		nested(11): false,
	} {
		format := asked(schema).(map[string]any)
		require.Equal(t, "json_schema", format["type"])
		inner := format["json_schema"].(map[string]any)
		require.Equal(t, strict, inner["strict"], schema)
		sent, err := json.Marshal(inner["schema"])
		require.NoError(t, err)
		require.JSONEq(t, schema, string(sent))
	}
	for _, schema := range []string{"", `{"type":"array"}`, `{"anyOf":[{"type":"object"}]}`, `{"type":["object","null"]}`, `true`, `{`} {
		require.Nil(t, asked(schema), "the API requires an object: %s", schema)
	}

	v := serve(t, nil, modeltest.OpenAIText("ok"))
	req := modeltest.Hello()
	req.Output = llm.OutputFormat{Type: webtrigger.OutputMarkdown}
	v.Must(t, req)
	require.NotContains(t, v.Last(), "response_format")
}

// nested is a strict schema but for its depth.
func nested(depth int) string {
	schema := `{"type":"string"}`
	for range depth {
		schema = `{"type":"object","properties":{"a":` + schema + `},"required":["a"],"additionalProperties":false}`
	}
	return schema
}

// A server that cannot read the request's form gets one that it can read, at once
// and once.
func TestForms(t *testing.T) {
	t.Parallel()
	const schema = `{"type":"object"}`
	for name, rejection := range map[string]modeltest.Turn{
		"schema rejected":  modeltest.Reject(400, modeltest.OpenAIError("invalid_request_error", "", "response_format", "Invalid schema")),
		"format unknown":   modeltest.Reject(400, modeltest.OpenAIError("invalid_request_error", "", "", "This response_format type is unavailable now")),
		"strict validator": modeltest.Reject(422, `{"detail":"extra fields not permitted"}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := serve(t, nil, rejection, modeltest.OpenAIText(`{}`))
			require.Equal(t, `{}`, v.Must(t, structured(schema)).Text)
			require.Contains(t, v.Requests()[0].Body, "response_format")
			require.NotContains(t, v.Last(), "response_format")
			require.Empty(t, v.Log.String(), "a second form must not be logged as a failure")
		})
	}
	t.Run("rejected for another reason", func(t *testing.T) {
		t.Parallel()
		v := serve(t, nil, modeltest.Reject(400, modeltest.OpenAIError("invalid_request_error", "context_length_exceeded", "messages", "too long")))
		require.EqualError(t, v.Fail(t, structured(schema)), "openai: 400 Bad Request (context_length_exceeded)")
		require.Len(t, v.Requests(), 1)
	})
	t.Run("rejected in any form", func(t *testing.T) {
		t.Parallel()
		v := serve(t, nil, modeltest.Reject(400, `{}`), modeltest.Reject(400, `{"error":{"message":"no","code":"really_not"}}`))
		require.EqualError(t, v.Fail(t, structured(schema)), "openai: 400 Bad Request (really_not)")
		require.Len(t, v.Requests(), 2)
	})
	t.Run("tools without reasoning", func(t *testing.T) {
		t.Parallel()
		v := serve(t, &openai.Options{Model: "gpt-5.5"}, modeltest.OpenAIText("a"), modeltest.OpenAIText("b"), modeltest.OpenAIText("c"))
		v.Must(t, modeltest.WithTools(modeltest.Hello()))
		v.Must(t, modeltest.WithTools(modeltest.Hello()))
		require.Len(t, v.Requests(), 3, "learned")
		require.Equal(t, "none", v.Last()["reasoning_effort"])
		v.Must(t, modeltest.Hello())
		require.NotContains(t, v.Last(), "reasoning_effort", "without tools it may think")
	})
	t.Run("tools with the host's own effort", func(t *testing.T) {
		t.Parallel()
		v := serve(t, &openai.Options{Model: "gpt-5.5", ReasoningEffort: "high"})
		require.EqualError(t, v.Fail(t, modeltest.WithTools(modeltest.Hello())), "openai: 400 Bad Request (invalid_request_error)")
		require.Len(t, v.Requests(), 1)
	})
}

func TestNew(t *testing.T) {
	t.Setenv("OPENAI_API_KEY", "sk-from-the-environment")
	t.Setenv("OPENAI_ORG_ID", "org-from-the-environment")
	_, err := openai.New("", nil)
	require.EqualError(t, err, "openai: an API key is needed")
	for _, bad := range []openai.Options{{MaxTokens: -1}, {BaseURL: "openai.example"}, {BaseURL: "https://u:hunter2@openai.example"}} {
		_, err = openai.New(key, &bad)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2")
	}
	_, err = openai.New("sk-with-newline\n", nil)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "sk-with-newline")

	model, err := openai.New(key, nil)
	require.NoError(t, err)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", model, model, *model), key)

	// A server that asks for no key gets none, and nothing of the environment.
	fake := modeltest.NewOpenAI("", modeltest.OpenAIText("ok"))
	client, stop := modeltest.NewNetwork().Serve(fake)
	defer stop()
	model, err = openai.New("", &openai.Options{BaseURL: "http://ollama.example:11434/v1/", HTTPClient: client})
	require.NoError(t, err)
	_, err = model.Generate(t.Context(), modeltest.Hello(), func(llm.Chunk) error { return nil })
	require.NoError(t, err)
	sent := fake.Requests()[0]
	require.Empty(t, sent.Header.Get("Authorization"))
	require.Equal(t, "/v1/chat/completions", sent.Path)
	for name, values := range sent.Header {
		require.NotContains(t, strings.Join(values, ""), "environment", name)
	}
}

// The default address is the vendor's own.
func TestDefaultBaseURL(t *testing.T) {
	t.Parallel()
	var asked string
	client := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		asked = r.URL.String()
		return &http.Response{StatusCode: 401, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	})}
	model, err := openai.New(key, &openai.Options{HTTPClient: client})
	require.NoError(t, err)
	_, err = model.Generate(t.Context(), modeltest.Hello(), func(llm.Chunk) error { return nil })
	require.EqualError(t, err, "openai: 401 Unauthorized")
	require.Equal(t, "https://api.openai.com/v1/chat/completions", asked)
}

func TestOptions_headerQueryAndBody_reachEachRequest(t *testing.T) {
	t.Parallel()
	v := serve(t, &openai.Options{
		Header: http.Header{"x-team": {"otters"}, "Authorization": {"Token other"}}, Query: url.Values{"api-version": {"2026-01-01"}},
		Body: map[string]json.RawMessage{"temperature": json.RawMessage(`0.5`), "stream_options": json.RawMessage(`null`), "model": json.RawMessage(`"mine"`)},
	})
	failure := v.Fail(t, modeltest.Hello())
	require.EqualError(t, failure, "openai: 401 Unauthorized (invalid_api_key)")
	sent := v.Requests()[0]
	require.InDelta(t, 0.5, sent.Body["temperature"], 0)
	require.NotContains(t, sent.Body, "stream_options")
	require.Equal(t, "mine", sent.Body["model"])
	require.Equal(t, "otters", sent.Header.Get("X-Team"))
	require.Equal(t, []string{"Token other"}, sent.Header.Values("Authorization"))
	require.Equal(t, "api-version=2026-01-01", sent.Query)
}

func TestOptions_secretInHeaderOrQuery_isRedacted(t *testing.T) {
	t.Parallel()
	fake := modeltest.NewOpenAI("", modeltest.Reject(400, `{"error":{"message":"bad hunter2-hunter2 and swordfish-1 and Bearer open-sesame"}}`))
	client, stop := modeltest.NewNetwork().Serve(fake)
	defer stop()
	model, err := openai.New("", &openai.Options{BaseURL: "http://x.example/v1", HTTPClient: client, Retry: &llm.RetryOptions{MaxAttempts: 1},
		Header: http.Header{"api-key": {"hunter2-hunter2"}, "Authorization": {"Bearer open-sesame"}}, Query: url.Values{"key": {"swordfish-1"}}})
	require.NoError(t, err)
	_, err = model.Generate(t.Context(), modeltest.Hello(), func(llm.Chunk) error { return nil })
	failure := new(llm.Error)
	require.ErrorAs(t, err, &failure)
	require.Equal(t, "bad [API key] and [API key] and [API key]", failure.Detail)
}

func TestNew_optionsThatCannotBeSent_returnsError(t *testing.T) {
	t.Parallel()
	for _, bad := range []openai.Options{
		{Header: http.Header{"X-Team": {"a\nb"}}}, {Header: http.Header{"X Team": {"a"}}}, {Header: http.Header{"": {"a"}}},
		{Body: map[string]json.RawMessage{"temperature": json.RawMessage(`{`)}}, {ThinkTags: "sometimes"},
	} {
		_, err := openai.New(key, &bad)
		require.Error(t, err)
	}
}
