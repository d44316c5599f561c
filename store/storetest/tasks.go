package storetest

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/webtrigger-go/webtrigger"
)

// Task definitions: stored without a change, replaced and removed by id. The copy of a
// run does not change with them.
func taskRules() []rule {
	return []rule{
		{"a definition is returned as it was created", func(b *rig) {
			want := definition(assistant)
			created := b.task(assistant)
			b.Positive(created.ID)
			b.False(created.CreatedAt.IsZero())
			b.Equal(created.CreatedAt, created.UpdatedAt)
			want.ID, want.CreatedAt, want.UpdatedAt = created.ID, created.CreatedAt, created.UpdatedAt
			b.Equal(want, created)
			read, err := b.store.TaskDefinition(b.ctx, created.ID)
			b.NoError(err)
			b.Equal(want, read)
		}},
		{"a definition without tools and schema is returned without them", func(b *rig) {
			created, err := b.store.CreateTaskDefinition(b.ctx, webtrigger.TaskDefinition{
				AssistantID: assistant, Name: "Name", Instructions: "Instructions", OutputType: webtrigger.OutputText})
			b.NoError(err)
			read, err := b.store.TaskDefinition(b.ctx, created.ID)
			b.NoError(err)
			b.Empty(read.AllowedTools)
			b.exact(nil, read.OutputSchema)
			b.False(read.Active)
			b.Equal(webtrigger.OutputText, read.OutputType)
		}},
		{"an absent definition is not found", func(b *rig) {
			_, err := b.store.TaskDefinition(b.ctx, absent)
			b.notFound(err)
			missing := definition(assistant)
			missing.ID = absent
			_, err = b.store.UpdateTaskDefinition(b.ctx, missing)
			b.notFound(err)
			b.notFound(b.store.DeleteTaskDefinition(b.ctx, absent))
		}},
		{"definitions are listed newest first, page by page, inactive ones too", func(b *rig) {
			var created []webtrigger.TaskDefinition
			for i := range 5 {
				b.task(stranger)
				task := definition(assistant)
				task.Active = i%2 == 0
				task, err := b.store.CreateTaskDefinition(b.ctx, task)
				b.NoError(err)
				created = append([]webtrigger.TaskDefinition{task}, created...)
			}
			read := func(page webtrigger.Page) ([]webtrigger.TaskDefinition, error) {
				return b.store.TaskDefinitions(b.ctx, webtrigger.TaskDefinitionQuery{AssistantID: assistant, Page: page})
			}
			b.Equal(created, pages(b, taskID, read))
		}},
		{"definitions of all assistants are listed, and by whether they are active", func(b *rig) {
			one, two := b.task(assistant), b.task(stranger)
			inactive := definition(stranger)
			inactive.Active = false
			three, err := b.store.CreateTaskDefinition(b.ctx, inactive)
			b.NoError(err)
			list := func(query webtrigger.TaskDefinitionQuery) []int64 {
				return each(pages(b, taskID, func(page webtrigger.Page) ([]webtrigger.TaskDefinition, error) {
					query.Page = page
					return b.store.TaskDefinitions(b.ctx, query)
				}), taskID)
			}
			yes, no := true, false
			b.Equal([]int64{three.ID, two.ID, one.ID}, list(webtrigger.TaskDefinitionQuery{}))
			b.Equal([]int64{two.ID, one.ID}, list(webtrigger.TaskDefinitionQuery{Active: &yes}))
			b.Equal([]int64{three.ID}, list(webtrigger.TaskDefinitionQuery{Active: &no, AssistantID: stranger}))
			b.Empty(list(webtrigger.TaskDefinitionQuery{Active: &no, AssistantID: assistant}))
		}},
		{"an update of an older state is a conflict and changes nothing", func(b *rig) {
			read := b.task(assistant)
			first := read
			first.Name = "First"
			first, err := b.store.UpdateTaskDefinition(b.ctx, first)
			b.NoError(err)
			b.True(first.UpdatedAt.After(read.UpdatedAt))
			read.Name = "Second"
			_, err = b.store.UpdateTaskDefinition(b.ctx, read)
			b.conflict(err)
			stored, err := b.store.TaskDefinition(b.ctx, read.ID)
			b.NoError(err)
			b.Equal(first, stored)
			read.UpdatedAt = time.Time{} // whatever is stored
			_, err = b.store.UpdateTaskDefinition(b.ctx, read)
			b.NoError(err)
		}},
		{"of simultaneous updates of one state one is stored", func(b *rig) {
			read := b.task(assistant)
			errs := b.together(8, func(int) error { return second(b.store.UpdateTaskDefinition(b.ctx, read)) })
			b.Equal(1, b.succeeded(errs, webtrigger.ErrConflict))
		}},
		{"an update replaces all but the assistant and the creation time", func(b *rig) {
			before := b.task(assistant)
			b.past(before.UpdatedAt)
			change := webtrigger.TaskDefinition{
				ID: before.ID, AssistantID: stranger, Name: "New", Instructions: "Otherwise", OutputType: webtrigger.OutputMarkdown,
				AllowedTools: []string{"one"}, CreatedAt: before.CreatedAt.AddDate(-1, 0, 0),
			}
			after, err := b.store.UpdateTaskDefinition(b.ctx, change)
			b.NoError(err)
			b.True(after.UpdatedAt.After(before.UpdatedAt))
			change.AssistantID, change.CreatedAt, change.UpdatedAt = assistant, before.CreatedAt, after.UpdatedAt
			b.Equal(change, after)
			read, err := b.store.TaskDefinition(b.ctx, before.ID)
			b.NoError(err)
			b.Equal(change, read)
		}},
		{"an update changes no other definition", func(b *rig) {
			one, two := b.task(assistant), b.task(assistant)
			one.Name = "New"
			_, err := b.store.UpdateTaskDefinition(b.ctx, one)
			b.NoError(err)
			read, err := b.store.TaskDefinition(b.ctx, two.ID)
			b.NoError(err)
			b.Equal(two, read)
		}},
		{"a deleted definition is absent, and no other", func(b *rig) {
			deleted, stays := b.task(assistant), b.task(assistant)
			b.NoError(b.store.DeleteTaskDefinition(b.ctx, deleted.ID))
			_, err := b.store.TaskDefinition(b.ctx, deleted.ID)
			b.notFound(err)
			_, err = b.store.UpdateTaskDefinition(b.ctx, deleted)
			b.notFound(err)
			b.notFound(b.store.DeleteTaskDefinition(b.ctx, deleted.ID))
			tasks, err := b.store.TaskDefinitions(b.ctx, webtrigger.TaskDefinitionQuery{AssistantID: assistant, Page: webtrigger.Page{Limit: 10}})
			b.NoError(err)
			b.Equal([]int64{stays.ID}, each(tasks, taskID))
		}},
		{"the id of a deleted definition is not given again", func(b *rig) {
			last := b.task(assistant)
			b.NoError(b.store.DeleteTaskDefinition(b.ctx, last.ID))
			b.Greater(b.task(assistant).ID, last.ID)
		}},
		{"tools keep their order and the schema its bytes", func(b *rig) {
			task := definition(assistant)
			task.AllowedTools = []string{"b", "a", "C", "ä", `q"\`, "a,b", "{}", " "}
			task.OutputSchema = json.RawMessage("{\"z\": -0,\n\t\"a\": [1e22, 0.10],  \"<&>\": \"\\u00e9\\/\"}")
			created, err := b.store.CreateTaskDefinition(b.ctx, task)
			b.NoError(err)
			read, err := b.store.TaskDefinition(b.ctx, created.ID)
			b.NoError(err)
			b.Equal(task.AllowedTools, read.AllowedTools)
			b.exact(task.OutputSchema, read.OutputSchema)
			run := b.run(b.accept(doing(&read)).ID)
			b.Equal(task.AllowedTools, run.TaskDefinition.AllowedTools)
			b.exact(task.OutputSchema, run.TaskDefinition.OutputSchema)
		}},
		{"a run keeps its copy whatever becomes of the definition", func(b *rig) {
			task := b.task(assistant)
			updated, deleted := b.accept(doing(&task)), b.accept(doing(&task))
			change := task
			change.Name, change.Active = "New", false
			_, err := b.store.UpdateTaskDefinition(b.ctx, change)
			b.NoError(err)
			b.Equal(task, *b.run(updated.ID).TaskDefinition)
			b.NoError(b.store.DeleteTaskDefinition(b.ctx, task.ID))
			b.Equal(task, *b.run(deleted.ID).TaskDefinition)
			b.Equal(task, *b.take(deleted.ID, long).Run.TaskDefinition)
			b.Nil(b.run(b.accept().ID).TaskDefinition)
		}},
		{"runs keep a large copy whatever becomes of the definition and of other runs", func(b *rig) {
			large := definition(assistant)
			large.Instructions = strings.Repeat("Instructions ", 1000)
			task, err := b.store.CreateTaskDefinition(b.ctx, large)
			b.NoError(err)
			first, kept := b.complete(doing(&task)), b.start(doing(&task), withCallback)
			b.Equal(task, *kept.Run.TaskDefinition)
			changed := task
			changed.Instructions += "more"
			changed, err = b.store.UpdateTaskDefinition(b.ctx, changed)
			b.NoError(err)
			b.Equal(changed, *b.run(b.accept(doing(&changed)).ID).TaskDefinition)
			b.NoError(b.store.DeleteTaskDefinition(b.ctx, task.ID))
			b.NoError(b.store.EraseTrigger(b.ctx, first.ConversationID))
			b.Equal(task, *b.run(kept.Run.ID).TaskDefinition)
			b.finish(kept.Lease, completed("Result"))
			b.Equal(task, *b.deliver().Run.TaskDefinition)
		}},
	}
}
