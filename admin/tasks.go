package admin

import (
	"encoding/json"
	"net/http"

	"github.com/webtrigger-go/webtrigger"
	"github.com/webtrigger-go/webtrigger/internal/wire"
)

type taskView struct {
	ID           int64                 `json:"id"`
	AssistantID  string                `json:"assistant_id"`
	Name         string                `json:"name"`
	Instructions string                `json:"instructions"`
	OutputType   webtrigger.OutputType `json:"output_type"`
	AllowedTools []string              `json:"allowed_tools"`
	OutputSchema json.RawMessage       `json:"output_schema"` // nil is null
	Active       bool                  `json:"active"`
	CreatedAt    string                `json:"created_at"`
	UpdatedAt    string                `json:"updated_at"`
}

func viewTask(t webtrigger.TaskDefinition) taskView {
	if t.AllowedTools == nil {
		t.AllowedTools = []string{} // never null
	}
	return taskView{
		t.ID, t.AssistantID, t.Name, t.Instructions, t.OutputType, t.AllowedTools, t.OutputSchema, t.Active,
		wire.FormatTime(t.CreatedAt), wire.FormatTime(t.UpdatedAt),
	}
}

func (h *Handler) listTasks(w http.ResponseWriter, r *http.Request, assistantID string) error {
	return writePage(w, readQuery(r), func(page webtrigger.Page) ([]webtrigger.TaskDefinition, error) {
		return h.svc.TaskDefinitions(r.Context(), assistantID, page)
	}, func(t webtrigger.TaskDefinition) int64 { return t.ID }, viewTask)
}

func (h *Handler) createTask(w http.ResponseWriter, r *http.Request, assistantID string) error {
	task, err := h.readTask(w, r)
	if err != nil {
		return err
	}
	task.AssistantID = assistantID
	if task, err = h.svc.CreateTaskDefinition(r.Context(), task); err != nil {
		return err
	}
	return wire.WriteJSON(w, http.StatusCreated, viewTask(task))
}

func (h *Handler) getTask(w http.ResponseWriter, r *http.Request, id int64) error {
	task, err := h.svc.TaskDefinition(r.Context(), id)
	if err != nil {
		return err
	}
	return wire.WriteJSON(w, http.StatusOK, viewTask(task))
}

// putTask replaces all that a definition says: what the body leaves out gets its
// default, not what was there.
func (h *Handler) putTask(w http.ResponseWriter, r *http.Request, id int64) error {
	task, err := h.readTask(w, r)
	if err != nil {
		return err
	}
	task.ID = id
	if task, err = h.svc.UpdateTaskDefinition(r.Context(), task); err != nil {
		return err
	}
	return wire.WriteJSON(w, http.StatusOK, viewTask(task))
}

func (h *Handler) deleteTask(w http.ResponseWriter, r *http.Request, id int64) error {
	if err := h.svc.DeleteTaskDefinition(r.Context(), id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// readTask reads a definition from the body, without id and assistant.
func (h *Handler) readTask(w http.ResponseWriter, r *http.Request) (webtrigger.TaskDefinition, error) {
	b, err := h.readBody(w, r, "name", "instructions", "output_type", "allowed_tools", "output_schema", "active")
	if err != nil {
		return webtrigger.TaskDefinition{}, err
	}
	task := webtrigger.TaskDefinition{
		Name:         b.neededText("name"),
		Instructions: b.neededText("instructions"),
		OutputType:   webtrigger.OutputType(b.givenText("output_type")), // the service makes "" text
		AllowedTools: b.givenTexts("allowed_tools"),
		OutputSchema: b.givenObject("output_schema"),
		Active:       b.givenBoolean("active", true),
	}
	if b.err() != nil {
		// Without an assistant, the call only returns the other faults.
		_, err := h.svc.CreateTaskDefinition(r.Context(), task)
		return webtrigger.TaskDefinition{}, b.errWith(err, "/assistant_id")
	}
	return task, nil
}
