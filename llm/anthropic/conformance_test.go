package anthropic_test

import (
	"testing"

	"github.com/webtrigger-go/webtrigger/llm"
	"github.com/webtrigger-go/webtrigger/llm/anthropic"
	"github.com/webtrigger-go/webtrigger/llm/internal/adaptertest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, d := range adaptertest.Anthropic(newModel) {
		adaptertest.Run(t, d)
	}
}

func newModel(c adaptertest.Connection) (llm.LLM, error) {
	return anthropic.New(adaptertest.Key, &anthropic.Options{BaseURL: c.BaseURL, Model: c.Model, HTTPClient: c.Client, Retry: c.Retry})
}

func FuzzSchema(f *testing.F) { adaptertest.FuzzSchema(f, adaptertest.Anthropic(newModel)[0]) }

func FuzzStream(f *testing.F) {
	const end = "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":\"1\"}}\n\n"
	adaptertest.FuzzStream(f, adaptertest.Anthropic(newModel)[0], end,
		"data: {\"type\":\"content_block_start\",\"index\":-7,\"content_block\":{\"type\":\"tool_use\",\"id\":\"\",\"name\":\"x\",\"input\":[]}}\n\n"+end,
		"data: {\"type\":\"content_block_start\",\"content_block\":null}\n\n"+end,
		`{"type":"message","content":[{"type":"text","text":"a"}],"stop_reason":"end_turn"}`)
}
