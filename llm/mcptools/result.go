package mcptools

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// said is what a model hears of a result: its texts one below the other, or else
// its structured content as JSON. What a model cannot read is described.
func said(result *sdk.CallToolResult) (string, error) {
	if result.NeedsInput() {
		return "", errors.New("the tool asks for input by a person, and nobody is there")
	}
	var parts []string
	for _, content := range result.Content {
		parts = append(parts, part(content))
	}
	text := strings.Join(parts, "\n")
	if len(parts) == 0 && result.StructuredContent != nil {
		raw, err := json.Marshal(result.StructuredContent)
		if err != nil {
			return "", fmt.Errorf("read result: %w", err)
		}
		text = string(raw)
	}
	if !result.IsError {
		return text, nil
	}
	if strings.TrimSpace(text) == "" {
		text = "the tool failed without saying why"
	}
	return "", errors.New(text)
}

func part(content sdk.Content) string {
	switch content := content.(type) {
	case *sdk.TextContent:
		return content.Text
	case *sdk.ImageContent:
		return fmt.Sprintf("[an image, %s, %d bytes, which is not shown]", content.MIMEType, len(content.Data))
	case *sdk.AudioContent:
		return fmt.Sprintf("[a recording, %s, %d bytes, which is not played]", content.MIMEType, len(content.Data))
	case *sdk.ResourceLink:
		return strings.TrimSpace(fmt.Sprintf("[%s] %s %s", content.URI, content.Name, content.Description))
	case *sdk.EmbeddedResource:
		return resource(content.Resource)
	}
	return "[something that is not shown]"
}

func resource(r *sdk.ResourceContents) string {
	switch {
	case r == nil:
		return "[something that is not shown]"
	case r.Text != "" || len(r.Blob) == 0:
		return fmt.Sprintf("[%s]\n%s", r.URI, r.Text)
	}
	return fmt.Sprintf("[%s, %s, %d bytes, which are not shown]", r.URI, r.MIMEType, len(r.Blob))
}
