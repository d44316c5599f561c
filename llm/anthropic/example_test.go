package anthropic_test

import (
	"log/slog"
	"os"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/anthropic"
	"github.com/webtrigger-go/webtrigger/store/memstore"
)

// An assistant on a model of Anthropic's.
func Example() {
	model, err := anthropic.New(os.Getenv("ANTHROPIC_API_KEY"), &anthropic.Options{
		Effort: "medium",
		Retry:  &llm.RetryOptions{Logger: slog.Default()},
	})
	if err != nil {
		panic(err)
	}
	agent, err := llm.NewAgent(model, nil)
	if err != nil {
		panic(err)
	}
	_, _ = webtrigger.New(memstore.New(nil), agent, nil)
}
