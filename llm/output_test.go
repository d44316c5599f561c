package llm_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

const totalSchema = `{"type":"object","properties":{"total":{"type":"integer"}},"required":["total"],"additionalProperties":false}`

// jsonTask is a task that asks for JSON; schema "" is any.
func jsonTask(schema string) *webtrigger.TaskDefinition {
	def := &webtrigger.TaskDefinition{Instructions: "Count.", OutputType: webtrigger.OutputJSON}
	if schema != "" {
		def.OutputSchema = json.RawMessage(schema)
	}
	return def
}

func TestJSONAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, schema, said, want string }{
		{"object", totalSchema, `{"total":3}`, `{"total":3}`},
		{"white space around", totalSchema, "\n {\"total\": 3}\n\n", `{"total": 3}`},
		{"fenced", totalSchema, "```json\n{\"total\":3}\n```", `{"total":3}`},
		{"fenced without a word", totalSchema, "```\n{\"total\":3}\n```\n", `{"total":3}`},
		{"fenced, CRLF", totalSchema, "```JSON\r\n{\"total\":3}\r\n```", `{"total":3}`},
		{"a fence within", "", `"` + "```" + `"`, `"` + "```" + `"`},
		{"any object", "", `{"a":[1e400,-0]}`, `{"a":[1e400,-0]}`},
		{"a string", "", `"done"`, `"done"`},
		{"null", "", `null`, `null`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			model := &answers{responses: []llm.Response{says(tt.said)}}
			rec := new(recorder)
			got, err := newAgent(t, model, nil).Run(t.Context(), task(jsonTask(tt.schema)), rec.emit)
			require.NoError(t, err)
			require.Equal(t, tt.want, got.Text)
			require.Equal(t, []string{"model_completed", "message_delta", "message_completed"}, rec.types())
			require.Equal(t, tt.want, rec.only(t, webtrigger.EventMessageDelta)["text"], "as it was accepted")
			require.Equal(t, tt.want, rec.only(t, webtrigger.EventMessageCompleted)["text"])
		})
	}
}

func TestJSONIsRepairedOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, wrong, names string }{
		{"wrong type", `{"total":"many"}`, "at /total: type: must be integer"},
		{"missing", `{}`, "total"},
		{"no JSON", `The total is 3.`, "not valid JSON"},
		{"prose around", `Here it is: {"total":3}`, "not valid JSON"},
		{"two values", `{"total":3}{"total":4}`, "not valid JSON"},
		{"a key twice", `{"total":3,"total":4}`, "not valid JSON"},
		{"empty", ``, "not valid JSON"},
		{"blank", " \n", "not valid JSON"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			model := &answers{responses: []llm.Response{says(tt.wrong), says(`{"total":3}`)}}
			rec := new(recorder)
			agent := newAgent(t, model, &llm.AgentOptions{MaxSteps: 1})
			got, err := agent.Run(t.Context(), task(jsonTask(totalSchema)), rec.emit)
			require.NoError(t, err)
			require.Equal(t, `{"total":3}`, got.Text)
			require.Equal(t, []string{
				"model_completed", "x_output_rejected", "model_completed", "message_delta", "message_completed",
			}, rec.types(), "pieces of the wrong answer are not shown")
			require.Contains(t, rec.only(t, "x_output_rejected")["error"], tt.names)

			require.Len(t, model.requests, 2)
			repair := model.requests[1]
			require.Equal(t, webtrigger.RoleUser, model.last().Role)
			require.Contains(t, model.last().Content, tt.names)
			require.Equal(t, llm.OutputFormat{Type: webtrigger.OutputJSON, Schema: json.RawMessage(totalSchema)}, repair.Output)
			for _, m := range repair.Messages {
				require.NotEmpty(t, strings.TrimSpace(m.Content))
			}
			if strings.TrimSpace(tt.wrong) == "" {
				require.Len(t, repair.Messages, 3)
				require.Empty(t, got.Messages)
				return
			}
			require.Len(t, repair.Messages, 4)
			require.Equal(t, llm.Message{Role: webtrigger.RoleAssistant, Content: tt.wrong}, repair.Messages[2])
			require.Equal(t, []webtrigger.NewMessage{{Role: webtrigger.RoleAssistant, Content: tt.wrong}}, got.Messages)
		})
	}
}

func TestJSONThatIsWrongTwiceFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, first, second, want string }{
		{"type", `{}`, `{"total":"many"}`, "The result does not meet the task definition's schema: at /total: type: must be integer"},
		{"several", `x`, `{"total":1.5,"more":1}`, "The result does not meet the task definition's schema: at "},
		{"no JSON", `{}`, `sorry`, "The result is not valid JSON, which the task definition asks for"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			model := &answers{responses: []llm.Response{says(tt.first), says(tt.second), says(`{"total":3}`)}}
			rec := new(recorder)
			got, err := newAgent(t, model, nil).Run(t.Context(), task(jsonTask(totalSchema)), rec.emit)
			require.ErrorContains(t, err, tt.want)
			require.Len(t, model.requests, 2)
			require.Empty(t, got.Text)
			require.Equal(t, []webtrigger.NewMessage{{Role: webtrigger.RoleAssistant, Content: tt.first}, {Role: webtrigger.RoleAssistant, Content: tt.second}},
				got.Messages, "both rejected answers are in the transcript")
			require.Equal(t, []string{"model_completed", "x_output_rejected", "model_completed"}, rec.types())
		})
	}
}

// The whole way: definition, run, status.
func TestJSONTaskUnderAService(t *testing.T) {
	t.Parallel()
	model := &answers{responses: []llm.Response{
		says(`{"total":"many"}`), says("```json\n{\"total\":9007199254740993}\n```"), // repaired
		says(`{"total":"many"}`), says(`{"total":[]}`),
	}}
	store := memstore.New(nil)
	svc, err := webtrigger.New(store, newAgent(t, model, nil), &webtrigger.Options{BaseURL: "https://app.example.com", CompileSchema: llm.CompileSchema})
	require.NoError(t, err)
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
	def := jsonTask(totalSchema)
	def.AssistantID, def.Name, def.Active = "1", "Count", true
	stored, err := svc.CreateTaskDefinition(t.Context(), *def)
	require.NoError(t, err)
	execute := func() webtrigger.Run {
		run, err := svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: "hello", TaskDefinitionID: stored.ID})
		require.NoError(t, err)
		require.NoError(t, svc.Execute(t.Context(), run.ID))
		run, err = svc.RunByID(t.Context(), run.ID)
		require.NoError(t, err)
		return run
	}

	run := execute()
	require.Equal(t, webtrigger.RunCompleted, run.Status, run.ErrorMessage)
	require.Equal(t, `{"total":9007199254740993}`, run.Result)
	var sum struct{ Total int64 }
	require.NoError(t, run.DecodeResult(&sum))
	require.EqualValues(t, 9007199254740993, sum.Total)

	run = execute()
	require.Equal(t, webtrigger.RunFailed, run.Status)
	require.Equal(t, "The result does not meet the task definition's schema: at /total: type: must be integer", run.ErrorMessage)
	require.Error(t, run.DecodeResult(&sum))
}

func TestJSONRepairAndTools(t *testing.T) {
	t.Parallel()
	// The wrong answer comes after a tool, with a word before it; the repair calls
	// the tool again.
	model := &answers{responses: []llm.Response{
		{Text: "Let me count.", ToolCalls: []llm.ToolCall{call("c1", "a", `{}`)}}, says(`three`),
		calls("a", `{}`), says(`{"total":3}`),
	}}
	rec := new(recorder)
	agent := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{tool("a", nil, result("3"))}})
	got, err := agent.Run(t.Context(), task(jsonTask(totalSchema)), rec.emit)
	require.NoError(t, err)
	require.Equal(t, `{"total":3}`, got.Text)
	require.Equal(t, []string{
		"model_completed", "message_completed", "tool_started", "tool_completed", "model_completed", "x_output_rejected",
		"model_completed", "tool_started", "tool_completed", "model_completed", "message_delta", "message_completed",
	}, rec.types())
	require.Equal(t, `{"total":3}`, rec.only(t, webtrigger.EventMessageDelta)["text"])
}

func TestRepairKeepsToTheTokenBudget(t *testing.T) {
	t.Parallel()
	wrong := says(`{}`)
	wrong.Usage.OutputTokens = 100
	model := &answers{responses: []llm.Response{wrong, says(`{"total":3}`)}}
	_, err := newAgent(t, model, &llm.AgentOptions{MaxTokens: 100}).Run(t.Context(), task(jsonTask(totalSchema)), new(recorder).emit)
	require.ErrorContains(t, err, "does not meet the task definition's schema", "this error is more useful than that of the budget")
	require.Len(t, model.requests, 1)
}

func TestUnusableSchemaFailsBeforeTheModelIsAsked(t *testing.T) {
	t.Parallel()
	model := &answers{responses: []llm.Response{says(`{}`)}}
	_, err := newAgent(t, model, nil).Run(t.Context(), task(jsonTask(`{"$ref":"#/nowhere"}`)), new(recorder).emit)
	require.ErrorContains(t, err, "points to no schema")
	require.Empty(t, model.requests)

	odd := func(json.RawMessage) (func(json.RawMessage) error, error) {
		return func(json.RawMessage) error { return errors.New("never good") }, nil
	}
	_, err = newAgent(t, model, &llm.AgentOptions{CompileSchema: odd}).Run(t.Context(), task(jsonTask(`{}`)), new(recorder).emit)
	require.ErrorContains(t, err, "never good", "the host's own compiler decides")
}

func TestOutputTypesAreAskedFor(t *testing.T) {
	t.Parallel()
	for typ, want := range map[webtrigger.OutputType]string{
		webtrigger.OutputText: "plain text", webtrigger.OutputMarkdown: "in Markdown", webtrigger.OutputJSON: "JSON",
	} {
		model := &answers{responses: []llm.Response{says(`{}`)}}
		_, err := newAgent(t, model, nil).Run(t.Context(), task(&webtrigger.TaskDefinition{OutputType: typ}), new(recorder).emit)
		require.NoError(t, err)
		require.Contains(t, model.requests[0].Messages[0].Content, want)
		require.Equal(t, typ, model.requests[0].Output.Type)
	}
}

// For any text of a model where JSON is required: the accepted result is JSON, and the
// shown text is the accepted result.
func FuzzJSONAnswer(f *testing.F) {
	for _, seed := range []string{`{"total":1}`, "```json\n{\"total\":1}\n```", "```", "``````", "```\n```", "```json", "```x\n1\n```", "\xff", "", `{"total":1,"total":2}`, `"\ud800"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, said string) {
		rec := new(recorder)
		agent := newAgent(t, &answers{responses: []llm.Response{says(said)}}, nil)
		got, err := agent.Run(context.Background(), task(jsonTask("")), rec.emit)
		shown := ""
		for _, e := range rec.events {
			if e.Type == webtrigger.EventMessageDelta {
				shown += e.Payload["text"].(string)
			}
		}
		require.Equal(t, got.Text, shown)
		if err != nil {
			require.Empty(t, got.Text)
			require.True(t, utf8.ValidString(err.Error()))
			return
		}
		require.True(t, json.Valid([]byte(got.Text)))
		if utf8.ValidString(said) && !strings.Contains(said, "\x00") {
			require.Contains(t, said, got.Text)
		}
	})
}
