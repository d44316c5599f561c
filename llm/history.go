package llm

import (
	"fmt"
	"slices"

	"github.com/webtrigger-go/webtrigger"
)

// history returns earlier messages of a conversation as the model gets them: the newest
// turns of at most size bytes together, from a message of the user on. Without tools,
// it has no tool calls: vendors reject them in a request that defines no tools.
func history(earlier []webtrigger.Message, size int, tools bool) []Message {
	var kept [][]Message // newest first
	for _, turn := range slices.Backward(turnsOf(earlier, tools)) {
		for _, m := range turn {
			size -= stored(m).Size()
		}
		if size < 0 {
			break
		}
		kept = append(kept, turn)
	}
	for len(kept) > 0 && kept[len(kept)-1][0].Role != webtrigger.RoleUser {
		kept = kept[:len(kept)-1]
	}
	slices.Reverse(kept)
	return slices.Concat(kept...)
}

// turnsOf groups messages into turns. A turn is one message, or tool calls with their
// results. Vendors reject a call without a result, so a call of a run that ended early
// gets one. A result without its call is omitted. The calls get new ids, because each
// run counts its own.
func turnsOf(earlier []webtrigger.Message, tools bool) [][]Message {
	var turns [][]Message
	count := 0 // of the calls
	for i, m := range earlier {
		if m.Role == webtrigger.RoleTool {
			continue // it is in the turn of its call
		}
		if !tools {
			m.ToolCalls = nil
		}
		if len(m.ToolCalls) == 0 && blank(m.Content) {
			continue // vendors reject empty messages
		}
		turn := []Message{{Role: m.Role, Content: m.Content}}
		for _, call := range m.ToolCalls {
			result := resultOf(call.ID, m.RunID, earlier[i+1:])
			count++
			call.ID = fmt.Sprintf("earlier_%d", count)
			turn[0].ToolCalls = append(turn[0].ToolCalls, call)
			turn = append(turn, Message{Role: webtrigger.RoleTool, Content: result, ToolCallID: call.ID})
		}
		turns = append(turns, turn)
	}
	return turns
}

// resultOf returns the result of a call among the messages after it.
func resultOf(id string, run int64, later []webtrigger.Message) string {
	for _, m := range later {
		if m.RunID != run || m.Role != webtrigger.RoleTool {
			break
		}
		if m.ToolCallID == id {
			return m.Content
		}
	}
	return noResult
}

// noResult is the result of a call of an earlier run that has none.
const noResult = "No result is recorded: the run ended before it, or its transcript was too long."

// stored is a message as a transcript has it.
func stored(m Message) *webtrigger.NewMessage {
	return &webtrigger.NewMessage{Role: m.Role, Content: m.Content, ToolCalls: m.ToolCalls, ToolCallID: m.ToolCallID}
}
