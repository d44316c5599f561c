package otelwebtrigger_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/otelwebtrigger"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// marker is in every text of callers, models, tools and receivers.
const marker = "MARKER-7f3a"

// chatty is a model that puts the marker into every text that a model controls.
type chatty struct{}

func (chatty) Generate(_ context.Context, req *llm.Request, stream func(llm.Chunk) error) (*llm.Response, error) {
	if strings.Contains(req.Task.Input.Message, "model fails") {
		return nil, &llm.Error{Err: errors.New("rejected: " + marker), Detail: marker, Retryable: true}
	}
	if len(req.Messages) == 2 { // instructions and prompt
		return &llm.Response{Text: marker, Finish: llm.FinishToolCalls, ToolCalls: []llm.ToolCall{
			{ID: marker, Name: "works", Arguments: json.RawMessage(`{"q":"` + marker + `"}`)},
			{Name: "breaks", Arguments: json.RawMessage(`{"q":"` + marker + `"}`)},
			{Name: "hangs", Arguments: json.RawMessage(`{}`)},
			{Name: marker, Arguments: json.RawMessage(`{}`)},
		}}, nil
	}
	if err := stream(llm.Chunk{Type: "x_note", Payload: map[string]string{"text": marker}}); err != nil {
		return nil, err
	}
	if strings.Contains(req.Task.Input.Message, "declines") {
		return &llm.Response{Finish: llm.FinishRefusal, Detail: marker}, nil
	}
	return &llm.Response{Text: marker, Finish: llm.FinishStop, Detail: marker}, nil
}

// No text of callers, models, tools and receivers is in a span or a metric.
func TestTelemetry_texts_areNotRecorded(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	receiverURL, callbacks, got := receiver(t, http.StatusTeapot)
	q := []byte(`{"type":"object","properties":{"q":{"type":"string"}}}`)
	agent, err := llm.NewAgent(chatty{}, &llm.AgentOptions{
		Hooks: p.Agent(otelwebtrigger.Model{Provider: "acme", Name: "m"}),
		Tools: []llm.Tool{
			{Name: "works", Parameters: q, Call: func(context.Context, json.RawMessage) (string, error) { return marker, nil }},
			{Name: "breaks", Parameters: q, Call: func(context.Context, json.RawMessage) (string, error) { return "", errors.New(marker) }},
			{Name: "hangs", Timeout: 10 * time.Millisecond, Call: func(ctx context.Context, _ json.RawMessage) (string, error) {
				<-ctx.Done()
				return "", errors.New(marker)
			}},
		},
	})
	require.NoError(t, err)
	svc := p.service(t, memstore.New(nil), agent, webtrigger.Options{Callback: callbacks})
	_, secret, err := svc.CreateKey(t.Context(), "1", webtrigger.KeySpec{Name: marker})
	require.NoError(t, err)
	task, err := svc.CreateTaskDefinition(t.Context(), webtrigger.TaskDefinition{
		AssistantID: "1", Name: marker, Instructions: marker, OutputType: webtrigger.OutputMarkdown, Active: true,
	})
	require.NoError(t, err)
	stop := work(t, svc)
	trigger := func(message, hook string) {
		t.Helper()
		w := ask(t, svc, secret, "POST", "http://user:"+marker+"@app.example.com/"+marker+"/api/v1/assistants/1/web-trigger?key="+marker,
			fmt.Sprintf(`{"message":%q,"subject":%q,"context":{%q:%q},"metadata":%q,"callback_url":%q,"task_definition_id":%d}`,
				message+marker, marker, marker, marker, marker, hook, task.ID),
			"Idempotency-Key", marker+strconv.Itoa(len(message)), "User-Agent", marker, "Referer", marker, "X-Request-Id", marker, "Cookie", marker, "tracestate", "x="+marker)
		require.Equal(t, http.StatusAccepted, w.Code, w.Body)
		<-got
	}
	hook := receiverURL + "/" + marker + "?token=" + marker
	trigger("fine ", hook)
	trigger("model fails ", hook)
	trigger("declines ", hook)
	require.Equal(t, 404, ask(t, svc, secret, "GET", "http://app.example.com/"+marker, "").Code)
	require.Equal(t, 405, ask(t, svc, secret, strings.ToUpper(marker), "http://app.example.com/api/v1/web-triggers/1/status", "").Code)
	require.Equal(t, 404, ask(t, svc, secret, "GET", "http://app.example.com/api/v1/web-triggers/"+marker+"/status", "").Code)
	_, err = svc.CancelRun(t.Context(), 1, marker)
	require.NoError(t, err)
	stop()
	paused, err := svc.Trigger(t.Context(), "1", webtrigger.TriggerRequest{Message: marker})
	require.NoError(t, err)
	_, err = svc.CancelRun(t.Context(), paused.ID, marker)
	require.NoError(t, err)

	spans := p.spans.GetSpans()
	page, err := os.ReadFile("../docs/observability.md")
	require.NoError(t, err)
	names := make(map[string]int)
	for _, s := range spans {
		names[s.Name]++
		for _, attribute := range s.Attributes {
			require.Contains(t, string(page), "`"+string(attribute.Key)+"`", "it is documented")
		}
		for text, where := range map[string]string{marker: "the message", secret: "the key", secret[:8]: "a part of the key"} {
			require.NotContains(t, strings.ToLower(fmt.Sprintf("%+v", s)), strings.ToLower(text), "%s in %s", where, s.Name)
		}
	}
	require.Equal(t, map[string]int{
		"POST /api/v1/assistants/{assistant_id}/web-trigger": 3, "GET": 1, "GET /api/v1/web-triggers/{trigger_id}/status": 1,
		"HTTP /api/v1/web-triggers/{trigger_id}/status": 1, "queued": 3, "invoke_agent": 3, "chat m": 5, "execute_tool works": 2,
		"execute_tool breaks": 2, "execute_tool hangs": 2, "execute_tool": 2, "POST": 3,
	}, names, "all kinds of spans were looked at")
	metrics := p.metrics(t)
	require.Len(t, metrics, 9)
	require.NotContains(t, fmt.Sprintf("%+v", metrics), marker)
	require.NotContains(t, fmt.Sprintf("%+v", metrics), secret[:8])
}
