package mcptools

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// textOf returns the text of a result for the model: the texts of its content, one below
// the other. If there is no content, it is the structured content as JSON.
func textOf(result *sdk.CallToolResult) (string, error) {
	if result.NeedsInput() {
		return "", errors.New("tool requests input by a person, which a run does not have")
	}
	var parts []string
	for _, content := range result.Content {
		raw, err := content.MarshalJSON() // typed, if the transport is one of the host
		if err != nil {
			return "", fmt.Errorf("read result: %w", err)
		}
		parts = append(parts, render(raw))
	}
	text := strings.Join(parts, "\n")
	if strings.TrimSpace(text) == "" && result.StructuredContent != nil {
		raw, err := json.Marshal(result.StructuredContent)
		if err != nil {
			return "", fmt.Errorf("read result: %w", err)
		}
		text = string(raw)
	}
	switch empty := strings.TrimSpace(text) == ""; {
	case result.IsError && empty:
		return "", errors.New("tool failed without an error message")
	case result.IsError:
		return "", errors.New(text)
	case empty:
		return "[the tool returned no content]", nil
	}
	return text, nil
}
