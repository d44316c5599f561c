package llm_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/logtest"
	"github.com/webtrigger-go/webtrigger/llm"
)

func TestToolsOffered(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		allow []string // of the assistant; nil: no lookup
		task  []string // of the task; nil: no definition
		want  []string
	}{
		{"everything", nil, nil, []string{"a", "b", "c"}},
		{"assistant's", []string{"c", "a"}, nil, []string{"a", "c"}},
		{"task's", nil, []string{"b"}, []string{"b"}},
		{"both", []string{"a", "b"}, []string{"b", "c"}, []string{"b"}},
		{"task's list is empty", []string{"a", "b"}, []string{}, []string{"a", "b"}},
		{"assistant has none", []string{}, nil, []string{}},
		{"task does not widen", []string{}, []string{"a"}, []string{}},
		{"nothing in common", []string{"a"}, []string{"b"}, []string{}},
		{"unknown names", []string{"a", "x"}, []string{"a", "y"}, []string{"a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			model := &answers{responses: []llm.Response{says("ok")}}
			opts := &llm.AgentOptions{}
			for _, name := range []string{"a", "b", "c"} {
				opts.Tools = append(opts.Tools, tool(name, nil, result("")))
			}
			if tt.allow != nil {
				opts.AllowTools = func(_ context.Context, id string) ([]string, error) {
					require.Equal(t, "1", id)
					return tt.allow, nil
				}
			}
			var def *webtrigger.TaskDefinition
			if tt.task != nil {
				def = &webtrigger.TaskDefinition{OutputType: webtrigger.OutputText, AllowedTools: tt.task}
			}
			_, err := newAgent(t, model, opts).Run(t.Context(), task(def), new(recorder).emit)
			require.NoError(t, err)
			offered := []string{}
			for _, spec := range model.requests[0].Tools {
				offered = append(offered, spec.Name)
				require.Equal(t, "Tests.", spec.Description)
				require.Contains(t, string(spec.Parameters), `"integer"`)
			}
			require.Equal(t, tt.want, offered)
		})
	}
}

func TestAgent_toolOutsideTheLists_isRejected(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, call string }{
		{"the assistant's", "task_only"},
		{"the task's", "assistant_only"},
		{"both", "neither"},
		{"the registry", "absent"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			called := 0
			opts := &llm.AgentOptions{AllowTools: func(context.Context, string) ([]string, error) {
				return []string{"both", "assistant_only", "absent"}, nil
			}}
			for _, name := range []string{"both", "task_only", "assistant_only", "neither"} {
				opts.Tools = append(opts.Tools, tool(name, &called, result("secret")))
			}
			model := &answers{responses: []llm.Response{calls(tt.call, `{}`), says("ok")}}
			rec := new(recorder)
			def := &webtrigger.TaskDefinition{AllowedTools: []string{"both", "task_only", "absent"}}
			got, err := newAgent(t, model, opts).Run(t.Context(), task(def), rec.emit)
			require.NoError(t, err)
			require.Equal(t, "ok", got.Text)
			require.Zero(t, called)
			failed := rec.only(t, webtrigger.EventToolFailed)
			require.Equal(t, tt.call, failed["tool"])
			require.Equal(t, "c1", failed["call_id"])
			mistake := `the tool "` + tt.call + `" is not available`
			require.Equal(t, mistake, failed["error"])
			require.NotContains(t, failed, "result")
			require.Equal(t, llm.Message{Role: webtrigger.RoleTool, ToolCallID: "c1",
				Content: "Error: " + mistake + ". Call one of these tools, or answer without them: both."}, model.last())
		})
	}
}

func TestArgumentsAreHeldToTheSchema(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, arguments, want string }{
		{"wrong type", `{"n":"one"}`, "/n"},
		{"unknown property", `{"m":1}`, "m"},
		{"an array", `[1]`, "not a JSON object"},
		{"null", `null`, "not a JSON object"},
		{"no JSON", `{"n":`, "not valid JSON"},
		{"trailing data", `{"n":1} x`, "not valid JSON"},
		{"a fraction", `{"n":1.5}`, "/n"},
		{"a huge number", `{"n":1e999}`, "too large"},
		{"invalid UTF-8", "{\"\xff\":1}", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			called := 0
			model := &answers{responses: []llm.Response{calls("a", tt.arguments), says("ok")}}
			rec := new(recorder)
			agent := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{tool("a", &called, result(""))}})
			_, err := agent.Run(t.Context(), task(nil), rec.emit)
			require.NoError(t, err)
			require.Zero(t, called)
			failed := rec.only(t, webtrigger.EventToolFailed)["error"]
			require.Contains(t, failed, "the arguments are not valid: ")
			require.Contains(t, failed, tt.want)
			require.Equal(t, "Error: "+failed.(string)+". Call the tool again with one JSON object that meets its schema.", model.last().Content)
		})
	}
	for _, arguments := range []string{``, " \n", `{}`, ` {"n": 3} `} {
		t.Run("good "+arguments, func(t *testing.T) {
			t.Parallel()
			called := 0
			model := &answers{responses: []llm.Response{calls("a", arguments), says("ok")}}
			agent := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{tool("a", &called, result(""))}})
			_, err := agent.Run(t.Context(), task(nil), new(recorder).emit)
			require.NoError(t, err)
			require.Equal(t, 1, called)
		})
	}
}

func TestToolOutcomes(t *testing.T) {
	t.Parallel()
	play := func(t *testing.T, do func(context.Context) (string, error)) (model *answers, rec *recorder, log string) {
		t.Helper()
		logged := new(logtest.Buffer)
		model = &answers{responses: []llm.Response{calls("a", `{"n":1}`), says("ok")}}
		rec = new(recorder)
		agent := newAgent(t, model, &llm.AgentOptions{
			Tools: []llm.Tool{tool("a", nil, do)}, Logger: slog.New(slog.NewTextHandler(logged, nil)),
		})
		got, err := agent.Run(t.Context(), task(nil), rec.emit)
		require.NoError(t, err)
		require.Equal(t, "ok", got.Text)
		return model, rec, logged.String()
	}
	t.Run("result", func(t *testing.T) {
		t.Parallel()
		model, rec, _ := play(t, result("42"))
		require.Equal(t, map[string]any{"tool": "a", "call_id": "c1", "arguments": map[string]any{"n": 1.0}},
			rec.only(t, webtrigger.EventToolStarted))
		require.Equal(t, map[string]any{"tool": "a", "call_id": "c1", "arguments": map[string]any{"n": 1.0}, "result": "42"},
			rec.only(t, webtrigger.EventToolCompleted))
		require.Equal(t, llm.Message{Role: webtrigger.RoleTool, Content: "42", ToolCallID: "c1"}, model.last())
	})
	t.Run("empty result", func(t *testing.T) {
		t.Parallel()
		_, rec, _ := play(t, result(""))
		require.Equal(t, "", rec.only(t, webtrigger.EventToolCompleted)["result"])
	})
	t.Run("error", func(t *testing.T) {
		t.Parallel()
		model, rec, _ := play(t, func(context.Context) (string, error) { return "ignored", errors.New("no \xff luck\x00") })
		require.Equal(t, "no \uFFFD luck\uFFFD", rec.only(t, webtrigger.EventToolFailed)["error"])
		require.Equal(t, "Error: no \uFFFD luck\uFFFD", model.last().Content)
	})
	t.Run("panic", func(t *testing.T) {
		t.Parallel()
		model, rec, log := play(t, func(context.Context) (string, error) { panic("inner secret") })
		require.Equal(t, "the tool crashed", rec.only(t, webtrigger.EventToolFailed)["error"])
		require.Equal(t, "Error: the tool crashed", model.last().Content)
		require.Contains(t, log, "inner secret")
		require.Contains(t, log, "agent_test.go", "the stack")
	})
	t.Run("10 MB", func(t *testing.T) {
		t.Parallel()
		model, rec, _ := play(t, result(strings.Repeat("é", 5_000_000)))
		said := model.last().Content
		require.Less(t, len(said), 129<<10)
		require.Contains(t, said, "10000000 bytes")
		require.True(t, utf8.ValidString(said))
		require.Less(t, len(rec.only(t, webtrigger.EventToolCompleted)["result"].(string)), webtrigger.MaxEventPayloadBytes/2)
	})
	t.Run("invalid UTF-8", func(t *testing.T) {
		t.Parallel()
		model, rec, _ := play(t, result("a\xffb\x00c"))
		require.Equal(t, "a\uFFFDb\uFFFDc", model.last().Content)
		require.Equal(t, "a\uFFFDb\uFFFDc", rec.only(t, webtrigger.EventToolCompleted)["result"])
	})
	t.Run("invalid UTF-8 that grows", func(t *testing.T) {
		t.Parallel()
		model, _, _ := play(t, result(strings.Repeat("\xffa", 100<<10)))
		require.Less(t, len(model.last().Content), 129<<10)
	})
}

// Any text of a model or a tool becomes events that the service accepts.
func TestEventsAreAlwaysValid(t *testing.T) {
	t.Parallel()
	const mega = 1 << 20
	for _, tt := range []struct {
		name     string
		response llm.Response
		stream   string
	}{
		{"large arguments", calls("a", `{"s":"`+strings.Repeat("x", mega)+`"}`), ""},
		{"arguments that escape", calls("a", `{"s":"`+strings.Repeat(`<\u0001`, mega/8)+`"}`), ""},
		{"arguments at the limit of what is shown", calls("a", `{"s":"`+strings.Repeat("\u2028", webtrigger.MaxEventPayloadBytes/48-10)+`"}`), ""},
		{"arguments of NULs", calls("a", strings.Repeat("\x00", mega)), ""},
		{"arguments of control characters", calls("a", strings.Repeat("\x01", mega)), ""},
		{"arguments of invalid UTF-8", calls("a", "{\"s\":\""+strings.Repeat("\xffa", 7000)+"\"}"), ""},
		{"an escaped NUL", calls("a", `{"s":"\u0000"}`), ""},
		{"deep arguments", calls("a", strings.Repeat(`{"s":`, 9000)+"1"+strings.Repeat("}", 9000)), ""},
		{"too deep arguments", calls("a", strings.Repeat(`{"s":`, 20_000)+"1"+strings.Repeat("}", 20_000)), ""},
		{"a large name", calls(strings.Repeat("n", mega), `{}`), ""},
		{"a name of invalid UTF-8", calls(strings.Repeat("\xff\x00", mega/8), `{}`), ""},
		{"a large call id", llm.Response{ToolCalls: []llm.ToolCall{call(strings.Repeat("\x01", mega), "a", `{}`)}}, ""},
		{"a large text", llm.Response{Text: strings.Repeat("x", mega/2), ToolCalls: []llm.ToolCall{call("c", "a", `{}`)}}, ""},
		{"a text that escapes", llm.Response{Text: strings.Repeat("\x01", mega/8), ToolCalls: []llm.ToolCall{call("c", "a", `{}`)}}, ""},
		{"a text of invalid UTF-8", llm.Response{Text: strings.Repeat("\xff\x00", mega/16), ToolCalls: []llm.ToolCall{call("c", "a", `{}`)}}, ""},
		{"a large piece", llm.Response{ToolCalls: []llm.ToolCall{call("c", "a", `{}`)}}, strings.Repeat("\x01é", mega/24)},
		{"a piece of invalid UTF-8", llm.Response{ToolCalls: []llm.ToolCall{call("c", "a", `{}`)}}, strings.Repeat("\xff\x00", 1000)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			inner := &answers{responses: []llm.Response{tt.response, says("ok")}}
			model := modelFunc(func(ctx context.Context, req *llm.Request, stream func(llm.Chunk) error) (*llm.Response, error) {
				response, err := inner.Generate(ctx, req, stream)
				if len(inner.requests) == 1 && tt.stream != "" {
					response.Text = tt.stream
					err = stream(llm.Chunk{Text: tt.stream})
				}
				return response, err
			})
			anything := tool("a", nil, result(strings.Repeat("\x01", mega)))
			anything.Parameters = nil
			run, events := execute(t, newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{anything}}), "hello")
			require.Equal(t, webtrigger.RunCompleted, run.Status, run.ErrorMessage)
			require.Equal(t, "ok", run.Result)
			streamed := ""
			for _, e := range events {
				require.True(t, json.Valid(e.Payload), e.Type)
				require.True(t, utf8.Valid(e.Payload), e.Type)
				require.LessOrEqual(t, len(e.Payload), webtrigger.MaxEventPayloadBytes, e.Type)
				require.NotContains(t, string(e.Payload), `\u0000`, e.Type)
				if e.Type == webtrigger.EventMessageDelta {
					var p struct{ Text string }
					require.NoError(t, json.Unmarshal(e.Payload, &p))
					streamed += p.Text
				}
			}
			want := strings.ReplaceAll(strings.ToValidUTF8(tt.response.Text+tt.stream, "\uFFFD"), "\x00", "\uFFFD") + "ok"
			require.True(t, want == streamed, "no streamed text may be lost")
		})
	}
}

func TestStepLimit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ max, steps int }{{0, llm.DefaultMaxSteps}, {1, 1}, {3, 3}} {
		called := 0
		model := &answers{responses: []llm.Response{calls("a", `{}`)}}
		agent := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{tool("a", &called, result("more"))}, MaxSteps: tt.max})
		got, err := agent.Run(t.Context(), task(nil), new(recorder).emit)
		require.ErrorContains(t, err, "steps")
		require.Empty(t, got.Text)
		require.Len(t, model.requests, tt.steps)
		require.Equal(t, tt.steps-1, called, "the results of the last calls have no reader")
	}
	// The last step may answer.
	model := &answers{responses: []llm.Response{calls("a", `{}`), says("done")}}
	agent := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{tool("a", nil, result("more"))}, MaxSteps: 2})
	got, err := agent.Run(t.Context(), task(nil), new(recorder).emit)
	require.NoError(t, err)
	require.Equal(t, "done", got.Text)
}

// The run fails with the cause of its context's end, whatever error the model returns.
func TestAgent_cancelledDuringModelCall_failsWithCause(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(ctx context.Context) (*llm.Response, error){
		"the cause":    func(ctx context.Context) (*llm.Response, error) { return nil, context.Cause(ctx) },
		"its own word": func(context.Context) (*llm.Response, error) { return nil, errors.New("connection reset") },
		"an answer":    func(context.Context) (*llm.Response, error) { return &llm.Response{Text: "half"}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				model := modelFunc(func(ctx context.Context, _ *llm.Request, _ func(llm.Chunk) error) (*llm.Response, error) {
					<-ctx.Done()
					return end(ctx)
				})
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Hour, func() { cancel(webtrigger.ErrCancelled) })
				began := time.Now()
				got, err := newAgent(t, model, nil).Run(ctx, task(nil), new(recorder).emit)
				require.ErrorIs(t, err, webtrigger.ErrCancelled)
				require.Empty(t, got.Text)
				require.Equal(t, time.Hour, time.Since(began))
			})
		})
	}
}

func TestCancelDuringTool(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		do   func(ctx context.Context) (string, error)
	}{
		{"returns the cause", func(ctx context.Context) (string, error) {
			<-ctx.Done()
			return "", context.Cause(ctx)
		}},
		{"claims success", func(ctx context.Context) (string, error) {
			<-ctx.Done()
			return "done", nil
		}},
		{"panics", func(ctx context.Context) (string, error) {
			<-ctx.Done()
			panic("cut off")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Minute, func() { cancel(webtrigger.ErrDeadline) })
				model := &answers{responses: []llm.Response{
					{ToolCalls: []llm.ToolCall{call("1", "a", `{}`), call("2", "b", `{}`)}}, says("no"),
				}}
				later := 0
				rec := new(recorder)
				agent := newAgent(t, model, &llm.AgentOptions{
					Tools: []llm.Tool{tool("a", nil, tt.do), tool("b", &later, result(""))}, ParallelTools: 1,
				})
				_, err := agent.Run(ctx, task(nil), rec.emit)
				require.ErrorIs(t, err, webtrigger.ErrDeadline)
				require.Zero(t, later)
				require.Len(t, model.requests, 1)
				want := []string{"model_completed", "tool_started"}
				if tt.name == "claims success" { // its effect is recorded
					want = append(want, "tool_completed")
				}
				require.Equal(t, want, rec.types())
			})
		})
	}
}

func TestConversation(t *testing.T) {
	t.Parallel()
	model := &answers{responses: []llm.Response{
		{Text: "Let me see.", Model: "m-1", Usage: webtrigger.Usage{InputTokens: 10, OutputTokens: 1},
			ToolCalls: []llm.ToolCall{call("c1", "a", `{"n":1}`), call("c2", "broken", `{}`), call("c3", "silent", `{}`)}},
		{ToolCalls: []llm.ToolCall{call("c4", "a", `{"n":2}`)}, Usage: webtrigger.Usage{InputTokens: 20, OutputTokens: 2}, Model: "m-1"},
		{Text: "The answer.", Usage: webtrigger.Usage{InputTokens: 40, OutputTokens: 4}, Model: "m-2"},
	}}
	rec := new(recorder)
	agent := newAgent(t, model, &llm.AgentOptions{
		ParallelTools: 1, // and so events have one order
		Instructions:  func(_ context.Context, id string) (string, error) { return "You are assistant " + id + ".", nil },
		Tools: []llm.Tool{tool("a", nil, result("found")), tool("silent", nil, result("")),
			tool("broken", nil, func(context.Context) (string, error) { return "", errors.New("broken") })},
	})
	def := &webtrigger.TaskDefinition{Instructions: "Be brief.", OutputType: webtrigger.OutputMarkdown}
	got, err := agent.Run(t.Context(), task(def), rec.emit)
	require.NoError(t, err)

	require.Equal(t, "The answer.", got.Text)
	require.Equal(t, &webtrigger.Usage{InputTokens: 70, OutputTokens: 7}, got.Usage)
	require.Equal(t, []webtrigger.NewMessage{
		{Role: webtrigger.RoleAssistant, Content: "Let me see.", ToolCalls: []llm.ToolCall{
			call("c1", "a", `{"n":1}`), call("c2", "broken", `{}`), call("c3", "silent", `{}`)}},
		{Role: webtrigger.RoleTool, Content: "found", ToolCallID: "c1"},
		{Role: webtrigger.RoleTool, Content: "Error: broken", ToolCallID: "c2"},
		{Role: webtrigger.RoleTool, ToolCallID: "c3"},
		{Role: webtrigger.RoleAssistant, ToolCalls: []llm.ToolCall{call("c4", "a", `{"n":2}`)}},
		{Role: webtrigger.RoleTool, Content: "found", ToolCallID: "c4"},
	}, got.Messages, "the transcript, without the result")

	require.Equal(t, []string{
		"message_delta", "model_completed", "message_completed",
		"tool_started", "tool_completed", "tool_started", "tool_failed", "tool_started", "tool_completed",
		"model_completed", "tool_started", "tool_completed",
		"message_delta", "model_completed", "message_completed",
	}, rec.types())
	require.Equal(t, map[string]any{"text": "Let me see."}, rec.events[0].Payload)
	require.Equal(t, "m-1", rec.events[1].Payload["model"])
	require.Equal(t, map[string]any{"input_tokens": 10.0, "output_tokens": 1.0}, rec.events[1].Payload["usage"])
	require.Contains(t, rec.events[1].Payload, "duration_ms")
	require.Equal(t, map[string]any{"text": "Let me see."}, rec.events[2].Payload)
	require.Equal(t, map[string]any{"text": "The answer."}, rec.events[14].Payload)

	system := model.requests[0].Messages[0]
	require.Equal(t, webtrigger.Role("system"), system.Role)
	require.Equal(t, "You are assistant 1.\n\nBe brief.\n\nAnswer in Markdown.", system.Content)
	require.Equal(t, llm.Message{Role: webtrigger.RoleUser, Content: "hello"}, model.requests[0].Messages[1])
	require.Len(t, model.requests[0].Messages, 2)
	require.Len(t, model.requests[1].Messages, 6)
	require.Len(t, model.requests[2].Messages, 8)
	require.Equal(t, model.responses[0].ToolCalls, model.requests[2].Messages[2].ToolCalls)
	require.Equal(t, webtrigger.OutputMarkdown, model.requests[2].Output.Type)
	require.Equal(t, "hello", model.requests[2].Task.Input.Message)
}

func TestJSONOutputIsAskedFor(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{"", `{"type":"object"}`} {
		model := &answers{responses: []llm.Response{says("{}")}}
		def := &webtrigger.TaskDefinition{Instructions: "Count.", OutputType: webtrigger.OutputJSON}
		if schema != "" {
			def.OutputSchema = json.RawMessage(schema)
		}
		_, err := newAgent(t, model, nil).Run(t.Context(), task(def), new(recorder).emit)
		require.NoError(t, err)
		require.Contains(t, model.requests[0].Messages[0].Content, "JSON")
		require.Contains(t, model.requests[0].Messages[0].Content, schema)
		require.Equal(t, llm.OutputFormat{Type: webtrigger.OutputJSON, Schema: def.OutputSchema}, model.requests[0].Output)
	}
}

func TestAgent_noInstructions_sendsNoSystemMessage(t *testing.T) {
	t.Parallel()
	model := &answers{responses: []llm.Response{says("ok")}}
	agent := newAgent(t, model, &llm.AgentOptions{Instructions: func(context.Context, string) (string, error) { return " \n", nil }})
	_, err := agent.Run(t.Context(), task(nil), new(recorder).emit)
	require.NoError(t, err)
	require.Equal(t, []llm.Message{{Role: webtrigger.RoleUser, Content: "hello"}}, model.requests[0].Messages)
	require.Empty(t, model.requests[0].Tools)
}

func TestUnfinishedAnswersFail(t *testing.T) {
	t.Parallel()
	for reason, want := range map[llm.FinishReason]string{llm.FinishLength: "cut off", llm.FinishRefusal: "declined"} {
		called := 0
		model := &answers{responses: []llm.Response{{
			Text: "half an", Finish: reason, ToolCalls: []llm.ToolCall{call("c1", "a", `{}`)}, Usage: webtrigger.Usage{OutputTokens: 3},
		}}}
		rec := new(recorder)
		agent := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{tool("a", &called, result(""))}})
		got, err := agent.Run(t.Context(), task(nil), rec.emit)
		require.ErrorContains(t, err, want)
		require.Zero(t, called, "a call that was cut off is not made")
		require.Empty(t, got.Text)
		require.EqualValues(t, 3, got.Usage.OutputTokens, "paid for all the same")
		require.Equal(t, []string{"message_delta", "model_completed", "message_completed"}, rec.types())
	}
}

func TestWhyAModelDeclined(t *testing.T) {
	t.Parallel()
	model := &answers{responses: []llm.Response{{Finish: llm.FinishRefusal, Detail: "I must not\xff. " + strings.Repeat("x", 2000)}}}
	_, err := newAgent(t, model, nil).Run(t.Context(), task(nil), new(recorder).emit)
	require.ErrorContains(t, err, "The model declined to answer. Its reason: I must not\uFFFD. xxx")
	require.Less(t, len(err.Error()), 1100)
}

func TestModelErrors(t *testing.T) {
	t.Parallel()
	inner := errors.New("rate limited")
	failing := modelFunc(func(context.Context, *llm.Request, func(llm.Chunk) error) (*llm.Response, error) {
		return nil, &llm.Error{Err: inner, Retryable: true, RetryAfter: time.Second}
	})
	rec := new(recorder)
	_, err := newAgent(t, failing, nil).Run(t.Context(), task(nil), rec.emit)
	require.ErrorIs(t, err, inner)
	require.EqualError(t, err, "rate limited")
	var tells *llm.Error
	require.ErrorAs(t, err, &tells)
	require.True(t, tells.Retryable)
	require.Empty(t, rec.events)

	silent := modelFunc(func(context.Context, *llm.Request, func(llm.Chunk) error) (*llm.Response, error) { return nil, nil })
	_, err = newAgent(t, silent, nil).Run(t.Context(), task(nil), rec.emit)
	require.ErrorContains(t, err, "no answer")
}

func TestAgent_rejectedEvent_stopsRun(t *testing.T) {
	t.Parallel()
	for _, typ := range []webtrigger.EventType{
		webtrigger.EventModelCompleted, webtrigger.EventMessageCompleted, webtrigger.EventMessageDelta, "x_own",
		webtrigger.EventToolStarted, webtrigger.EventToolCompleted, webtrigger.EventToolFailed,
	} {
		t.Run(string(typ), func(t *testing.T) {
			t.Parallel()
			inner := &answers{responses: []llm.Response{
				{Text: "hm", ToolCalls: []llm.ToolCall{call("c1", "a", `{}`), call("c2", "absent", `{}`)}}, says("ok"),
			}}
			model := modelFunc(func(ctx context.Context, req *llm.Request, stream func(llm.Chunk) error) (*llm.Response, error) {
				if err := stream(llm.Chunk{Text: "h"}); err != nil {
					return nil, err
				}
				if err := stream(llm.Chunk{Type: "x_own", Payload: map[string]int{"n": 1}}); err != nil {
					return nil, err
				}
				return inner.Generate(ctx, req, stream)
			})
			agent := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{tool("a", nil, result(""))}})
			_, err := agent.Run(t.Context(), task(nil), (&recorder{refuse: typ}).emit)
			require.ErrorIs(t, err, errRejected)
			require.LessOrEqual(t, len(inner.requests), 1)
		})
	}
}

func TestNewAgent_invalidOptions_returnsError(t *testing.T) {
	t.Parallel()
	model := &answers{}
	good := func(name string) llm.Tool { return tool(name, nil, result("")) }
	with := func(parameters string) llm.Tool {
		t := good("a")
		t.Parameters = json.RawMessage(parameters)
		return t
	}
	for _, tt := range []struct {
		name  string
		model llm.LLM
		opts  llm.AgentOptions
		want  string
	}{
		{"no model", nil, llm.AgentOptions{}, "model must not be nil"},
		{"negative steps", model, llm.AgentOptions{MaxSteps: -1}, "MaxSteps"},
		{"negative timeout", model, llm.AgentOptions{ToolTimeout: -1}, "ToolTimeout"},
		{"negative parallel", model, llm.AgentOptions{ParallelTools: -1}, "ParallelTools"},
		{"negative result", model, llm.AgentOptions{MaxToolResult: -1}, "MaxToolResult"},
		{"negative timeout of a tool", model, llm.AgentOptions{Tools: []llm.Tool{{Name: "a", Call: good("a").Call, Timeout: -1}}}, "Timeout"},
		{"no name", model, llm.AgentOptions{Tools: []llm.Tool{good("")}}, "name must be"},
		{"bad name", model, llm.AgentOptions{Tools: []llm.Tool{good("a b")}}, "name must be"},
		{"name with a line end", model, llm.AgentOptions{Tools: []llm.Tool{good("a\n")}}, "name must be"},
		{"long name", model, llm.AgentOptions{Tools: []llm.Tool{good(strings.Repeat("a", 65))}}, "name must be"},
		{"doubled name", model, llm.AgentOptions{Tools: []llm.Tool{good("a"), good("b"), good("a")}}, "twice"},
		{"no function", model, llm.AgentOptions{Tools: []llm.Tool{{Name: "a"}}}, "function must not be nil"},
		{"parameters no JSON", model, llm.AgentOptions{Tools: []llm.Tool{with(`{"type":`)}}, "not valid JSON"},
		{"parameters no object", model, llm.AgentOptions{Tools: []llm.Tool{with(`true`)}}, "not a JSON object"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := llm.NewAgent(tt.model, &tt.opts)
			require.ErrorContains(t, err, tt.want)
		})
	}
	for _, name := range []string{"a", "A-b_9", strings.Repeat("a", 64)} {
		_, err := llm.NewAgent(model, &llm.AgentOptions{Tools: []llm.Tool{good(name)}})
		require.NoError(t, err)
	}
}
