package main

import (
	"log/slog"

	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/anthropic"
	"github.com/webtrigger-go/webtrigger/llm/openai"
	"github.com/webtrigger-go/webtrigger/llm/scripted"
)

// chosenModel is the model and the name that the server prints at its start.
type chosenModel struct {
	llm.LLM
	name string
}

// chooseModel returns the model of the first vendor whose key is in the environment.
// Without a key, it is the scripted model.
func chooseModel(getenv func(string) string, log *slog.Logger) (*chosenModel, error) {
	retry := &llm.RetryOptions{Logger: log}
	if key := getenv("OPENAI_API_KEY"); key != "" {
		name := orDefault(getenv("OPENAI_MODEL"), openai.DefaultModel)
		model, err := openai.New(key, &openai.Options{BaseURL: getenv("OPENAI_BASE_URL"), Model: name, Retry: retry})
		return &chosenModel{model, name + " (by OPENAI_API_KEY)"}, err
	}
	if key := getenv("ANTHROPIC_API_KEY"); key != "" {
		name := orDefault(getenv("ANTHROPIC_MODEL"), anthropic.DefaultModel)
		model, err := anthropic.New(key, &anthropic.Options{BaseURL: getenv("ANTHROPIC_BASE_URL"), Model: name, Retry: retry})
		return &chosenModel{model, name + " (by ANTHROPIC_API_KEY)"}, err
	}
	return &chosenModel{scripted.New(), "scripted (a real one: set OPENAI_API_KEY or ANTHROPIC_API_KEY)"}, nil
}

func orDefault(s, or string) string {
	if s == "" {
		return or
	}
	return s
}
