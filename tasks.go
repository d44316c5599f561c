package webtrigger

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/webtrigger-go/webtrigger/internal/wire"
)

// TaskDefinition is a task definition that a trigger may name. A run keeps a copy of
// the definition from the time of the trigger.
type TaskDefinition struct {
	ID           int64
	AssistantID  string
	Name         string // 1 to 100 characters
	Instructions string // 1 to 50,000 characters
	OutputType   OutputType
	AllowedTools []string        // further limit on the assistant's tools; if empty, there is no further limit
	ApproveTools []string        // tools whose calls wait for the approval of a person
	OutputSchema json.RawMessage // JSON Schema of a json result; nil for any JSON
	Active       bool            // if false, a trigger that names the definition is rejected
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// clone returns a copy that shares nothing with t; nil for nil.
func (t *TaskDefinition) clone() *TaskDefinition {
	if t == nil {
		return nil
	}
	c := *t
	c.AllowedTools, c.ApproveTools, c.OutputSchema = slices.Clone(t.AllowedTools), slices.Clone(t.ApproveTools), slices.Clone(t.OutputSchema)
	return &c
}

// OutputType is the format of a task's result.
type OutputType string

// Formats of a result.
const (
	OutputText     OutputType = "text"
	OutputMarkdown OutputType = "markdown"
	OutputJSON     OutputType = "json"
)

const (
	maxTaskName     = 100
	maxInstructions = 50_000
	maxTaskTools    = 100
	maxToolName     = 64
)

// TaskDefinitionQuery selects task definitions, newest first. A zero field does not
// limit the selection.
type TaskDefinitionQuery struct {
	AssistantID string
	Active      *bool
	Page        Page
}

// CreateTaskDefinition stores a task definition of an assistant and returns it with
// its id and times. If OutputType is empty, it is OutputText. It returns a
// [RequestError] if a field is invalid.
func (s *Service) CreateTaskDefinition(ctx context.Context, task TaskDefinition) (TaskDefinition, error) {
	if err := s.checkTask(&task); err != nil {
		return TaskDefinition{}, err
	}
	task, err := s.store.CreateTaskDefinition(audited(ctx, "task.create", "task/", auditedTaskOf(task)), task)
	if err != nil {
		return TaskDefinition{}, fmt.Errorf("create task: %w", err)
	}
	return task, nil
}

// TaskDefinition returns one task definition. It returns ErrNotFound if the
// definition does not exist.
func (s *Service) TaskDefinition(ctx context.Context, taskID int64) (TaskDefinition, error) {
	return s.store.TaskDefinition(ctx, taskID)
}

// TaskDefinitions lists the task definitions that match query, newest first. If query
// has an invalid assistant id, the list is empty.
func (s *Service) TaskDefinitions(ctx context.Context, query TaskDefinitionQuery) ([]TaskDefinition, error) {
	if query.AssistantID != "" && !ValidAssistantID(query.AssistantID) {
		return nil, nil
	}
	query.Page = query.Page.withDefaults()
	return s.store.TaskDefinitions(ctx, query)
}

// UpdateTaskDefinition replaces the task definition with the id of task and returns
// it. AssistantID is ignored: the assistant of a definition cannot change. Existing
// runs keep their copy. If UpdatedAt is set and another update came after it,
// UpdateTaskDefinition stores nothing and returns ErrConflict. So a definition that was
// read, changed and updated replaces no other change; to replace any, clear UpdatedAt. It returns
// ErrNotFound if the definition does not exist, and a [RequestError] if a field is invalid.
func (s *Service) UpdateTaskDefinition(ctx context.Context, task TaskDefinition) (TaskDefinition, error) {
	stored, err := s.store.TaskDefinition(ctx, task.ID)
	if err != nil {
		return TaskDefinition{}, fmt.Errorf("update task: %w", err)
	}
	task.AssistantID = stored.AssistantID
	if err := s.checkTask(&task); err != nil {
		return TaskDefinition{}, err
	}
	ctx = audited(ctx, "task.update", objectOf("task", task.ID), auditedTaskOf(task))
	if task, err = s.store.UpdateTaskDefinition(ctx, task); err != nil {
		return TaskDefinition{}, fmt.Errorf("update task: %w", err)
	}
	return task, nil
}

// DeleteTaskDefinition deletes a task definition. Existing runs keep their copy. It
// returns ErrNotFound if the definition does not exist.
func (s *Service) DeleteTaskDefinition(ctx context.Context, taskID int64) error {
	if err := s.store.DeleteTaskDefinition(audited(ctx, "task.delete", objectOf("task", taskID), nil), taskID); err != nil {
		return fmt.Errorf("delete task: %w", err)
	}
	return nil
}

// auditedTask is what the audit log has about a definition. Its texts may be long and
// are in the definition.
type auditedTask struct {
	AssistantID string     `json:"assistant_id"`
	Name        string     `json:"name"`
	OutputType  OutputType `json:"output_type"`
	Active      bool       `json:"active"`
}

func auditedTaskOf(task TaskDefinition) auditedTask {
	return auditedTask{task.AssistantID, task.Name, task.OutputType, task.Active}
}

// checkTask validates a definition and sets its defaults.
func (s *Service) checkTask(task *TaskDefinition) error {
	var f faults
	if !ValidAssistantID(task.AssistantID) {
		f.add("/assistant_id", assistantIDRule)
	}
	if utf8.RuneCountInString(task.Name) > maxTaskName || blank(task.Name) || !wire.CleanText(task.Name) {
		f.add("/name", "must be 1 to 100 characters and not blank")
	}
	if utf8.RuneCountInString(task.Instructions) > maxInstructions || blank(task.Instructions) || !wire.CleanText(task.Instructions) {
		f.add("/instructions", "must be 1 to 50,000 characters and not blank")
	}
	if task.OutputType == "" {
		task.OutputType = OutputText
	}
	if !slices.Contains([]OutputType{OutputText, OutputMarkdown, OutputJSON}, task.OutputType) {
		f.add("/output_type", "must be one of text, markdown, json")
	}
	checkTools("/allowed_tools", task.AllowedTools, &f)
	checkTools("/approve_tools", task.ApproveTools, &f)
	s.checkSchema(task, &f)
	return f.err()
}

func checkTools(pointer string, tools []string, f *faults) {
	if len(tools) > maxTaskTools {
		f.add(pointer, "must have at most 100 entries")
		return
	}
	for i, name := range tools {
		at := pointer + "/" + strconv.Itoa(i)
		if len(name) > maxToolName || blank(name) || !wire.CleanText(name) {
			f.add(at, "must be a tool name of 1 to 64 characters")
		} else if slices.Contains(tools[:i], name) {
			f.add(at, "is listed twice")
		}
	}
}

func (s *Service) checkSchema(task *TaskDefinition, f *faults) {
	const at = "/output_schema"
	if len(task.OutputSchema) == 0 {
		task.OutputSchema = nil
		return
	}
	if checkJSON(at, task.OutputSchema, f); f.on(at) {
		return
	}
	if task.OutputType != OutputJSON {
		f.add(at, "needs the output type json")
		return
	}
	if s.opts.CompileSchema == nil {
		f.add(at, "is not supported by this server: it has no schema compiler")
		return
	}
	if _, err := s.opts.CompileSchema(task.OutputSchema); err != nil {
		f.add(at, "is not a usable JSON Schema: "+wire.ValidText(err.Error()))
	}
}
