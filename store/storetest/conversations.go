package storetest

import "github.com/webtrigger-go/webtrigger"

// Conversations are listed newest first, each once and with its newest run, however
// many runs it has. The runs and the messages of one can be read alone.
func conversationRules() []rule {
	list := func(b *rig, query webtrigger.ConversationQuery) []webtrigger.ConversationSummary {
		b.t.Helper()
		return pages(b, conversationID, func(page webtrigger.Page) ([]webtrigger.ConversationSummary, error) {
			query.Page = page
			return b.store.Conversations(b.ctx, query)
		})
	}
	return []rule{
		{"conversations are listed newest first, with their newest runs", func(b *rig) {
			b.Empty(list(b, webtrigger.ConversationQuery{}))
			single := b.accept(func(t *webtrigger.NewTrigger) { t.Input.Metadata = []byte(`{"n":1}`) })
			keyed := b.accept(under("k"))
			task := b.task(assistant)
			joined := b.complete(doing(&task))
			b.accept(of(stranger))
			last := b.accept(in(joined.ConversationID), func(t *webtrigger.NewTrigger) { t.Input.Subject = "Another" })
			newest := b.accept(under("k"))
			listed := list(b, webtrigger.ConversationQuery{AssistantID: assistant})
			b.Equal([]int64{joined.ConversationID, keyed.ConversationID, single.ConversationID}, each(listed, conversationID))
			b.Equal([]webtrigger.Run{last, newest, single}, each(listed, func(c webtrigger.ConversationSummary) webtrigger.Run { return c.LastRun }))
			for _, c := range listed {
				stored, err := b.store.Conversation(b.ctx, c.ID)
				b.NoError(err)
				stored.Metadata = nil
				b.Equal(stored, c.Conversation)
			}
			b.Len(list(b, webtrigger.ConversationQuery{}), 4)
		}},
		{"conversations are listed by key, of one assistant or of all", func(b *rig) {
			mine, foreign := b.accept(under("k")), b.accept(of(stranger), under("k"))
			b.accept(under("K"))
			b.accept()
			b.Equal([]int64{foreign.ConversationID, mine.ConversationID}, each(list(b, webtrigger.ConversationQuery{Key: "k"}), conversationID))
			b.Equal([]int64{mine.ConversationID}, each(list(b, webtrigger.ConversationQuery{Key: "k", AssistantID: assistant}), conversationID))
			b.Empty(list(b, webtrigger.ConversationQuery{Key: "%"}))
		}},
		{"erased conversations are not listed, and purged runs are not the newest", func(b *rig) {
			kept, gone := b.complete(under("k")), b.complete()
			b.NoError(b.store.EraseTrigger(b.ctx, gone.ConversationID))
			b.Equal([]int64{kept.ConversationID}, each(list(b, webtrigger.ConversationQuery{}), conversationID))
			open := b.accept(under("k"))
			b.outlast(brief)
			_, err := b.store.Purge(b.ctx, webtrigger.Purge{Keep: webtrigger.Retention{Completed: brief}, Limit: 10})
			b.NoError(err)
			listed := list(b, webtrigger.ConversationQuery{})
			b.Len(listed, 1)
			b.Equal(open.ID, listed[0].LastRun.ID)
			b.Equal(kept.ConversationID, listed[0].ID)
		}},
		{"the runs of one conversation are listed alone", func(b *rig) {
			first := b.accept()
			b.accept()
			second := b.accept(in(first.ConversationID))
			runs := pages(b, runID, func(page webtrigger.Page) ([]webtrigger.Run, error) {
				return b.store.Runs(b.ctx, webtrigger.RunQuery{ConversationID: first.ConversationID, Page: page})
			})
			b.Equal([]int64{second.ID, first.ID}, each(runs, runID))
			none, err := b.store.Runs(b.ctx, webtrigger.RunQuery{ConversationID: absent, Page: webtrigger.Page{Limit: 2}})
			b.NoError(err)
			b.Empty(none)
		}},
		{"the messages of one run are listed alone", func(b *rig) {
			only := func(conversationID, runID int64) (all []string) {
				for after := int64(0); ; {
					messages, err := b.store.Messages(b.ctx, webtrigger.MessageQuery{ConversationID: conversationID, RunID: runID, After: after, Limit: 1})
					b.NoError(err)
					if len(messages) == 0 {
						return all
					}
					b.Len(messages, 1)
					all, after = append(all, messages[0].Content), messages[0].ID
				}
			}
			first := b.start(saying("1"))
			single := first.Run.ConversationID
			b.Equal([]string{"1"}, only(single, first.Run.ID))
			b.Empty(only(single, absent))
			later := b.accept(in(single), saying("4"))
			_, err := b.store.FinishRun(b.ctx, first.Lease, webtrigger.Finish{Outcome: completed("3"),
				Messages: []webtrigger.NewMessage{{Role: webtrigger.RoleAssistant, Content: "2"}}})
			b.NoError(err)
			b.accept(in(single), saying("6"))
			b.Equal([]string{"1", "2", "3"}, only(single, first.Run.ID))
			b.Equal([]string{"4"}, only(single, later.ID))
			b.finish(b.take(later.ID, long).Lease, completed("5"))
			b.Equal([]string{"4", "5"}, only(single, later.ID))
			other := b.complete(saying("a"))
			b.Equal([]string{"a", "Result"}, only(other.ConversationID, other.ID))
			b.Empty(only(other.ConversationID, later.ID))
		}},
	}
}

func conversationID(c webtrigger.ConversationSummary) int64 { return c.ID }
