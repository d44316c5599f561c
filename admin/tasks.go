package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

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
	ApproveTools []string              `json:"approve_tools"`
	OutputSchema json.RawMessage       `json:"output_schema"` // nil is null
	Active       bool                  `json:"active"`
	CreatedAt    string                `json:"created_at"`
	UpdatedAt    string                `json:"updated_at"`
}

func viewTask(t webtrigger.TaskDefinition) taskView {
	if t.AllowedTools == nil {
		t.AllowedTools = []string{} // never null
	}
	if t.ApproveTools == nil {
		t.ApproveTools = []string{}
	}
	return taskView{
		t.ID, t.AssistantID, t.Name, t.Instructions, t.OutputType, t.AllowedTools, t.ApproveTools, t.OutputSchema, t.Active,
		wire.FormatTime(t.CreatedAt), wire.FormatTime(t.UpdatedAt),
	}
}

func (h *Handler) listTasks(w http.ResponseWriter, r *http.Request, assistantID string) error {
	return h.writeTasks(w, r, readQuery(r), webtrigger.TaskDefinitionQuery{AssistantID: assistantID})
}

// listAllTasks lists the definitions of all assistants, or of the one that the query
// names.
func (h *Handler) listAllTasks(w http.ResponseWriter, r *http.Request, q *query) error {
	return h.writeTasks(w, r, q, webtrigger.TaskDefinitionQuery{AssistantID: q.assistantID("assistant_id"), Active: q.boolean("active")})
}

func (h *Handler) writeTasks(w http.ResponseWriter, r *http.Request, q *query, query webtrigger.TaskDefinitionQuery) error {
	return writePage(w, q, func(page webtrigger.Page) ([]webtrigger.TaskDefinition, error) {
		query.Page = page
		return h.svc.TaskDefinitions(r.Context(), query)
	}, func(t webtrigger.TaskDefinition) int64 { return t.ID }, viewTask)
}

// writeTask answers with a definition and its ETag, for If-Match.
func writeTask(w http.ResponseWriter, status int, task webtrigger.TaskDefinition) error {
	w.Header().Set("ETag", taskTag(task.UpdatedAt))
	return wire.WriteJSON(w, status, viewTask(task))
}

func taskTag(updated time.Time) string { return `"` + wire.FormatTime(updated) + `"` }

// ifMatch reads the ETag of the definition that a PUT replaces, zero without one. The
// second result is false if it is not a tag of a definition.
func ifMatch(r *http.Request) (updated time.Time, ok bool) {
	tag := strings.Join(r.Header.Values("If-Match"), ",")
	if tag == "" || tag == "*" {
		return time.Time{}, true
	}
	updated, ok = parseTime(strings.Trim(tag, `"`))
	return updated, ok && storable(updated) && taskTag(updated) == tag
}

func changedMeanwhile() error {
	return &wire.Problem{Status: http.StatusPreconditionFailed, Code: "precondition_failed",
		Detail: "The resource has changed since it was read. Read it again and repeat the change."}
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
	return writeTask(w, http.StatusCreated, task)
}

func (h *Handler) getTask(w http.ResponseWriter, r *http.Request, id int64) error {
	task, err := h.svc.TaskDefinition(r.Context(), id)
	if err != nil {
		return err
	}
	return writeTask(w, http.StatusOK, task)
}

// putTask replaces a definition. A field that the body does not have gets its default,
// not its previous value.
func (h *Handler) putTask(w http.ResponseWriter, r *http.Request, id int64) error {
	task, err := h.readTask(w, r)
	if err != nil {
		return err
	}
	task.ID = id
	var ok bool
	if task.UpdatedAt, ok = ifMatch(r); !ok {
		return changedMeanwhile()
	}
	if task, err = h.svc.UpdateTaskDefinition(r.Context(), task); errors.Is(err, webtrigger.ErrConflict) {
		return changedMeanwhile()
	}
	if err != nil {
		return err
	}
	return writeTask(w, http.StatusOK, task)
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
	b, err := h.readBody(w, r, "name", "instructions", "output_type", "allowed_tools", "approve_tools", "output_schema", "active")
	if err != nil {
		return webtrigger.TaskDefinition{}, err
	}
	task := webtrigger.TaskDefinition{
		Name:         b.neededText("name"),
		Instructions: b.neededText("instructions"),
		OutputType:   webtrigger.OutputType(b.givenText("output_type")), // the service makes "" text
		AllowedTools: b.givenTexts("allowed_tools"),
		ApproveTools: b.givenTexts("approve_tools"),
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
