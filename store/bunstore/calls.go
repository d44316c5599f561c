package bunstore

import (
	"encoding/json"
	"fmt"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// storedCalls is the column "calls" of a message, which is NULL if both are empty.
type storedCalls struct {
	Calls  []webtrigger.ToolCall `json:"calls,omitempty"`  // of an assistant message
	Answer string                `json:"answer,omitempty"` // of a tool message: the id of its call
}

func encodeCalls(m *webtrigger.NewMessage) (*string, error) {
	if len(m.ToolCalls) == 0 && m.ToolCallID == "" {
		return nil, nil
	}
	b, err := wire.Marshal(storedCalls{m.ToolCalls, m.ToolCallID})
	if err != nil {
		return nil, fmt.Errorf("bunstore: encode tool calls: %w", err)
	}
	text := string(b)
	return &text, nil
}

// scanCalls reads the column "calls" into a message.
type scanCalls struct{ m *webtrigger.Message }

// Scan implements [database/sql.Scanner].
func (c scanCalls) Scan(value any) error {
	var text []byte
	switch value := value.(type) {
	case nil:
		return nil
	case string:
		text = []byte(value)
	case []byte:
		text = value
	default:
		return fmt.Errorf("bunstore: read tool calls: unexpected type %T", value)
	}
	var stored storedCalls
	if err := json.Unmarshal(text, &stored); err != nil {
		return fmt.Errorf("bunstore: read tool calls: %w", err)
	}
	c.m.ToolCalls, c.m.ToolCallID = stored.Calls, stored.Answer
	return nil
}
