package admin

import (
	"encoding/json"
	"net/http"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// conversationView is a conversation in a list.
type conversationView struct {
	ID              int64   `json:"id"`
	AssistantID     string  `json:"assistant_id"`
	ConversationKey *string `json:"conversation_key"`
	Subject         string  `json:"subject"`
	CreatedAt       string  `json:"created_at"`
}

func viewConversation(c webtrigger.Conversation) conversationView {
	return conversationView{c.ID, c.AssistantID, wire.NullableString(c.Key), c.Subject, wire.FormatTime(c.CreatedAt)}
}

type conversationSummaryView struct {
	conversationView
	LastRun runView `json:"last_run"`
}

// listConversations lists conversations, newest first, each with its newest run.
func (h *Handler) listConversations(w http.ResponseWriter, r *http.Request, q *query) error {
	query := webtrigger.ConversationQuery{AssistantID: q.assistantID("assistant_id"), Key: q.conversationKey("conversation_key")}
	return writePage(w, q, func(page webtrigger.Page) ([]webtrigger.ConversationSummary, error) {
		query.Page = page
		return h.svc.Conversations(r.Context(), query)
	}, func(c webtrigger.ConversationSummary) int64 { return c.ID }, func(c webtrigger.ConversationSummary) conversationSummaryView {
		return conversationSummaryView{viewConversation(c.Conversation), viewRun(c.LastRun)}
	})
}

func (h *Handler) getConversation(w http.ResponseWriter, r *http.Request, id int64) error {
	c, err := h.svc.Conversation(r.Context(), id)
	if err != nil {
		return err
	}
	return wire.WriteJSON(w, http.StatusOK, struct {
		conversationView
		Metadata json.RawMessage `json:"metadata"` // as sent; nil is null
	}{viewConversation(c), c.Metadata})
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

// listMessages lists the transcript of a conversation, or of one of its runs, oldest
// first. It also has the answers that a run was not completed with, such as JSON that
// does not match the schema.
func (h *Handler) listMessages(w http.ResponseWriter, r *http.Request, id int64) error {
	q := readQuery(r)
	query := webtrigger.MessageQuery{ConversationID: id, RunID: q.id("run_id")}
	return writePage(w, q, func(page webtrigger.Page) ([]webtrigger.Message, error) {
		query.After, query.Limit = page.Before, page.Limit // this list is by rising id
		return h.svc.Messages(r.Context(), query)
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
		Waiting     int   `json:"waiting"`
		OldestAgeMS int64 `json:"oldest_age_ms"`
	}{state.Queued, state.Running, state.Waiting, state.OldestAge.Milliseconds()})
}
