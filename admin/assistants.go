package admin

import (
	"fmt"
	"net/http"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

type assistantView struct {
	ID   string  `json:"id"`
	Name *string `json:"name"`
}

func viewAssistant(a Assistant) assistantView {
	return assistantView{a.ID, wire.NullableString(a.Name)}
}

// listAssistants lists the host's assistants, all at once and in the host's order. If
// the host does not list any, it lists those with stored settings or triggers, by id.
func (h *Handler) listAssistants(w http.ResponseWriter, r *http.Request, _ struct{}) error {
	q := readQuery(r)
	limit, after := q.limit(), q.cursor()
	if q.err == nil && after != "" && !webtrigger.ValidAssistantID(after) {
		q.failCursor()
	}
	if q.err != nil {
		return q.err
	}
	if h.opts.Assistants != nil {
		assistants, err := h.opts.Assistants(r.Context())
		if err != nil {
			return fmt.Errorf("list assistants: %w", err)
		}
		return writeList(w, assistants, "", viewAssistant)
	}
	ids, err := h.svc.Assistants(r.Context(), after, limit)
	if err != nil {
		return err
	}
	next := ""
	if len(ids) == limit {
		last := ids[len(ids)-1]
		more, err := h.svc.Assistants(r.Context(), last, 1)
		if err != nil {
			return err
		}
		if len(more) > 0 {
			next = newCursor(last)
		}
	}
	return writeList(w, ids, next, func(id string) assistantView { return viewAssistant(Assistant{ID: id}) })
}

type toolView struct {
	Name        string  `json:"name"`
	Description *string `json:"description"`
}

func (h *Handler) listTools(w http.ResponseWriter, r *http.Request, _ struct{}) error {
	var tools []Tool
	if h.opts.Tools != nil {
		var err error
		if tools, err = h.opts.Tools(r.Context()); err != nil {
			return fmt.Errorf("list tools: %w", err)
		}
	}
	return writeList(w, tools, "", func(t Tool) toolView {
		return toolView{t.Name, wire.NullableString(t.Description)}
	})
}
