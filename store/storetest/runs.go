package storetest

import (
	"encoding/json"

	"github.com/google/uuid"

	"github.com/webtrigger-go/webtrigger"
)

// Runs are read one by one or as lists that every filter narrows, newest first;
// messages in the order in which they were stored.
func runRules() []rule {
	list := func(b *rig, query webtrigger.RunQuery) []int64 {
		b.t.Helper()
		if query.Page.Limit == 0 {
			query.Page.Limit = 200
		}
		runs, err := b.store.Runs(b.ctx, query)
		b.NoError(err)
		return each(runs, runID)
	}
	return []rule{
		{"a run is found by its id and by its key", func(b *rig) {
			b.accept()
			run := b.accept()
			b.accept()
			b.Equal(run, b.run(run.ID))
			found, err := b.store.RunByKey(b.ctx, run.Key)
			b.NoError(err)
			b.Equal(run, found)
		}},
		{"what is absent is not found", func(b *rig) {
			_, err := b.store.RunByID(b.ctx, absent)
			b.notFound(err)
			_, err = b.store.RunByKey(b.ctx, uuid.NewString())
			b.notFound(err)
			_, err = b.store.RunInput(b.ctx, absent)
			b.notFound(err)
			_, err = b.store.Conversation(b.ctx, absent)
			b.notFound(err)
			_, err = b.store.RequestStop(b.ctx, absent, webtrigger.CancelStop(""), nil)
			b.notFound(err)
		}},
		{"an absent conversation has no messages, an absent run no deliveries", func(b *rig) {
			b.Empty(b.messages(absent))
			b.Empty(b.deliveries(absent))
		}},
		{"runs are listed newest first, page by page", func(b *rig) {
			var created []webtrigger.Run
			for range 5 {
				created = append([]webtrigger.Run{b.accept()}, created...)
			}
			b.Equal(created, pages(b, runID, func(page webtrigger.Page) ([]webtrigger.Run, error) {
				return b.store.Runs(b.ctx, webtrigger.RunQuery{Page: page})
			}))
		}},
		{"pages of a filtered list are complete", func(b *rig) {
			var created []int64
			for range 5 {
				created = append([]int64{b.accept().ID}, created...)
				b.accept(of(stranger))
				b.accept(of(stranger))
			}
			b.Equal(created, each(pages(b, runID, func(page webtrigger.Page) ([]webtrigger.Run, error) {
				return b.store.Runs(b.ctx, webtrigger.RunQuery{AssistantID: assistant, Page: page})
			}), runID))
		}},
		{"runs are listed by assistant", func(b *rig) {
			mine, foreign := b.accept(), b.accept(of(stranger))
			b.Equal([]int64{mine.ID}, list(b, webtrigger.RunQuery{AssistantID: assistant}))
			b.Equal([]int64{foreign.ID}, list(b, webtrigger.RunQuery{AssistantID: stranger}))
			b.Empty(list(b, webtrigger.RunQuery{AssistantID: "assistant"}))
		}},
		{"runs are listed by status", func(b *rig) {
			byStatus := map[webtrigger.RunStatus]int64{
				webtrigger.RunQueued:    b.accept().ID,
				webtrigger.RunRunning:   b.start().Run.ID,
				webtrigger.RunCompleted: b.complete().ID,
				webtrigger.RunFailed:    b.finish(b.start().Lease, failed("Broken.")).ID,
				webtrigger.RunCancelled: b.stop(b.accept().ID, webtrigger.CancelStop("")).ID,
				webtrigger.RunTimedOut:  b.stop(b.accept().ID, webtrigger.DeadlineStop()).ID,
			}
			for status, id := range byStatus {
				b.Equal([]int64{id}, list(b, webtrigger.RunQuery{Statuses: []webtrigger.RunStatus{status}}), status)
			}
			b.Len(list(b, webtrigger.RunQuery{}), len(byStatus))
		}},
		{"runs are listed by API key", func(b *rig) {
			key, _ := b.key(assistant)
			other, _ := b.key(assistant)
			by := func(keyID int64) change { return func(t *webtrigger.NewTrigger) { t.KeyID = keyID } }
			first, _, _ := b.accept(by(key.ID)), b.accept(by(other.ID)), b.accept()
			second := b.accept(by(key.ID))
			b.Equal([]int64{second.ID, first.ID}, list(b, webtrigger.RunQuery{KeyID: key.ID}))
		}},
		{"runs are listed from an instant, included, to an instant, excluded", func(b *rig) {
			var runs []webtrigger.Run
			for range 3 {
				runs = append(runs, b.accept())
				b.past(runs[len(runs)-1].CreatedAt)
			}
			one, two, three := runs[0], runs[1], runs[2]
			b.Equal([]int64{three.ID, two.ID}, list(b, webtrigger.RunQuery{From: two.CreatedAt}))
			b.Equal([]int64{one.ID}, list(b, webtrigger.RunQuery{To: two.CreatedAt}))
			b.Equal([]int64{two.ID}, list(b, webtrigger.RunQuery{From: two.CreatedAt, To: three.CreatedAt}))
			b.Empty(list(b, webtrigger.RunQuery{From: two.CreatedAt, To: two.CreatedAt}))
		}},
		{"filters narrow together", func(b *rig) {
			key, _ := b.key(assistant)
			run := b.accept(func(t *webtrigger.NewTrigger) { t.KeyID = key.ID })
			b.accept()
			b.complete(func(t *webtrigger.NewTrigger) { t.KeyID = key.ID })
			b.accept(of(stranger))
			b.Equal([]int64{run.ID}, list(b, webtrigger.RunQuery{
				AssistantID: assistant, Statuses: []webtrigger.RunStatus{webtrigger.RunQueued}, KeyID: key.ID, From: run.CreatedAt}))
		}},
		{"a run's input is what was sent, whatever has become of the run", func(b *rig) {
			want := webtrigger.RunInput{Subject: "S", Message: " M ", Context: json.RawMessage(`{ "a": 1e22 }`), Metadata: json.RawMessage(`[ null ]`)}
			run := b.start(func(t *webtrigger.NewTrigger) { t.Input = want })
			b.finish(run.Lease, completed("Result"))
			got, err := b.store.RunInput(b.ctx, run.Run.ID)
			b.NoError(err)
			b.Equal(want, got)
		}},
		{"messages are read in order, page by page", func(b *rig) {
			first := b.start(saying("1"))
			_, err := b.store.FinishRun(b.ctx, first.Lease, webtrigger.Finish{Outcome: completed("4"),
				Messages: []webtrigger.NewMessage{{Role: webtrigger.RoleAssistant, Content: "2"}, {Role: webtrigger.RoleTool, Content: "3"}}})
			b.NoError(err)
			b.accept(saying("elsewhere"))
			b.accept(in(first.Run.ConversationID), saying("5"))
			var seen []string
			for after := int64(0); ; {
				messages, err := b.store.Messages(b.ctx, webtrigger.MessageQuery{ConversationID: first.Run.ConversationID, After: after, Limit: 2})
				b.NoError(err)
				b.LessOrEqual(len(messages), 2)
				if len(messages) == 0 {
					break
				}
				for _, m := range messages {
					b.Greater(m.ID, after)
					after = m.ID
				}
				seen = append(seen, each(messages, content)...)
			}
			b.Equal([]string{"1", "2", "3", "4", "5"}, seen)
		}},
		{"every transition returns the run as it reads then", func(b *rig) {
			same := func(returned webtrigger.Run) { b.Equal(b.run(returned.ID), returned) }
			run := b.accept(withCallback)
			same(run)
			claimed := b.take(run.ID, long)
			same(claimed.Run)
			same(b.requeue(claimed.Lease))
			claimed = b.take(run.ID, long)
			same(b.stop(run.ID, webtrigger.CancelStop("")))
			same(b.finish(claimed.Lease, completed("Result"))) // a run without a task definition
			same(b.lease(long).Run)
			same(b.swept(b.strand().Run.ID))
		}},
	}
}

// swept sweeps one stranded run and returns it as the sweep does.
func (b *rig) swept(runID int64) webtrigger.Run {
	b.t.Helper()
	runs := b.sweep(webtrigger.Sweep{})
	b.Len(runs, 1)
	b.Equal(runID, runs[0].ID)
	return runs[0]
}
