package admin

import (
	"encoding/json"
	"net/http"
	"strconv"

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
	ID        int64           `json:"id"`
	RunID     int64           `json:"run_id"`
	Role      webtrigger.Role `json:"role"`
	Content   string          `json:"content"`
	CreatedAt string          `json:"created_at"`
}

// listMessages lists the transcript of a conversation, oldest first. It also has the
// answers that a run was not completed with, such as JSON that does not match the schema.
func (h *Handler) listMessages(w http.ResponseWriter, r *http.Request, id int64) error {
	q := readQuery(r)
	limit, after := q.limit(), int64(0)
	if last := q.cursor(); last != "" {
		var ok bool
		if after, ok = parseID(last); !ok {
			q.failCursor()
		}
	}
	if q.err != nil {
		return q.err
	}
	messages, err := h.svc.Messages(r.Context(), id, after, limit)
	if err != nil {
		return err
	}
	next := ""
	if len(messages) == limit {
		last := messages[len(messages)-1].ID
		more, err := h.svc.Messages(r.Context(), id, last, 1)
		if err != nil {
			return err
		}
		if len(more) > 0 {
			next = newCursor(strconv.FormatInt(last, 10))
		}
	}
	return writeList(w, messages, next, func(m webtrigger.Message) messageView {
		return messageView{m.ID, m.RunID, m.Role, m.Content, wire.FormatTime(m.CreatedAt)}
	})
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
