package llm_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// modelFunc is a model that is a function.
type modelFunc func(ctx context.Context, req *llm.Request, stream func(llm.Chunk) error) (*llm.Response, error)

func (f modelFunc) Generate(ctx context.Context, req *llm.Request, stream func(llm.Chunk) error) (*llm.Response, error) {
	return f(ctx, req, stream)
}

// answers is a model that gives prepared responses in order, the last one again
// and again, and keeps what it was asked.
type answers struct {
	responses []llm.Response
	requests  []llm.Request
}

func (a *answers) Generate(_ context.Context, req *llm.Request, _ func(llm.Chunk) error) (*llm.Response, error) {
	kept := *req
	kept.Messages = slices.Clone(req.Messages)
	a.requests = append(a.requests, kept)
	response := a.responses[min(len(a.requests), len(a.responses))-1]
	return &response, nil
}

// last is the last message of the last request.
func (a *answers) last() llm.Message {
	messages := a.requests[len(a.requests)-1].Messages
	return messages[len(messages)-1]
}

// calls is a response with one tool call.
func calls(name, arguments string) llm.Response {
	return llm.Response{Finish: llm.FinishToolCalls, ToolCalls: []llm.ToolCall{call("c1", name, arguments)}}
}

func call(id, name, arguments string) llm.ToolCall {
	return llm.ToolCall{ID: id, Name: name, Arguments: json.RawMessage(arguments)}
}

func says(text string) llm.Response { return llm.Response{Text: text, Finish: llm.FinishStop} }

// event is an emitted event.
type event struct {
	Type    webtrigger.EventType
	Payload map[string]any
}

// recorder takes events the way a service does.
type recorder struct {
	mu     sync.Mutex
	events []event
	refuse webtrigger.EventType // an event of this type is an error
}

var errRejected = errors.New("no more events")

func (r *recorder) emit(typ webtrigger.EventType, payload any) error {
	raw, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	e := event{Type: typ}
	if raw[0] != '{' {
		return errors.New("not an object")
	}
	_ = json.Unmarshal(raw, &e.Payload) // a number may be too large for Go: the rest is read
	r.mu.Lock()
	defer r.mu.Unlock()
	if typ == r.refuse {
		return errRejected
	}
	r.events = append(r.events, e)
	return nil
}

func (r *recorder) types() (types []string) {
	for _, e := range r.events {
		types = append(types, string(e.Type))
	}
	return types
}

// only returns the one event of a type.
func (r *recorder) only(t *testing.T, typ webtrigger.EventType) map[string]any {
	t.Helper()
	var found []event
	for _, e := range r.events {
		if e.Type == typ {
			found = append(found, e)
		}
	}
	require.Len(t, found, 1, "%s in %v", typ, r.types())
	return found[0].Payload
}

// tool is a tool of an optional integer n that counts its calls.
func tool(name string, counter *int, do func(ctx context.Context) (string, error)) llm.Tool {
	return llm.Tool{
		Name: name, Description: "Tests.",
		Parameters: json.RawMessage(`{"type":"object","properties":{"n":{"type":"integer"}},"additionalProperties":false}`),
		Call: func(ctx context.Context, _ json.RawMessage) (string, error) {
			if counter != nil {
				*counter++
			}
			return do(ctx)
		},
	}
}

func result(text string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return text, nil }
}

func newAgent(t *testing.T, model llm.LLM, opts *llm.AgentOptions) *llm.Agent {
	t.Helper()
	agent, err := llm.NewAgent(model, opts)
	require.NoError(t, err)
	return agent
}

func task(def *webtrigger.TaskDefinition) *webtrigger.Task {
	return &webtrigger.Task{
		Run:   webtrigger.Run{ID: 1, Key: "k", AssistantID: "1", TaskDefinition: def},
		Input: webtrigger.RunInput{Message: "hello"}, Prompt: "hello", Definition: def,
	}
}

// execute runs an agent under a service with a memory store, and returns the
// ended run and its events.
func execute(t *testing.T, agent *llm.Agent, message string) (webtrigger.Run, []webtrigger.Event) {
	t.Helper()
	store := memstore.New(nil)
	svc, err := webtrigger.New(store, agent, &webtrigger.Options{BaseURL: "https://app.example.com", CompileSchema: llm.CompileSchema})
	require.NoError(t, err)
	require.NoError(t, svc.SetChannel(t.Context(), webtrigger.Channel{AssistantID: "1", Enabled: true}))
	run, err := svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: message})
	require.NoError(t, err)
	require.NoError(t, svc.Execute(t.Context(), run.ID))
	run, err = store.RunByID(t.Context(), run.ID)
	require.NoError(t, err)
	page, err := store.Events(t.Context(), webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: run.ID, Limit: 10_000})
	require.NoError(t, err)
	return run, page.Events
}

// textOf is the text of a stored event.
func textOf(t *testing.T, e webtrigger.Event) string {
	t.Helper()
	var payload struct{ Text string }
	require.NoError(t, json.Unmarshal(e.Payload, &payload))
	return payload.Text
}
