package admin

import (
	"encoding/json"
	"net/http"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

type conversationView struct {
	ID          int64           `json:"id"`
	AssistantID string          `json:"assistant_id"`
	Subject     string          `json:"subject"`
	Metadata    json.RawMessage `json:"metadata"` // as sent; nil is null
	CreatedAt   string          `json:"created_at"`
}

func (h *Handler) getConversation(w http.ResponseWriter, r *http.Request, id int64) error {
	c, err := h.svc.Conversation(r.Context(), id)
	if err != nil {
		return err
	}
	return wire.WriteJSON(w, http.StatusOK, conversationView{c.ID, c.AssistantID, c.Subject, c.Metadata, wire.FormatTime(c.CreatedAt)})
}

type messageView struct {
	ID         int64                 `json:"id"`
	RunID      int64                 `json:"run_id"`
	Role       webtrigger.Role       `json:"role"`
	Content    string                `json:"content"`
	ToolCalls  []webtrigger.ToolCall `json:"tool_calls,omitempty"`
	ToolCallID string                `json:"tool_call_id,omitempty"`
	CreatedAt  string                `json:"created_at"`
}

func viewMessage(m webtrigger.Message) messageView {
	return messageView{m.ID, m.RunID, m.Role, m.Content, m.ToolCalls, m.ToolCallID, wire.FormatTime(m.CreatedAt)}
}

// listMessages lists the transcript of a conversation, oldest first. It also has the
// answers that a run was not completed with, such as JSON that does not match the schema.
func (h *Handler) listMessages(w http.ResponseWriter, r *http.Request, id int64) error {
	return writePage(w, readQuery(r), func(page webtrigger.Page) ([]webtrigger.Message, error) {
		return h.svc.Messages(r.Context(), id, page.Before, page.Limit) // this list is by rising id
	}, func(m webtrigger.Message) int64 { return m.ID }, viewMessage)
}

// eraseConversation deletes the conversation with its runs and all of their data.
func (h *Handler) eraseConversation(w http.ResponseWriter, r *http.Request, id int64) error {
	if err := h.svc.EraseTrigger(r.Context(), id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// getQueue returns the open runs of all assistants, as of one instant.
func (h *Handler) getQueue(w http.ResponseWriter, r *http.Request, _ struct{}) error {
	state, err := h.svc.QueueState(r.Context())
	if err != nil {
		return err
	}
	return wire.WriteJSON(w, http.StatusOK, struct {
		Queued      int   `json:"queued"`
		Running     int   `json:"running"`
		OldestAgeMS int64 `json:"oldest_age_ms"`
	}{state.Queued, state.Running, state.OldestAge.Milliseconds()})
}
