package storetest

import (
	"encoding/json"
	"strings"

	"github.com/webtrigger-go/webtrigger"
)

// The history of a run is the messages of the earlier runs of its conversation, as
// its Runner gets them.
func historyRules() []rule {
	return []rule{
		{"a history has the messages of earlier runs, by run and then by message", func(b *rig) {
			first := b.start(saying("1"))
			later := b.accept(in(first.Run.ConversationID), saying("4")) // stored before the result of the first
			_, err := b.store.FinishRun(b.ctx, first.Lease, webtrigger.Finish{Outcome: completed("3"),
				Messages: []webtrigger.NewMessage{{Role: webtrigger.RoleAssistant, Content: "2", ToolCalls: lookups()}}})
			b.NoError(err)
			b.accept(saying("elsewhere"))
			b.finish(b.take(later.ID, long).Lease, completed("5"))
			last := b.accept(in(first.Run.ConversationID), saying("6"))
			history := b.history(last, 100, 1000)
			b.Equal([]string{"1", "2", "3", "4", "5"}, each(history, content))
			stored := make(map[int64]webtrigger.Message)
			for _, m := range b.messages(last.ConversationID) {
				stored[m.ID] = m
			}
			for _, m := range history {
				b.Equal(stored[m.ID], m)
			}
		}},
		{"a history has nothing of its own run and of later ones", func(b *rig) {
			first := b.complete(saying("1"))
			second := b.accept(in(first.ConversationID), saying("2"))
			b.accept(in(first.ConversationID), saying("3"))
			b.Equal([]string{"1", "Result"}, each(b.history(second, 100, 1000), content))
			b.Empty(b.history(first, 100, 1000))
		}},
		{"a history has the messages of runs without a result", func(b *rig) {
			first := b.accept(saying("1"))
			b.stop(first.ID, webtrigger.CancelStop(""))
			second := b.start(in(first.ConversationID), saying("2"))
			_, err := b.store.FinishRun(b.ctx, second.Lease, webtrigger.Finish{Outcome: failed("no"),
				Messages: []webtrigger.NewMessage{{Role: webtrigger.RoleAssistant, Content: "3"}}})
			b.NoError(err)
			last := b.accept(in(first.ConversationID))
			b.Equal([]string{"1", "2", "3"}, each(b.history(last, 100, 1000), content))
		}},
		{"a history keeps the newest messages within both limits", func(b *rig) {
			first := b.complete(saying("äää")) // 6 bytes, and Result has 6
			for range 4 {
				b.complete(in(first.ConversationID), saying("äää"))
			}
			last := b.accept(in(first.ConversationID))
			all := b.history(last, 100, 1000)
			b.Len(all, 10)
			for n := range 12 {
				from := 10 - min(n, 10)
				b.Equal(all[from:], append([]webtrigger.Message{}, b.history(last, max(n, 1), 6*n)...), "%d", n)
				if n > 0 {
					b.Equal(all[from:], b.history(last, n, 1000), "%d", n)
				}
				b.Equal(all[from:], append([]webtrigger.Message{}, b.history(last, 100, 6*n+5)...), "%d", n)
			}
		}},
		{"tool calls count toward the size of a history", func(b *rig) {
			first := b.start()
			large := lookups()[:1]
			large[0].Arguments = json.RawMessage(`"` + strings.Repeat("x", 200) + `"`)
			_, err := b.store.FinishRun(b.ctx, first.Lease, webtrigger.Finish{Outcome: completed("3"),
				Messages: []webtrigger.NewMessage{{Role: webtrigger.RoleAssistant, Content: "2", ToolCalls: large}}})
			b.NoError(err)
			last := b.accept(in(first.Run.ConversationID))
			b.Equal([]string{"3"}, each(b.history(last, 100, 150), content))
			b.Equal([]string{"Message", "2", "3"}, each(b.history(last, 100, 1000), content))
		}},
		{"a message that does not fit ends the history", func(b *rig) {
			first := b.complete(saying("short"))
			b.complete(in(first.ConversationID), saying(strings.Repeat("x", 100)))
			last := b.accept(in(first.ConversationID))
			b.Equal([]string{"Result"}, each(b.history(last, 100, 50), content))
		}},
		{"the history of a single run, and of an absent conversation", func(b *rig) {
			run := b.complete(saying("1"))
			run.ID++
			b.Equal([]string{"1", "Result"}, each(b.history(run, 100, 1000), content))
			run.ConversationID = absent
			b.Empty(b.history(run, 100, 1000))
		}},
		{"Continues is set on a run that joined a conversation, not on the first one", func(b *rig) {
			first := b.complete()
			second := b.accept(in(first.ConversationID))
			b.False(first.Continues)
			b.True(second.Continues)
			b.True(b.take(second.ID, long).Run.Continues)
			b.False(b.run(first.ID).Continues)
			b.True(b.run(second.ID).Continues)
			runs, err := b.store.Runs(b.ctx, webtrigger.RunQuery{Page: webtrigger.Page{Limit: 10}})
			b.NoError(err)
			b.Equal([]bool{true, false}, each(runs, func(r webtrigger.Run) bool { return r.Continues }))
		}},
	}
}

// history is the history of a run.
func (b *rig) history(run webtrigger.Run, messages, bytes int) []webtrigger.Message {
	b.t.Helper()
	history, err := b.store.History(b.ctx, webtrigger.HistoryQuery{
		ConversationID: run.ConversationID, BeforeRunID: run.ID, MaxMessages: messages, MaxBytes: bytes,
	})
	b.NoError(err)
	return history
}
