package llm_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger/llm"
)

func TestNewTool(t *testing.T) {
	t.Parallel()
	type arguments struct {
		City  string   `json:"city" jsonschema:"where"`
		Days  int      `json:"days,omitempty"`
		Units []string `json:"units,omitempty"`
	}
	type forecast struct {
		City string `json:"city"`
		Note string `json:"note"`
	}
	got, err := llm.NewTool("weather", "Returns the weather.", func(_ context.Context, a arguments) (forecast, error) {
		if a.Days > 7 {
			return forecast{}, errors.New("too far ahead")
		}
		return forecast{a.City, "<sunny> & warm"}, nil
	})
	require.NoError(t, err)
	require.Equal(t, "weather", got.Name)
	require.Equal(t, "Returns the weather.", got.Description)

	var schema struct {
		Type       string                    `json:"type"`
		Required   []string                  `json:"required"`
		Properties map[string]map[string]any `json:"properties"`
	}
	require.NoError(t, json.Unmarshal(got.Parameters, &schema))
	require.Equal(t, "object", schema.Type)
	require.Equal(t, []string{"city"}, schema.Required)
	require.Equal(t, "string", schema.Properties["city"]["type"])
	require.Equal(t, "where", schema.Properties["city"]["description"])
	require.Equal(t, "integer", schema.Properties["days"]["type"])
	require.Contains(t, schema.Properties, "units")

	check, err := llm.CompileSchema(got.Parameters)
	require.NoError(t, err)
	require.NoError(t, check(json.RawMessage(`{"city":"Graz","days":2}`)))
	require.ErrorContains(t, check(json.RawMessage(`{"city":7}`)), "/city")
	require.ErrorContains(t, check(json.RawMessage(`{}`)), "city")

	said, err := got.Call(t.Context(), json.RawMessage(`{"city":"Graz"}`))
	require.NoError(t, err)
	require.Equal(t, `{"city":"Graz","note":"<sunny> & warm"}`, said)
	_, err = got.Call(t.Context(), json.RawMessage(`{"city":"Graz","days":8}`))
	require.EqualError(t, err, "too far ahead")
	_, err = got.Call(t.Context(), json.RawMessage(`{"city":`))
	require.ErrorContains(t, err, "read arguments")
}

// OpenAI's API rejects an object schema without the keyword.
func TestNewTool_noArguments_hasProperties(t *testing.T) {
	t.Parallel()
	got, err := llm.NewTool("now", "", func(context.Context, struct{}) (string, error) { return "noon", nil })
	require.NoError(t, err)
	require.JSONEq(t, `{"type":"object","properties":{},"additionalProperties":false}`, string(got.Parameters))
	for _, parameters := range []string{``, ` `, `null`} {
		agent := newAgent(t, new(answers), &llm.AgentOptions{Tools: []llm.Tool{{Name: "now", Parameters: json.RawMessage(parameters), Call: got.Call}}})
		require.JSONEq(t, `{"type":"object","properties":{}}`, string(agent.Tools()[0].Parameters))
	}
}

func TestNewToolOfAMap(t *testing.T) {
	t.Parallel()
	got, err := llm.NewTool("echo", "", func(_ context.Context, a map[string]string) (string, error) { return a["x"], nil })
	require.NoError(t, err)
	said, err := got.Call(t.Context(), json.RawMessage(`{"x":"as it is \u003c"}`))
	require.NoError(t, err)
	require.Equal(t, "as it is <", said)
}

func TestNewTool_invalidArguments_returnsError(t *testing.T) {
	t.Parallel()
	_, err := llm.NewTool[struct{}, string]("a", "", nil)
	require.ErrorContains(t, err, "function must not be nil")
	_, err = llm.NewTool("a", "", func(context.Context, string) (string, error) { return "", nil })
	require.ErrorContains(t, err, "struct or a map")
	_, err = llm.NewTool("a", "", func(context.Context, []int) (string, error) { return "", nil })
	require.ErrorContains(t, err, "struct or a map")
	_, err = llm.NewTool("a", "", func(context.Context, struct{ C chan int }) (string, error) { return "", nil })
	require.ErrorContains(t, err, "derive schema")
}

func TestResultThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	got, err := llm.NewTool("a", "", func(context.Context, struct{}) (any, error) { return func() {}, nil })
	require.NoError(t, err)
	_, err = got.Call(t.Context(), json.RawMessage(`{}`))
	require.ErrorContains(t, err, "write result")
}
