package storetest

import (
	"encoding/json"

	"github.com/webtrigger-go/webtrigger"
)

// Arguments are not kept and results are copies: whatever a caller does to what
// it gave or got, the store stays as it was.
func copyRules() []rule {
	spoil := func(raw json.RawMessage) {
		for i := range raw {
			raw[i] = '#'
		}
	}
	spoilTask := func(task *webtrigger.TaskDefinition) {
		spoil(task.OutputSchema)
		task.AllowedTools[0] = "spoilt"
		task.Name = "spoilt"
	}
	spoilRun := func(run webtrigger.Run) {
		if run.TaskDefinition != nil {
			spoilTask(run.TaskDefinition)
		}
		if run.Usage != nil {
			run.Usage.InputTokens = -1
		}
	}
	full := func(b *rig, changes ...change) webtrigger.NewTrigger {
		task := b.task(assistant)
		return trigger(append(changes, withCallback, doing(&task), func(t *webtrigger.NewTrigger) {
			t.Input.Context, t.Input.Metadata = json.RawMessage(`{"a":1}`), json.RawMessage(`[1]`)
		})...)
	}
	withUsage := func() webtrigger.Outcome {
		return webtrigger.Outcome{Status: webtrigger.RunCompleted, Result: "Result", Usage: &webtrigger.Usage{InputTokens: 1}}
	}
	// ended is a run with everything that a run can point at.
	ended := func(b *rig) webtrigger.Run {
		accepted, err := b.store.CreateTrigger(b.ctx, full(b, keyed("key", 1, long)))
		b.NoError(err)
		return b.finish(b.take(accepted.Run.ID, long).Lease, withUsage())
	}
	return []rule{
		{"a trigger is not kept", func(b *rig) {
			t := full(b, keyed("key", 1, long))
			accepted, err := b.store.CreateTrigger(b.ctx, t)
			b.NoError(err)
			b.changesNothing(accepted.Run.ID, func() {
				spoil(t.Input.Context)
				spoil(t.Input.Metadata)
				spoilTask(t.TaskDefinition)
				*t.Idempotency = *use("spoilt", 2, long)
			})
			_, err = b.store.Replay(b.ctx, assistant, *use("key", 1, long))
			b.NoError(err)
		}},
		{"an accepted run is a copy", func(b *rig) {
			accepted, err := b.store.CreateTrigger(b.ctx, full(b))
			b.NoError(err)
			b.changesNothing(accepted.Run.ID, func() { spoilRun(accepted.Run) })
		}},
		{"a replayed run is a copy", func(b *rig) {
			run := ended(b)
			b.changesNothing(run.ID, func() {
				accepted, err := b.store.CreateTrigger(b.ctx, trigger(keyed("key", 1, long)))
				b.NoError(err)
				b.True(accepted.Replayed)
				spoilRun(accepted.Run)
				looked, err := b.store.Replay(b.ctx, assistant, *use("key", 1, long))
				b.NoError(err)
				spoilRun(looked)
			})
		}},
		{"a run that is read is a copy, in every way to read it", func(b *rig) {
			run := ended(b)
			_, hash := b.key(assistant)
			b.changesNothing(run.ID, func() {
				spoilRun(run)
				spoilRun(b.run(run.ID))
				byKey, err := b.store.RunByKey(b.ctx, run.Key)
				b.NoError(err)
				spoilRun(byKey)
				runs, err := b.store.Runs(b.ctx, webtrigger.RunQuery{Page: webtrigger.Page{Limit: 10}})
				b.NoError(err)
				spoilRun(runs[0])
				grant, err := b.store.Authenticate(b.ctx, hash, run.ConversationID, 0)
				b.NoError(err)
				spoilRun(*grant.Run)
				grant.Run.Status = "spoilt"
				spoilRun(b.stop(run.ID, webtrigger.CancelStop("")))
				spoilRun(b.lease(long).Run)
			})
		}},
		{"a claimed run and its input are copies", func(b *rig) {
			accepted, err := b.store.CreateTrigger(b.ctx, full(b))
			b.NoError(err)
			claimed := b.take(accepted.Run.ID, long)
			b.changesNothing(claimed.Run.ID, func() {
				spoilRun(claimed.Run)
				spoil(claimed.Input.Context)
				spoil(claimed.Input.Metadata)
			})
		}},
		{"a requeued and a swept run are copies", func(b *rig) {
			accepted, err := b.store.CreateTrigger(b.ctx, full(b))
			b.NoError(err)
			id := accepted.Run.ID
			back := b.requeue(b.take(id, long).Lease)
			b.changesNothing(id, func() { spoilRun(back) })
			b.take(id, brief)
			b.outlast(brief)
			swept := b.swept(id)
			b.changesNothing(id, func() { spoilRun(swept) })
		}},
		{"an input and a conversation that are read are copies", func(b *rig) {
			run := ended(b)
			b.changesNothing(run.ID, func() {
				input, err := b.store.RunInput(b.ctx, run.ID)
				b.NoError(err)
				spoil(input.Context)
				spoil(input.Metadata)
				conversation, err := b.store.Conversation(b.ctx, run.ConversationID)
				b.NoError(err)
				spoil(conversation.Metadata)
			})
		}},
		{"events that are appended are not kept", func(b *rig) {
			run := b.start()
			batch := steps(1, 2)
			b.append(run.Lease, batch)
			b.changesNothing(run.Run.ID, func() {
				spoil(batch.Events[0].Payload)
				batch.Events[1] = webtrigger.NewEvent{Type: "x_spoilt", Payload: json.RawMessage(`{}`)}
			})
		}},
		{"events and messages that are read are copies", func(b *rig) {
			run := ended(b)
			b.changesNothing(run.ID, func() {
				for _, runID := range []int64{0, run.ID} {
					page := b.page(webtrigger.EventQuery{ConversationID: run.ConversationID, RunID: runID})
					for i := range page.Events {
						spoil(page.Events[i].Payload)
						page.Events[i].Sequence = -1
					}
				}
				messages := b.messages(run.ConversationID)
				messages[0].Content = "spoilt"
				deliveries := b.deliveries(run.ID)
				deliveries[0].URL = "spoilt"
				last, err := b.store.LastEventIDs(b.ctx, []int64{run.ConversationID})
				b.NoError(err)
				last[run.ConversationID] = -1
			})
		}},
		{"a finish is not kept", func(b *rig) {
			run := b.start()
			finish := webtrigger.Finish{Outcome: withUsage(), Events: steps(1, 2),
				Messages: []webtrigger.NewMessage{{Role: webtrigger.RoleAssistant, Content: "found", ToolCalls: lookups()}}}
			_, err := b.store.FinishRun(b.ctx, run.Lease, finish)
			b.NoError(err)
			b.changesNothing(run.Run.ID, func() {
				finish.Outcome.Usage.InputTokens = -1
				spoil(finish.Events.Events[0].Payload)
				finish.Events.Events[1].Type = "x_spoilt"
				finish.Messages[0].Content = "spoilt"
				spoil(finish.Messages[0].ToolCalls[0].Arguments)
				finish.Messages[0].ToolCalls[1].Name = "spoilt"
			})
		}},
		{"a recorded stop that a renewal returns is a copy", func(b *rig) {
			run := b.start()
			stop := webtrigger.CancelStop("reason")
			b.stop(run.Run.ID, stop)
			for range 2 {
				claims := b.renew(worker, long).Claims
				b.Equal(&stop, claims[0].Stop)
				claims[0].Stop.StatusDetail = "spoilt"
			}
			b.Equal("reason", b.finish(run.Lease, completed("Result")).StatusDetail)
		}},
		{"a definition that is created or updated is not kept", func(b *rig) {
			task := definition(assistant)
			created, err := b.store.CreateTaskDefinition(b.ctx, task)
			b.NoError(err)
			spoilTask(&task)
			b.equals(created.ID, definition(assistant))
			change := definition(assistant)
			change.ID, change.Name, change.AllowedTools = created.ID, "New", []string{"one", "two"}
			_, err = b.store.UpdateTaskDefinition(b.ctx, change)
			b.NoError(err)
			spoilTask(&change)
			change = definition(assistant)
			change.Name, change.AllowedTools = "New", []string{"one", "two"}
			b.equals(created.ID, change)
		}},
		{"a definition that is returned is a copy", func(b *rig) {
			created := b.task(assistant)
			spoilTask(&created)
			b.equals(created.ID, definition(assistant))
			change := definition(assistant)
			change.ID = created.ID
			updated, err := b.store.UpdateTaskDefinition(b.ctx, change)
			b.NoError(err)
			spoilTask(&updated)
			read, err := b.store.TaskDefinition(b.ctx, created.ID)
			b.NoError(err)
			spoilTask(&read)
			list, err := b.store.TaskDefinitions(b.ctx, webtrigger.TaskDefinitionQuery{AssistantID: assistant, Page: webtrigger.Page{Limit: 1}})
			b.NoError(err)
			spoilTask(&list[0])
			b.equals(created.ID, definition(assistant))
		}},
		{"lists are the caller's", func(b *rig) {
			b.key("a")
			b.key("b")
			ids, err := b.store.Assistants(b.ctx, "", 10)
			b.NoError(err)
			ids[0] = "spoilt"
			keys, err := b.store.Keys(b.ctx, webtrigger.KeyQuery{AssistantID: "a", Page: webtrigger.Page{Limit: 10}})
			b.NoError(err)
			keys[0].Name = "spoilt"
			ids, err = b.store.Assistants(b.ctx, "", 10)
			b.NoError(err)
			b.Equal([]string{"a", "b"}, ids)
			key, err := b.store.Key(b.ctx, keys[0].ID)
			b.NoError(err)
			b.Equal("Name", key.Name)
		}},
	}
}

// equals checks the stored fields of a definition.
func (b *rig) equals(taskID int64, want webtrigger.TaskDefinition) {
	b.t.Helper()
	got, err := b.store.TaskDefinition(b.ctx, taskID)
	b.NoError(err)
	want.ID, want.CreatedAt, want.UpdatedAt = got.ID, got.CreatedAt, got.UpdatedAt
	b.Equal(want, got)
}
