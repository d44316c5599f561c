package openai_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/internal/adaptertest"
	"github.com/webtrigger-go/webtrigger/llm/openai"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, d := range adaptertest.OpenAI(newModel, newAzure) {
		adaptertest.Run(t, d)
	}
}

func newModel(c adaptertest.Connection) (llm.LLM, error) {
	return openai.New(adaptertest.Key, &openai.Options{BaseURL: c.BaseURL + "/v1", Model: c.Model, HTTPClient: c.Client, Retry: c.Retry})
}

func newAzure(c adaptertest.Connection) (llm.LLM, error) {
	return openai.New("", &openai.Options{
		BaseURL: c.BaseURL + "/openai/deployments/gpt", HTTPClient: c.Client, Retry: c.Retry,
		Header: http.Header{"Api-Key": {adaptertest.Key}}, Query: url.Values{"api-version": {"2024-10-21"}},
	})
}

func FuzzSchema(f *testing.F) { adaptertest.FuzzSchema(f, adaptertest.OpenAI(newModel, newAzure)[0]) }

func FuzzStream(f *testing.F) {
	adaptertest.FuzzStream(f, adaptertest.OpenAI(newModel, newAzure)[0],
		"data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":-1,\"id\":7,\"function\":{\"name\":\"x\",\"arguments\":{}}}]},\"finish_reason\":\"tool_calls\"}]}\n\n",
		"data: {\"choices\":[{\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"<think>a</th\"}]},\"finish_reason\":\"stop\"}]}",
		`{"choices":[{"message":{"content":"<think>a</think>b","reasoning_details":[{"index":0,"text":"x"},{"index":0,"text":1}]},"finish_reason":"stop"}]}`,
		"data: {\"choices\":null,\"usage\":null}\n\n", "error: {\"code\":503}\n\n")
}
