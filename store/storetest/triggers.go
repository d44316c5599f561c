package storetest

import (
	"encoding/json"
	"errors"

	"github.com/webtrigger-go/webtrigger"
)

// Accepting a trigger is one transition: conversation, message, run and first
// event are stored together, or nothing is. A trigger may join a conversation of
// its assistant, and a store may hand the run out while it accepts it.
func triggerRules() []rule {
	return []rule{
		{"a trigger makes a conversation, its message, a queued run and event 1", func(b *rig) {
			run := b.accept()
			b.Positive(run.ID)
			b.Positive(run.ConversationID)
			stored := b.record(run.ID)
			b.Equal(run, stored.Run)
			b.Equal(webtrigger.RunInput{Subject: "Subject", Message: "Message"}, stored.Input)
			b.Equal(webtrigger.Conversation{ID: run.ConversationID, AssistantID: assistant, Subject: "Subject",
				CreatedAt: stored.Conversation.CreatedAt}, stored.Conversation)
			b.Len(stored.Messages, 1)
			b.Len(stored.Events.Events, 1)
			b.sameEvent(webtrigger.QueuedEvent(), stored.Events.Events[0])
			b.Empty(stored.Deliveries)
			b.holdsLog(run)
		}},
		{"a run has the fields of its trigger", func(b *rig) {
			key, _ := b.key(assistant)
			task := b.task(assistant)
			t := trigger(withCallback, doing(&task))
			t.KeyID = key.ID
			t.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
			t.RequestID = "A-z.0_9~:+/="
			accepted, err := b.store.CreateTrigger(b.ctx, t)
			b.NoError(err)
			b.Nil(accepted.Lease)
			got := accepted.Run
			b.Equal(webtrigger.Run{
				ID: got.ID, Key: t.RunKey, ConversationID: got.ConversationID, AssistantID: assistant, KeyID: key.ID,
				Status: webtrigger.RunQueued, TaskDefinitionID: task.ID, TaskDefinition: &task, BaseURL: t.BaseURL, CallbackURL: callbackURL, TraceParent: t.TraceParent,
				RequestID: t.RequestID, CreatedAt: got.CreatedAt,
			}, got)
			b.Equal(got, b.run(got.ID))
		}},
		{"the first message is the user's raw one", func(b *rig) {
			run := b.accept(saying(" /say hello\n"))
			messages := b.messages(run.ConversationID)
			b.Len(messages, 1)
			b.Positive(messages[0].ID)
			b.Equal(webtrigger.Message{ID: messages[0].ID, ConversationID: run.ConversationID, RunID: run.ID,
				Role: webtrigger.RoleUser, Content: " /say hello\n", CreatedAt: messages[0].CreatedAt}, messages[0])
		}},
		{"ids of runs and conversations rise with creation", func(b *rig) {
			last := b.accept()
			for range 5 {
				next := b.accept()
				b.Greater(next.ID, last.ID)
				b.Greater(next.ConversationID, last.ConversationID)
				last = next
			}
		}},
		{"simultaneous triggers are stored each on its own", func(b *rig) {
			runs := make([]webtrigger.Run, 64)
			b.all(b.together(len(runs), func(i int) error {
				t := trigger(saying(string(rune('A' + i))))
				accepted, err := b.store.CreateTrigger(b.ctx, t)
				if runs[i] = accepted.Run; err == nil && runs[i].Key != t.RunKey {
					return errors.New("another caller's answer")
				}
				return err
			}))
			seen := make(map[int64]bool)
			for i, run := range runs {
				b.Equal(string(rune('A'+i)), b.messages(run.ConversationID)[0].Content)
				seen[run.ID] = true
			}
			b.Len(seen, len(runs))
		}},
		{"a bad trigger among simultaneous ones fails alone and leaves nothing", func(b *rig) {
			runs := make([]webtrigger.Run, 32)
			errs := b.together(len(runs), func(i int) error {
				t := trigger()
				if i%8 == 3 {
					in(absent)(&t)
				}
				accepted, err := b.store.CreateTrigger(b.ctx, t)
				runs[i] = accepted.Run
				return err
			})
			for i, err := range errs {
				if i%8 == 3 {
					b.notFound(err)
					continue
				}
				b.NoError(err)
				b.holdsLog(runs[i])
			}
			all, err := b.store.Runs(b.ctx, webtrigger.RunQuery{Page: webtrigger.Page{Limit: 200}})
			b.NoError(err)
			b.Len(all, 28)
		}},
		{"a trigger may join a conversation", func(b *rig) {
			first := b.complete()
			second := b.accept(in(first.ConversationID), saying("again"))
			b.Equal(first.ConversationID, second.ConversationID)
			b.Greater(second.ID, first.ID)
			b.Equal([]string{"Message", "Result", "again"}, each(b.messages(first.ConversationID), content))
			b.holdsLog(second)
			b.Greater(b.events(second)[0].ID, b.events(first)[3-1].ID)
		}},
		{"a joined conversation keeps its subject, metadata and time", func(b *rig) {
			run := b.accept(func(t *webtrigger.NewTrigger) { t.Input.Metadata = json.RawMessage(`{"v":1}`) })
			before, err := b.store.Conversation(b.ctx, run.ConversationID)
			b.NoError(err)
			b.past(before.CreatedAt)
			b.accept(in(run.ConversationID), func(t *webtrigger.NewTrigger) {
				t.Input.Subject, t.Input.Metadata = "Another", json.RawMessage(`{"v":2}`)
			})
			after, err := b.store.Conversation(b.ctx, run.ConversationID)
			b.NoError(err)
			b.Equal(before, after)
		}},
		{"a run that joined has a message and a context of its own", func(b *rig) {
			first := b.accept(func(t *webtrigger.NewTrigger) { t.Input.Context = json.RawMessage(`{"n":1}`) })
			second := b.accept(in(first.ConversationID), saying("second"), func(t *webtrigger.NewTrigger) {
				t.Input.Context = json.RawMessage(`{"n":2}`)
			})
			input, err := b.store.RunInput(b.ctx, first.ID)
			b.NoError(err)
			b.Equal("Message", input.Message)
			b.exact(json.RawMessage(`{"n":1}`), input.Context)
			b.stop(first.ID, webtrigger.CancelStop(""))
			input = b.take(second.ID, long).Input
			b.Equal("second", input.Message)
			b.exact(json.RawMessage(`{"n":2}`), input.Context)
		}},
		{"an absent or foreign conversation is not joined and nothing is stored", func(b *rig) {
			run := b.accept()
			b.changesNothing(run.ID, func() {
				_, err := b.store.CreateTrigger(b.ctx, trigger(in(absent)))
				b.notFound(err)
				foreign := trigger(of(stranger), in(run.ConversationID), keyed("key", 1, long))
				_, err = b.store.CreateTrigger(b.ctx, foreign)
				b.notFound(err)
				_, err = b.store.RunByKey(b.ctx, foreign.RunKey)
				b.notFound(err)
				_, err = b.store.Replay(b.ctx, stranger, *foreign.Idempotency)
				b.notFound(err) // a rejected trigger uses no idempotency key
			})
		}},
		{"simultaneous triggers join one conversation without loss", func(b *rig) {
			first := b.accept()
			b.all(b.together(32, func(int) error {
				_, err := b.store.CreateTrigger(b.ctx, trigger(in(first.ConversationID)))
				return err
			}))
			page := b.page(webtrigger.EventQuery{ConversationID: first.ConversationID})
			b.Len(page.Events, 33)
			b.IsIncreasing(each(page.Events, eventID))
			b.Len(b.messages(first.ConversationID), 33)
		}},
	}
}

func takeRules() []rule {
	return []rule{
		{"a run claimed at creation is running, and run_started is its second event", func(b *rig) {
			accepted, err := b.store.CreateTrigger(b.ctx, trigger(taking(worker)))
			b.NoError(err)
			if accepted.Lease == nil {
				b.declined(accepted.Run)
				return
			}
			run := accepted.Run
			b.Equal(run, b.run(run.ID))
			b.Equal(webtrigger.RunRunning, run.Status)
			b.Equal(1, run.Attempts)
			b.False(run.StartedAt.Before(run.CreatedAt))
			b.Equal(run.ID, accepted.Lease.RunID)
			events := b.events(run)
			b.Len(events, 2)
			b.sameEvent(webtrigger.StartedEvent(1), events[1])
			b.holdsLog(run)
		}},
		{"a run taken at accept is not claimed, and its lease is good", func(b *rig) {
			accepted, err := b.store.CreateTrigger(b.ctx, trigger(taking(worker)))
			b.NoError(err)
			if accepted.Lease == nil {
				b.declined(accepted.Run)
				return
			}
			b.Empty(b.claim(10))
			b.append(*accepted.Lease, steps(1, 2))
			b.ends(completed("Done"), b.finish(*accepted.Lease, completed("Done")))
		}},
		{"a run taken at accept is swept with its process", func(b *rig) {
			processID := b.process(brief)
			accepted, err := b.store.CreateTrigger(b.ctx, trigger(taking(processID)))
			b.NoError(err)
			if accepted.Lease == nil {
				b.declined(accepted.Run)
				return
			}
			b.outlast(brief)
			b.Equal([]int64{accepted.Run.ID}, each(b.sweep(webtrigger.Sweep{}), runID))
			b.leaseLost(b.store.AppendEvents(b.ctx, *accepted.Lease, steps(1, 1)))
		}},
		{"a run that is not taken at accept waits to be claimed", func(b *rig) {
			accepted, err := b.store.CreateTrigger(b.ctx, trigger())
			b.NoError(err)
			b.Nil(accepted.Lease)
			b.declined(accepted.Run)
		}},
		{"a process that is not registered, or is lost, takes nothing at accept", func(b *rig) {
			lost := b.process(brief)
			b.take(b.accept().ID, brief)
			b.outlast(brief)
			b.Len(b.sweep(webtrigger.Sweep{}), 1)
			for _, processID := range []string{"absent", lost} {
				accepted, err := b.store.CreateTrigger(b.ctx, trigger(taking(processID)))
				b.NoError(err)
				b.Nil(accepted.Lease)
				b.declined(accepted.Run)
			}
		}},
		{"the token of a run taken at accept is the caller's, and the next claim has another", func(b *rig) {
			accepted, err := b.store.CreateTrigger(b.ctx, trigger(taking(worker)))
			b.NoError(err)
			if accepted.Lease == nil {
				b.declined(accepted.Run)
				return
			}
			b.requeue(*accepted.Lease)
			b.NotEqual(b.take(accepted.Run.ID, long).Lease.Token, accepted.Lease.Token)
		}},
	}
}

// declined holds a run that was not taken at accept to be as any queued one.
func (b *rig) declined(run webtrigger.Run) {
	b.t.Helper()
	b.Equal(webtrigger.RunQueued, run.Status)
	b.Zero(run.Attempts)
	b.True(run.StartedAt.IsZero())
	b.Equal([]webtrigger.EventType{webtrigger.EventRunQueued}, each(b.events(run), kind))
	b.Equal([]int64{run.ID}, each(b.claim(10), claimedID))
}
