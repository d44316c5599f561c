package llm_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/llm"
)

// earlier is a conversation of two runs: one that called a tool, and one that
// ended while its second call was under way.
func earlier() []webtrigger.Message {
	lookup := func(id string) webtrigger.ToolCall {
		return webtrigger.ToolCall{ID: id, Name: "a", Arguments: json.RawMessage(`{"n":1}`)}
	}
	return []webtrigger.Message{
		{RunID: 1, Role: webtrigger.RoleUser, Content: "first"},
		{RunID: 1, Role: webtrigger.RoleAssistant, ToolCalls: []webtrigger.ToolCall{lookup("c1")}},
		{RunID: 1, Role: webtrigger.RoleTool, Content: "found 1", ToolCallID: "c1"},
		{RunID: 1, Role: webtrigger.RoleAssistant, Content: "answer"},
		{RunID: 2, Role: webtrigger.RoleUser, Content: "second"},
		{RunID: 2, Role: webtrigger.RoleAssistant, Content: "I look.", ToolCalls: []webtrigger.ToolCall{lookup("c1"), lookup("c2")}},
		{RunID: 2, Role: webtrigger.RoleTool, Content: "found 2", ToolCallID: "c1"},
	}
}

// asked returns the messages of the first request of a run that has the history.
func asked(t *testing.T, opts *llm.AgentOptions, history []webtrigger.Message) []llm.Message {
	t.Helper()
	model := &answers{responses: []llm.Response{says("ok")}}
	task := task(nil)
	task.History = history
	_, err := newAgent(t, model, opts).Run(t.Context(), task, new(recorder).emit)
	require.NoError(t, err)
	return model.requests[0].Messages
}

func withTool() *llm.AgentOptions {
	return &llm.AgentOptions{Tools: []llm.Tool{tool("a", nil, result("x"))}}
}

func TestHistory_toolCalls_haveTheirResults(t *testing.T) {
	t.Parallel()
	messages := asked(t, withTool(), earlier())
	require.Len(t, messages, 9)
	require.Equal(t, "hello", messages[8].Content, "the prompt comes last")
	require.Equal(t, "c1", earlier()[1].ToolCalls[0].ID)
	ids := map[string]bool{}
	for i, m := range messages {
		for k, call := range m.ToolCalls {
			require.False(t, ids[call.ID], "ids must be unique in the conversation")
			ids[call.ID] = true
			require.Equal(t, webtrigger.RoleTool, messages[i+1+k].Role)
			require.Equal(t, call.ID, messages[i+1+k].ToolCallID)
		}
	}
	require.Len(t, ids, 3)
	require.Equal(t, "found 1", messages[2].Content)
	require.Equal(t, "found 2", messages[6].Content)
	require.Contains(t, messages[7].Content, "No result", "the run ended before its second call returned")
}

func TestHistory_withoutTools_hasTextOnly(t *testing.T) {
	t.Parallel()
	var texts []string
	for _, m := range asked(t, nil, earlier()) {
		require.Empty(t, m.ToolCalls)
		texts = append(texts, string(m.Role)+": "+m.Content)
	}
	require.Equal(t, []string{"user: first", "assistant: answer", "user: second", "assistant: I look.", "user: hello"}, texts)
}

// The prompt is always sent, so a size of n keeps what fits beside it.
func TestHistory_beyondMaxHistory_dropsOldestWholeTurns(t *testing.T) {
	t.Parallel()
	all := asked(t, withTool(), earlier())
	seen := map[int]bool{}
	for size := 1; size < 200; size++ {
		opts := withTool()
		opts.MaxHistory = size
		messages := asked(t, opts, earlier())
		seen[len(messages)] = true
		require.Equal(t, webtrigger.RoleUser, messages[0].Role, "vendors require that the user begins")
		for i, m := range messages {
			if m.Role == webtrigger.RoleTool {
				require.NotZero(t, i)
				require.True(t, messages[i-1].Role == webtrigger.RoleTool || len(messages[i-1].ToolCalls) > 0, "a result must follow its call")
			}
		}
		for i := range messages {
			require.Equal(t, all[len(all)-len(messages)+i].Content, messages[i].Content, "the newest must be kept")
		}
	}
	require.Equal(t, map[int]bool{1: true, 5: true, 9: true}, seen)

	opts := withTool()
	opts.MaxHistory = -1
	require.Len(t, asked(t, opts, earlier()), 1)
}

func TestHistory_firstResultWithoutCall_isOmitted(t *testing.T) {
	t.Parallel()
	messages := asked(t, withTool(), earlier()[2:])
	require.Equal(t, "second", messages[0].Content)
}

func TestHistory_ofModelWithTheSameIDs_keepsThemUnique(t *testing.T) {
	t.Parallel()
	model := &answers{responses: []llm.Response{
		{Finish: llm.FinishToolCalls, ToolCalls: []llm.ToolCall{call("earlier_1", "a", `{}`)}}, says("ok"),
	}}
	task := task(nil)
	task.History = earlier()
	got, err := newAgent(t, model, withTool()).Run(t.Context(), task, new(recorder).emit)
	require.NoError(t, err)
	require.NotEqual(t, "earlier_1", model.last().ToolCallID)
	require.Equal(t, "a", got.Messages[0].ToolCalls[0].Name, "the transcript has the calls of this run")
	require.Equal(t, got.Messages[0].ToolCalls[0].ID, got.Messages[1].ToolCallID)
	require.Len(t, got.Messages, 2)
}

// The service fails a run whose transcript is larger, counted by Size.
func TestTranscript_largeToolCalls_isCut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		turns, calls          int
		id, arguments, result int // sizes
	}{
		"arguments": {15, 1, 2, 1 << 20, 1},
		"ids":       {10, 50, 256, 2, 8000}, // without the ids of the results, it would not be too large
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			model := &answers{}
			for n := range c.turns {
				var turn []llm.ToolCall
				for k := range c.calls {
					id := fmt.Sprint(n*c.calls + k)
					turn = append(turn, call(id+strings.Repeat("i", c.id-min(len(id), c.id)), "a", "{"+strings.Repeat(" ", c.arguments-2)+"}"))
				}
				model.responses = append(model.responses, llm.Response{Finish: llm.FinishToolCalls, ToolCalls: turn})
			}
			model.responses = append(model.responses, says("ok"))
			got, err := newAgent(t, model, &llm.AgentOptions{Tools: []llm.Tool{tool("a", nil, result(strings.Repeat("x", c.result)))}}).Run(t.Context(), task(nil), new(recorder).emit)
			require.NoError(t, err)
			size := 0
			for _, m := range got.Messages {
				size += m.Size()
			}
			require.LessOrEqual(t, size, webtrigger.MaxResultMessagesBytes)
			require.Contains(t, got.Messages[len(got.Messages)-1].Content, "truncated")
		})
	}
}
