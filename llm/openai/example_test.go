package openai_test

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/openai"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// An assistant on a model of OpenAI's, with a tool.
func Example() {
	clock, err := llm.NewTool("clock", "Returns the time.", func(context.Context, struct{}) (string, error) {
		return time.Now().Format(time.RFC3339), nil
	})
	if err != nil {
		panic(err)
	}
	model, err := openai.New(os.Getenv("OPENAI_API_KEY"), &openai.Options{
		Retry: &llm.RetryOptions{Logger: slog.Default()},
	})
	if err != nil {
		panic(err)
	}
	agent, err := llm.NewAgent(model, &llm.AgentOptions{Tools: []llm.Tool{clock}})
	if err != nil {
		panic(err)
	}
	_, _ = webtrigger.New(memstore.New(nil), agent, nil)
}

// A server of one's own that speaks the same API, here Ollama.
func ExampleOptions() {
	_, _ = openai.New("", &openai.Options{BaseURL: "http://127.0.0.1:11434/v1", Model: "qwen3"})
}
