package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/modeltest"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/anthropic"
	"github.com/webtrigger-go/webtrigger/llm/openai"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// The assistant with the models of vendors. Their servers are fakes that reject the
// requests that the vendors reject, such as an incomplete conversation.

const vendorKey = "sk-test-0123456789abcdef"

// vendor is a vendor's fake server and its answers.
type vendor struct {
	name  string
	serve func(turns ...modeltest.Turn) *modeltest.Server
	model func(client *http.Client) (llm.LLM, error)
	text  func(pieces ...string) modeltest.Turn
	calls func(text string, names ...string) modeltest.Turn // of tools, with the order 7
	hangs modeltest.Turn                                    // after two pieces of text
	tools func(body map[string]any) []string                // that a request offers
	asks  func(body map[string]any) any                     // the output format of a request
}

func vendors() []vendor {
	retry := &llm.RetryOptions{MinDelay: time.Minute, MaxDelay: time.Minute}
	return []vendor{
		{
			name:  "openai",
			serve: func(turns ...modeltest.Turn) *modeltest.Server { return modeltest.NewOpenAI(vendorKey, turns...) },
			model: func(client *http.Client) (llm.LLM, error) {
				return openai.New(vendorKey, &openai.Options{BaseURL: "http://openai.example/v1", HTTPClient: client, Retry: retry})
			},
			text: modeltest.OpenAIText,
			calls: func(text string, names ...string) modeltest.Turn {
				return modeltest.OpenAITurn(func(o modeltest.OpenAI) {
					o.Role()
					o.Text(text)
					for i, name := range names {
						o.Call(i, fmt.Sprintf("call_%s_%d", name, i), name)
						o.Arguments(i, `{"id"`, `: 7}`)
					}
					o.Finish("tool_calls")
					o.End(100, 10)
				})
			},
			hangs: modeltest.OpenAITurn(func(o modeltest.OpenAI) { o.Role(); o.Text("It ", "is "); o.Hang() }),
			tools: func(body map[string]any) (names []string) {
				for _, t := range list(body["tools"]) {
					names = append(names, object(object(t)["function"])["name"].(string))
				}
				return names
			},
			asks: func(body map[string]any) any { return body["response_format"] },
		},
		{
			name:  "anthropic",
			serve: func(turns ...modeltest.Turn) *modeltest.Server { return modeltest.NewAnthropic(vendorKey, turns...) },
			model: func(client *http.Client) (llm.LLM, error) {
				return anthropic.New(vendorKey, &anthropic.Options{BaseURL: "http://anthropic.example", HTTPClient: client, Retry: retry})
			},
			text: modeltest.AnthropicText,
			calls: func(text string, names ...string) modeltest.Turn {
				return modeltest.AnthropicTurn(func(a modeltest.Anthropic) {
					a.Start()
					a.Thinking(0, "What do they want?", "signed")
					a.Block(1, map[string]any{"type": "text", "text": ""})
					a.Text(1, text)
					a.BlockStop(1)
					for i, name := range names {
						a.Tool(i+2, fmt.Sprintf("toolu_%s_%d", name, i), name)
						a.Input(i+2, `{"id"`, `: 7}`)
						a.BlockStop(i + 2)
					}
					a.End("tool_use", 10)
				})
			},
			hangs: modeltest.AnthropicTurn(func(a modeltest.Anthropic) {
				a.Start()
				a.Block(0, map[string]any{"type": "text", "text": ""})
				a.Text(0, "It ", "is ")
				a.Hang()
			}),
			tools: func(body map[string]any) (names []string) {
				for _, t := range list(body["tools"]) {
					names = append(names, object(t)["name"].(string))
				}
				return names
			},
			asks: func(body map[string]any) any { return object(body["output_config"])["format"] },
		},
	}
}

func list(v any) []any            { l, _ := v.([]any); return l }
func object(v any) map[string]any { o, _ := v.(map[string]any); return o }

// world is the assistant on a vendor's model, under a service, in a bubble.
type world struct {
	*testing.T
	svc   *webtrigger.Service
	store *memstore.Store
	fake  *modeltest.Server
}

func on(t *testing.T, v vendor, turns ...modeltest.Turn) *world {
	t.Helper()
	fake := v.serve(turns...)
	client, stop := modeltest.NewNetwork().Serve(fake)
	t.Cleanup(stop)
	model, err := v.model(client)
	require.NoError(t, err)
	assistant, err := newAssistant(model)
	require.NoError(t, err)
	store := memstore.New(nil)
	svc, err := webtrigger.New(store, assistant, &webtrigger.Options{BaseURL: "https://app.example.com", CompileSchema: llm.CompileSchema})
	require.NoError(t, err)
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
	return &world{t, svc, store, fake}
}

func (w *world) trigger(def *webtrigger.TaskDefinition) webtrigger.Run {
	w.Helper()
	request := webtrigger.TriggerRequest{Message: "Where is order 7?"}
	if def != nil {
		def.AssistantID, def.Name, def.Instructions, def.Active = "1", "Orders", "See to orders.", true
		stored, err := w.svc.CreateTaskDefinition(w.Context(), *def)
		require.NoError(w, err)
		request.TaskDefinitionID = stored.ID
	}
	run, err := w.svc.Trigger(w.Context(), "1", request)
	require.NoError(w, err)
	return run
}

// execute triggers the assistant and returns the run as it ended.
func (w *world) execute(def *webtrigger.TaskDefinition) (webtrigger.Run, []webtrigger.Event) {
	w.Helper()
	run := w.trigger(def)
	require.NoError(w, w.svc.Execute(w.Context(), run.ID))
	run, err := w.svc.RunByID(w.Context(), run.ID)
	require.NoError(w, err)
	page, err := w.store.Events(w.Context(), webtrigger.EventQuery{ConversationID: run.ConversationID, Limit: 1000})
	require.NoError(w, err)
	return run, page.Events
}

// each runs a test on each vendor, in a bubble.
func each(t *testing.T, test func(t *testing.T, v vendor)) {
	t.Helper()
	t.Parallel()
	for _, v := range vendors() {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, v) })
		})
	}
}

func payload(t *testing.T, e webtrigger.Event) (p struct {
	Text, Tool, Result, Error string
	Usage                     webtrigger.Usage
}) {
	t.Helper()
	require.NoError(t, json.Unmarshal(e.Payload, &p))
	return p
}

func TestAConversation(t *testing.T) {
	each(t, func(t *testing.T, v vendor) {
		w := on(t, v, v.calls("Let me look.", "order_status", "cancel_order"), modeltest.Reject(503, "{}"), v.text("It is ", "cancelled."))
		began := time.Now()
		run, events := w.execute(nil)
		require.Equal(t, webtrigger.RunCompleted, run.Status, run.ErrorMessage)
		require.Equal(t, "It is cancelled.", run.Result)
		require.Positive(t, time.Since(began), "the rejected call must be retried after a delay")

		var usage webtrigger.Usage
		var pieces, whole, results []string
		text := ""
		for _, e := range events {
			p := payload(t, e)
			switch e.Type {
			case webtrigger.EventMessageDelta:
				text += p.Text
			case webtrigger.EventMessageCompleted:
				pieces, whole, text = append(pieces, text), append(whole, p.Text), ""
			case webtrigger.EventToolCompleted:
				results = append(results, p.Result)
			case webtrigger.EventModelCompleted:
				usage.InputTokens += p.Usage.InputTokens
				usage.OutputTokens += p.Usage.OutputTokens
			}
		}
		require.Equal(t, []string{"Let me look.", "It is cancelled."}, whole)
		require.Equal(t, whole, pieces)
		require.Len(t, results, 2)
		require.Equal(t, usage, *run.Usage)
		require.Positive(t, usage.OutputTokens)

		messages, err := w.svc.Messages(t.Context(), webtrigger.MessageQuery{ConversationID: run.ConversationID, Limit: 100})
		require.NoError(t, err)
		var transcript []string
		for _, m := range messages {
			transcript = append(transcript, string(m.Role)+": "+m.Content)
		}
		require.Len(t, transcript, 5)
		require.Equal(t, "user: Where is order 7?", transcript[0])
		require.Equal(t, "assistant: Let me look.", transcript[1])
		require.Equal(t, "tool: order 7 is on its way", transcript[2])
		require.Contains(t, transcript[3], `tool: {"cancelled":7`)
		require.Equal(t, "assistant: It is cancelled.", transcript[4])
	})
}

// A request does not offer a tool outside the task's list. If the model still calls it,
// the call is rejected.
func TestForcedCall(t *testing.T) {
	each(t, func(t *testing.T, v vendor) {
		w := on(t, v, v.calls("Hm.", "cancel_order"), v.text("I cannot."))
		run, events := w.execute(&webtrigger.TaskDefinition{AllowedTools: []string{"order_status"}})
		require.Equal(t, webtrigger.RunCompleted, run.Status, run.ErrorMessage)
		for _, r := range w.fake.Requests() {
			require.Equal(t, []string{"order_status"}, v.tools(r.Body))
		}
		var failed []string
		for _, e := range events {
			require.NotEqual(t, webtrigger.EventToolCompleted, e.Type)
			if e.Type == webtrigger.EventToolFailed {
				failed = append(failed, payload(t, e).Error)
			}
		}
		require.Equal(t, []string{`the tool "cancel_order" is not available`}, failed)
	})
}

// The form is asked for natively, and the answer is checked all the same.
func TestJSONRepair(t *testing.T) {
	each(t, func(t *testing.T, v vendor) {
		definition := func() *webtrigger.TaskDefinition {
			return &webtrigger.TaskDefinition{OutputType: webtrigger.OutputJSON, OutputSchema: json.RawMessage(
				`{"type":"object","properties":{"days":{"type":"integer","minimum":1}},"required":["days"],"additionalProperties":false}`)}
		}
		w := on(t, v, v.calls("Hm.", "order_status"), v.text(`{"days"`, `: 0}`), v.text("```json\n", `{"days": 3}`, "\n```"))
		run, events := w.execute(definition())
		require.Equal(t, webtrigger.RunCompleted, run.Status, run.ErrorMessage)
		require.Equal(t, `{"days": 3}`, run.Result)
		var parsed struct{ Days int }
		require.NoError(t, run.DecodeResult(&parsed))
		require.Equal(t, 3, parsed.Days)
		text := ""
		for _, e := range events {
			if e.Type == webtrigger.EventMessageDelta {
				text += payload(t, e).Text
			}
		}
		require.Equal(t, run.Result, text)
		requests := w.fake.Requests()
		require.Len(t, requests, 3)
		for _, r := range requests {
			require.NotNil(t, v.asks(r.Body))
		}

		w = on(t, v, v.text(`{"days": 0}`), v.text(`{"days": -1}`), v.text(`{"days": 3}`))
		run, _ = w.execute(definition())
		require.Equal(t, webtrigger.RunFailed, run.Status)
		require.Contains(t, run.ErrorMessage, "at /days: minimum")
		require.Len(t, w.fake.Requests(), 2)
	})
}

// The run ends within 100 ms of its cancellation, in the middle of an answer and
// between two attempts.
func TestCancelledRun(t *testing.T) {
	each(t, func(t *testing.T, v vendor) {
		for _, turn := range []modeltest.Turn{v.hangs, modeltest.Reject(529, "{}"), modeltest.Reject(429, "{}", "Retry-After", "300")} {
			w := on(t, v, turn)
			ctx, stop := context.WithCancel(t.Context())
			worked := make(chan error, 1)
			go func() { worked <- w.svc.Work(ctx) }()
			synctest.Wait()
			run := w.trigger(nil)
			time.Sleep(10 * time.Second)
			began := time.Now()
			run, err := w.svc.CancelRun(t.Context(), run.ID, "not needed any more")
			require.NoError(t, err)
			require.Equal(t, webtrigger.RunRunning, run.Status)
			for !run.Status.Terminal() {
				time.Sleep(time.Millisecond)
				run, err = w.svc.RunByID(t.Context(), run.ID)
				require.NoError(t, err)
			}
			require.LessOrEqual(t, time.Since(began), 100*time.Millisecond)
			require.Equal(t, webtrigger.RunCancelled, run.Status)
			require.Equal(t, "not needed any more", run.StatusDetail)
			stop()
			require.NoError(t, <-worked)
		}
	})
}
