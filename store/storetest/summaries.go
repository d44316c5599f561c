package storetest

import (
	"strings"

	"github.com/webtrigger-go/webtrigger"
)

// Lists, look-ups and grants read runs without what is large: the result and the task
// definition. Whose a resource is, is read without the resource.
func summaryRules() []rule {
	stripped := func(run webtrigger.Run) webtrigger.Run {
		run.Result, run.TaskDefinition = "", nil
		return run
	}
	return []rule{
		{"a summary is the run without its result and its task definition", func(b *rig) {
			task := b.task(assistant)
			claimed := b.start(withCallback, doing(&task), keyed("key", 1, long))
			ended := b.finish(claimed.Lease, completed("Result"))
			run := b.run(ended.ID)
			b.Equal("Result", ended.Result)
			ended.TaskDefinition = run.TaskDefinition
			b.Equal(run, ended)
			b.Equal(task.ID, run.TaskDefinitionID)
			b.Equal(&task, run.TaskDefinition)
			again := b.finish(claimed.Lease, completed("Result"))
			b.Nil(again.TaskDefinition)
			want := stripped(run)
			got, err := b.store.RunSummary(b.ctx, run.ID)
			b.NoError(err)
			b.Equal(want, got)
			got, err = b.store.RunByKey(b.ctx, run.Key)
			b.NoError(err)
			b.Equal(want, got)
			runs, err := b.store.Runs(b.ctx, webtrigger.RunQuery{Page: webtrigger.Page{Limit: 10}})
			b.NoError(err)
			b.Equal([]webtrigger.Run{want}, runs)
			got, err = b.store.Replay(b.ctx, assistant, *use("key", 1, long))
			b.NoError(err)
			b.Equal(want, got)
			replayed, err := b.store.CreateTrigger(b.ctx, trigger(keyed("key", 1, long)))
			b.NoError(err)
			b.Equal(want, replayed.Run)
			b.Equal(run, b.run(run.ID))
		}},
		{"a grant has a small result, and reports that a large one is missing", func(b *rig) {
			task := b.task(assistant)
			_, hash := b.key(assistant)
			for _, c := range []struct {
				result  string
				omitted bool
			}{
				{"", false},
				{strings.Repeat("é", webtrigger.MaxGrantResultBytes/2), false},
				{strings.Repeat("x", webtrigger.MaxGrantResultBytes) + "x", true},
				{strings.Repeat("é", webtrigger.MaxGrantResultBytes/2) + "x", true},
			} {
				run := b.finish(b.start(doing(&task)).Lease, completed(c.result))
				grant, err := b.store.Authenticate(b.ctx, hash, run.ConversationID, 0)
				b.NoError(err)
				b.Equal(c.omitted, grant.ResultOmitted)
				want := stripped(run)
				if !c.omitted {
					want.Result = c.result
				}
				b.Equal(want, *grant.Run)
				b.Equal(c.result, b.run(run.ID).Result)
			}
		}},
		{"the owner of a resource is known in every state of it", func(b *rig) {
			task := b.task(stranger)
			run := b.complete(withCallback, of(stranger))
			later := b.accept(of(stranger), in(run.ConversationID))
			waiting := b.accept()
			conversation := webtrigger.Owner{AssistantID: stranger, ConversationID: run.ConversationID}
			for _, c := range []struct {
				kind webtrigger.ResourceKind
				id   int64
				want webtrigger.Owner
			}{
				{webtrigger.ResourceRun, run.ID, conversation},
				{webtrigger.ResourceRun, later.ID, conversation},
				{webtrigger.ResourceRun, waiting.ID, webtrigger.Owner{AssistantID: assistant, ConversationID: waiting.ConversationID}},
				{webtrigger.ResourceConversation, run.ConversationID, conversation},
				{webtrigger.ResourceConversation, waiting.ConversationID, webtrigger.Owner{AssistantID: assistant, ConversationID: waiting.ConversationID}},
				{webtrigger.ResourceTaskDefinition, task.ID, webtrigger.Owner{AssistantID: stranger}},
				{webtrigger.ResourceDelivery, b.deliveries(run.ID)[0].ID, conversation},
			} {
				owner, err := b.store.Owner(b.ctx, c.kind, c.id)
				b.NoError(err)
				b.Equal(c.want, owner, c.kind)
				_, err = b.store.Owner(b.ctx, c.kind, absent)
				b.notFound(err)
			}
		}},
	}
}
