package storetest

import (
	"github.com/webtrigger-go/webtrigger"
)

// What belongs to one assistant is not seen or touched under another's name, and
// what happens to one run does not happen to its neighbours.
func isolationRules() []rule {
	page := webtrigger.Page{Limit: 10}
	return []rule{
		{"lists of one assistant hold nothing of another's", func(b *rig) {
			b.key(assistant)
			b.task(assistant)
			b.accept()
			keys, err := b.store.Keys(b.ctx, webtrigger.KeyQuery{AssistantID: stranger, Page: page})
			b.NoError(err)
			b.Empty(keys)
			tasks, err := b.store.TaskDefinitions(b.ctx, webtrigger.TaskDefinitionQuery{AssistantID: stranger, Page: page})
			b.NoError(err)
			b.Empty(tasks)
			runs, err := b.store.Runs(b.ctx, webtrigger.RunQuery{AssistantID: stranger, Page: page})
			b.NoError(err)
			b.Empty(runs)
		}},
		{"a key speaks for its own assistant only", func(b *rig) {
			b.NoError(b.store.SetChannel(b.ctx, webtrigger.Channel{AssistantID: stranger, Enabled: true}))
			_, mine := b.key(assistant)
			_, foreign := b.key(stranger)
			run := b.accept()
			grant, err := b.store.Authenticate(b.ctx, mine, run.ConversationID, 0)
			b.NoError(err)
			b.Equal(assistant, grant.Key.AssistantID)
			b.Equal(webtrigger.Channel{AssistantID: assistant}, grant.Channel)
			b.NotNil(grant.Run)
			grant, err = b.store.Authenticate(b.ctx, foreign, run.ConversationID, 0)
			b.NoError(err)
			b.True(grant.Channel.Enabled)
			b.Nil(grant.Run)
		}},
		{"ids that are alike are not the same assistant", func(b *rig) {
			alike := []string{"a", "A", "a.", "a_", "a~", "a-", "aa", "1", "01", "1.0"}
			for _, id := range alike {
				b.accept(of(id), keyed("key", 1, long))
				b.key(id)
				b.task(id)
			}
			for _, id := range alike {
				runs, err := b.store.Runs(b.ctx, webtrigger.RunQuery{AssistantID: id, Page: page})
				b.NoError(err)
				b.Len(runs, 1, id)
				keys, err := b.store.Keys(b.ctx, webtrigger.KeyQuery{AssistantID: id, Page: page})
				b.NoError(err)
				b.Len(keys, 1, id)
				tasks, err := b.store.TaskDefinitions(b.ctx, webtrigger.TaskDefinitionQuery{AssistantID: id, Page: page})
				b.NoError(err)
				b.Len(tasks, 1, id)
			}
		}},
		{"equal triggers of two assistants share nothing", func(b *rig) {
			mine, foreign := b.accept(), b.accept(of(stranger))
			b.NotEqual(mine.ID, foreign.ID)
			b.NotEqual(mine.ConversationID, foreign.ConversationID)
			b.changesNothing(foreign.ID, func() { b.stop(mine.ID, webtrigger.CancelStop("")) })
			b.Len(b.messages(mine.ConversationID), 1)
		}},
		{"a transition touches its own run only", func(b *rig) {
			untouched := b.start(withCallback, of(stranger)).Run
			run := b.start(withCallback)
			b.changesNothing(untouched.ID, func() {
				b.append(run.Lease, steps(1, 2))
				b.requeue(run.Lease)
				run = b.take(run.Run.ID, long)
				b.stop(run.Run.ID, webtrigger.CancelStop(""))
				b.finish(run.Lease, completed("Result"))
				b.deliver()
				b.swept(b.strand().Run.ID)
			})
		}},
		{"runs of all assistants wait in one queue", func(b *rig) {
			want := []int64{b.accept(of(stranger)).ID, b.accept().ID, b.accept(of(stranger)).ID}
			b.Equal(want, each(b.claim(10), claimedID))
		}},
	}
}
